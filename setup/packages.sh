# Debian packages: what is missing, and installing it without starting a service. Sourced by setup/run.
# shellcheck shell=sh

POLICY=/usr/sbin/policy-rc.d                # asked by every package before it starts a service; 101 means no
SAVED=/usr/sbin/policy-rc.d.before-cellnet
ETC=/etc

missing_packages() {  # purposes -> the packages that are not installed, on one line
    wanted=$(while read -r package purpose _; do
        case " $1 " in *" $purpose "*) [ "$package" = '#' ] || echo "$package" ;; esac
    done <setup/packages.list | sort -u)
    # shellcheck disable=SC2086 # one word for each package
    installed=$(dpkg-query -W -f '${Package} ${db:Status-Status}\n' $wanted 2>/dev/null | sort -u || true)
    for package in $wanted; do
        case "
$installed
" in *"
$package installed
"*) ;; *) printf '%s ' "$package" ;; esac
    done
}

packages_forbid_services() {
    packages_restore
    if [ -e "$POLICY" ] || [ -L "$POLICY" ]; then
        mv "$POLICY" "$SAVED"
    fi
    printf '#!/bin/sh\n# cellnet setup: no service starts while packages are installed; gone when setup ends\nexit 101\n' \
        >"$POLICY.new"
    chmod 755 "$POLICY.new"
    mv "$POLICY.new" "$POLICY"
}

packages_restore() {  # also mends what a killed setup left: our file is known by its second line
    if [ -f "$POLICY" ] && [ "$(sed -n '2s/:.*//p' "$POLICY")" = '# cellnet setup' ]; then
        rm "$POLICY"
    fi
    if { [ -e "$SAVED" ] || [ -L "$SAVED" ]; } && [ ! -e "$POLICY" ] && [ ! -L "$POLICY" ]; then
        mv "$SAVED" "$POLICY"
    fi
}

started_at_boot() {  # links of systemd's targets and of the run levels
    find "$ETC/systemd/system" -path '*.wants/*' 2>/dev/null || true
    find "$ETC" -path "$ETC/rc[2-5].d/S*" 2>/dev/null || true
}

keep_from_boot() {  # links that were there before -> what has come since is disabled, as an administrator would
    started_at_boot | while read -r link; do
        case "
$1
" in *"
$link
"*) continue ;; esac
        case $link in
            */rc[2-5].d/S*) mv "$link" "${link%/S*}/K${link##*/S}" ;;  # as update-rc.d does it
            *) rm "$link" ;;                                           # as systemctl does it
        esac
    done
}

apt() {  # waits for a host that is still upgrading itself; answers no question; restarts nothing
    DEBIAN_FRONTEND=noninteractive APT_LISTCHANGES_FRONTEND=none NEEDRESTART_SUSPEND=1 \
        apt-get -y -o DPkg::Lock::Timeout=300 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        "$@" </dev/null >>"$LOG" 2>&1
}

install_packages() {  # packages
    say "installing Debian packages: $1"
    packages_forbid_services
    before=$(started_at_boot)
    apt update || say "apt-get update failed, trying with the package lists that are there"
    # shellcheck disable=SC2086 # one word for each package
    if ! apt install --no-install-recommends $1; then
        keep_from_boot "$before"
        packages_restore
        tail -n 15 "$LOG" >&2
        if grep -q 'dpkg was interrupted' "$LOG"; then
            fail "an earlier installation on this host was interrupted" "run: sudo dpkg --configure -a, then this again"
        fi
        fail "apt-get could not install $1" "see its last lines above (all of them: $LOG); is there a network?"
    fi
    keep_from_boot "$before"
    packages_restore
}
