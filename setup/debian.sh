# A bare system of a Debian release, made once, and this machine's ways to packages. Sourced by setup/release and setup/machines,
# which set `release` and `base`.
# shellcheck shell=sh

own=$(. /etc/os-release && echo "$VERSION_CODENAME")
mirrors() {  # RELEASE -> lines of sources.list, from where this machine has its packages
    apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' | sort -u |
        while read -r uri suite; do
            case $suite in "$own" | "$own-updates" | "$own-security") echo "deb $uri $1${suite#"$own"} main" ;; esac
        done
}

make_base() {  # sets up $base, the bare system of $release
    command -v debootstrap >/dev/null || fail "debootstrap is not installed" "run: sudo setup/run release"
    mirror=$(mirrors "$release" | sed -n "s/^deb \([^ ]*\) $release main\$/\1/p" | sed -n 1p)
    [ -n "$mirror" ] || fail "this machine names no mirror of Debian" "see /etc/apt/sources.list.d"
    for pause in 5 40 0; do  # a mirror fails now and then, and debootstrap asks it once
        rm -rf --one-file-system "$base.new"
        if debootstrap --variant=minbase --include=ca-certificates,git,make,python3,sudo "$release" "$base.new" "$mirror" \
            >"$base.log" 2>&1; then break; fi
        wget -nv -O /dev/null "$mirror/dists/$release/Release" >>"$base.log" 2>&1 || :  # debootstrap does not say why
        [ "$pause" != 0 ] ||
            { tail -n 5 "$base.log" >&2; fail "debootstrap could not make $release" "all it said is in $base.log"; }
        sleep "$pause"
    done
    rm -f "$base.new"/var/cache/apt/archives/*.deb
    mv "$base.new" "$base"
}

ways_to_packages() {  # ROOT -> of this machine it gets mirrors, certificates, resolver, settings of pip and uv
    system=$1
    rm -f "$system"/etc/apt/sources.list "$system"/etc/apt/sources.list.d/*
    mirrors "$release" >"$system/etc/apt/sources.list"
    for each in /etc/apt/apt.conf.d/* /etc/resolv.conf /etc/pip.conf /etc/uv/uv.toml; do
        case $each in *.conf.d/*[!0-9a-zA-Z_.-]*) continue ;; esac
        [ -f "$each" ] || continue
        mkdir -p "$system$(dirname "$each")"
        [ -e "$system$each" ] || cp -L "$each" "$system$each"
    done
    cp -L /etc/resolv.conf "$system/etc/resolv.conf"
    mkdir -p "$system/usr/local/share/ca-certificates"
    find /usr/local/share/ca-certificates -name '*.crt' -exec cp {} "$system/usr/local/share/ca-certificates/" \;
    chroot "$system" update-ca-certificates >/dev/null 2>&1
}
