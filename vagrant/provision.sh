#!/bin/sh
# Makes cells of three machines, in two steps that the Vagrantfile and the tests call, as root on the machine itself:
#   provision.sh software   on each: cellnet, from the package or from the checkout, and what smoke.sh needs
#   provision.sh cells      on the first, last: etcd, the root, each cell's files, start (cells.sh)
# SERVERS has a line `NAME ADDRESS` for each machine, the first one's first. PUBLIC_KEY lets root of the first in, who has PRIVATE_KEY.
# What is there already stays, so both may be run again.
set -eu
umask 022
here=$(cd "$(dirname "$0")" && pwd)
[ -e "$here/cells.sh" ] || here=/cellnet/vagrant # Vagrant runs a copy, in /tmp
PACKAGE=/tmp/cellnet.deb
SOURCE=/cellnet
FOLDER=/opt/cellnet

doing='nothing yet'
step() {  # what follows
    doing=$1
    printf 'provision: %s: %s\n' "$(hostname)" "$1" >&2
}
ended() {
    [ "$1" = 0 ] || printf 'error: %s: failed at "%s"; hint: the lines above say why; after that, provision again\n' "$(hostname)" "$doing" >&2
}
trap 'ended $?' EXIT

acquaint() {
    step 'names and keys of the cells'
    echo "$SERVERS" | while read -r name address; do
        grep -q "^$address $name\$" /etc/hosts || echo "$address $name" >>/etc/hosts
    done
    install -d -m 700 /root/.ssh
    touch /root/.ssh/authorized_keys
    grep -qxF "$PUBLIC_KEY" /root/.ssh/authorized_keys || echo "$PUBLIC_KEY" >>/root/.ssh/authorized_keys
    [ -n "${PRIVATE_KEY:-}" ] || return 0
    install -m 600 /dev/null /root/.ssh/id_ed25519
    echo "$PRIVATE_KEY" >/root/.ssh/id_ed25519
    printf 'BatchMode yes\nStrictHostKeyChecking accept-new\n' >/root/.ssh/config
}

debian_packages() {  # packages
    missing=''
    for package; do
        dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    step "Debian packages:$missing"
    apt-get update -q
    # shellcheck disable=SC2086 # one word for each package
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
}

from_package() {
    step 'cellnet from its package'
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y -o Dpkg::Options::=--force-confold "$PACKAGE"
}

from_source() {
    step "cellnet from source, into $FOLDER"
    install -d "$FOLDER"
    cp -a "$SOURCE/." "$FOLDER/"
    chown -R root: "$FOLDER"
    cd "$FOLDER"
    install -D -m 644 -t /usr/lib/sysusers.d systemd/sysusers.d/*.conf
    install -D -m 644 -t /usr/lib/tmpfiles.d systemd/tmpfiles.d/*.conf
    systemd-sysusers
    setup/run
    for program in cellnet cellnet-cni cellnet-netavark; do
        ln -sf "$FOLDER/.venv/bin/$program" "/usr/bin/$program"
    done
    install -d -m 755 /etc/cellnet /etc/cellnet/policies.d
    install -m 644 -t /etc/systemd/system systemd/*.target systemd/*.service
    systemd-tmpfiles --create
    systemctl daemon-reload
}

case ${1:-} in
    software)
        acquaint
        debian_packages curl openssl tcpdump iptables
        if [ -e "$PACKAGE" ]; then
            from_package
        elif ! command -v cellnet >/dev/null; then
            from_source
        fi
        step "has $(cellnet --version)"
        ;;
    cells)
        debian_packages etcd-server etcd-client
        . "$here/cells.sh"
        ;;
    *)
        echo "error: '${1:-}' is no step; hint: provision.sh software|cells" >&2
        exit 2
        ;;
esac
