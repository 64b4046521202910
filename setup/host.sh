# Is this a host that cellnet can be set up on? Sourced by setup/run.
# shellcheck shell=sh disable=SC1091

check_purposes() {  # words
    for purpose in $1; do
        case $purpose in
            cellnet | demo | lab | test | check | bench | release | machines | deb) ;;
            *) fail "'$purpose' is nothing that setup knows" "use demo, lab, test, check, bench, release, machines or deb" ;;
        esac
    done
}

check_debian() {
    [ "$(uname -s)" = Linux ] || fail "cellnet runs on Linux, this is $(uname -s)" "use a Debian 12 machine"
    if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
        fail "this host has no dpkg and apt-get" "use Debian 12 or newer"
    fi
    ID='' VERSION_ID='' PRETTY_NAME='an unnamed system'
    if [ -r /etc/os-release ]; then
        . /etc/os-release
    fi
    # Testing and unstable have no VERSION_ID; a derivative counts in its own way and is left to its luck.
    if [ "$ID" = debian ] && [ "${VERSION_ID:-12}" -lt 12 ]; then
        fail "this is $PRETTY_NAME" "use Debian 12 or newer: cellnet needs Python 3.11"
    fi
}
