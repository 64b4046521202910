# The accounts that cellnet runs with. Sourced by setup/run.
#   group cellnet: its members may read the agent's control socket
#   user cellnet-envoy: Envoy runs as this user, which owns nothing and cannot log in
# shellcheck shell=sh

accounts_there() { getent group cellnet >/dev/null && getent passwd cellnet-envoy >/dev/null; }

make_accounts() {
    if ! getent group cellnet >/dev/null; then
        say "making the system group cellnet"
        groupadd --system cellnet || fail "group cellnet could not be made" "see the line above"
    fi
    if ! getent passwd cellnet-envoy >/dev/null; then
        say "making the system user cellnet-envoy"
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin cellnet-envoy ||
            fail "user cellnet-envoy could not be made" "see the line above"
    fi
}
