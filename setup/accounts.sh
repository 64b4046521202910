# The accounts that cellnet runs with. Sourced by setup/run.
#   group cellnet: its members may read the agent's control socket
#   users cellnet-envoy, cellnet-dns and cellnet-hop: Envoy, dnsmasq and what asks the outside for names run as these, which own
#   nothing and cannot log in
# shellcheck shell=sh

USERS='cellnet-envoy cellnet-dns cellnet-hop'

accounts_there() {
    getent group cellnet >/dev/null || return 1
    for user in $USERS; do
        getent passwd "$user" >/dev/null || return 1
    done
}

make_accounts() {
    if ! getent group cellnet >/dev/null; then
        say "making the system group cellnet"
        groupadd --system cellnet || fail "group cellnet could not be made" "see the line above"
    fi
    for user in $USERS; do
        getent passwd "$user" >/dev/null && continue
        say "making the system user $user"
        useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user" ||
            fail "user $user could not be made" "see the line above"
    done
}
