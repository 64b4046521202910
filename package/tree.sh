# What is in the package, from the environment's layer to the .deb. Sourced by package/build.
# shellcheck shell=sh

# Run inside the release's root: our own code into the environment, the pages from it, and what an operator needs none of out of it.
OWN="$UV"'
    mkdir /package
    uv build --quiet --wheel --out-dir /package/wheel  # sync would take what its cache has, though the code is another by now
    uv --no-cache pip install --quiet --python /usr/lib/cellnet/bin/python --no-deps /package/wheel/*.whl
    cd /usr/lib/cellnet/bin
    for each in *; do
        case $each in python | python3 | python3.* | cellnet | cellnet-cni | cellnet-netavark | cellnet-oci-hook) ;; *) rm "$each" ;; esac
    done
    cd /
    cd /usr/lib/cellnet
    rm -f .lock .gitignore CACHEDIR.TAG  # a backup is to have it
    cd /
    python3 -m compileall -q -j 0 /usr/lib/cellnet/lib
    cd /mnt/checkout
    /usr/lib/cellnet/bin/python -B -m docs.pages.package /package
    find /usr/lib/cellnet -name "*.so*" -exec readelf -dV {} + >/package/needed
    readelf -dV /usr/lib/cellnet/lib/python3.*/site-packages/envoy/_bin/envoy >>/package/needed
    python3 -c "import sys; print(\"%d.%d\" % sys.version_info[:2]); print(\"%d.%d\" % (sys.version_info[0], sys.version_info[1] + 1))" >/package/python'

make_deb() {
    uv_there || make_uv
    say "building the package for $release"
    within "$environment:$tools:$base" "$work/own" "$OWN"
    tree=$work/tree
    mkdir -p "$tree/usr/lib"
    cp -al "$environment$PLACE" "$tree$PLACE"  # links: nothing below writes into a file
    find "$work/own$PLACE" -type c -printf '%P\n' -delete | while read -r gone; do rm -rf "$tree$PLACE/$gone"; done
    cp -a --remove-destination "$work/own$PLACE/." "$tree$PLACE/"
    lay_out
    mkdir -p "$folder"
    dpkg-deb --root-owner-group -Zzstd --build "$tree" "$folder/new" >>"$LOG" 2>&1 || fail "dpkg-deb refused what was laid out" "see $LOG"
    mv "$folder/new" "$deb"
    forget_older
}

put() {  # folder in the package, files
    mkdir -p "$tree$1"
    to=$tree$1
    shift
    for each in "$@"; do
        [ ! -e "$each" ] || install -m 644 "$each" "$to/"
    done
}

lay_out() {
    made=$work/own/package
    link /usr/bin/cellnet $PLACE/bin/cellnet
    link /usr/lib/cni/cellnet-cni $PLACE/bin/cellnet-cni
    link /usr/libexec/netavark/cellnet $PLACE/bin/cellnet-netavark
    link /usr/bin/cellnet-oci-hook $PLACE/bin/cellnet-oci-hook
    put /usr/share/containers/oci/hooks.d agent/cni/cellnet-hook.json
    put /etc/cellnet "$made/agent.yaml"
    mkdir -p "$tree/etc/cellnet/policies.d"
    put /usr/share/man/man1 "$made"/man/*.1
    put /usr/share/man/man5 "$made"/man/*.5
    find "$tree/usr/share/man" -type f -exec gzip -9n {} +
    put /usr/share/bash-completion/completions "$made/completion/cellnet"
    put /usr/share/zsh/vendor-completions "$made/completion/_cellnet"
    put /usr/share/fish/vendor_completions.d "$made/completion/cellnet.fish"
    put /usr/lib/systemd/system systemd/*.service systemd/*.target systemd/*.socket
    put /usr/lib/sysusers.d systemd/sysusers.d/*.conf
    put /usr/lib/tmpfiles.d systemd/tmpfiles.d/*.conf
    put /usr/share/doc/cellnet package/copyright README.md CHANGELOG.md SECURITY.md
    for each in docs docs/adr docs/monitor systemd vagrant; do
        put "/usr/share/doc/cellnet/$each" "$each"/*.md "$each"/*.svg "$each"/*.json "$each"/alerts.yaml
    done
    put /usr/share/doc/cellnet/examples agent/cni/cellnet.conflist
    rmdir --ignore-fail-on-non-empty "$tree"/usr/lib/systemd/system "$tree"/usr/lib/systemd "$tree"/usr/lib/sysusers.d "$tree"/usr/lib/tmpfiles.d
    describe
}

link() {  # place, what it leads to
    mkdir -p "$tree${1%/*}"
    ln -s "$2" "$tree$1"
}

describe() {  # DEBIAN: what dpkg goes by
    mkdir "$tree/DEBIAN"
    find "$tree/etc" -type f -printf '/%P\n' | sed 's,^/,/etc/,' >"$tree/DEBIAN/conffiles"
    (cd "$tree" && find usr -type f -exec md5sum {} +) >"$tree/DEBIAN/md5sums"
    for each in postinst prerm postrm; do
        sed "s/@UNITS@/$(units)/; s/@ENABLED@/$(enabled_units)/" "package/scripts/$each" >"$tree/DEBIAN/$each"
        chmod 755 "$tree/DEBIAN/$each"
    done
    sed "s/@VERSION@/$version/; s/@ARCHITECTURE@/$(dpkg --print-architecture)/; s/@SIZE@/$(du -sk "$tree" | cut -f 1)/; s/@DEPENDS@/$(depends)/" \
        package/control >"$tree/DEBIAN/control"
}

units() {  # what an upgrade starts anew and a removal stops
    (cd systemd 2>/dev/null && ls -- *.service *.target 2>/dev/null || :) | paste -sd ' '
}

enabled_units() {  # those that an administrator may enable
    grep -ls '^\[Install\]' systemd/*.service systemd/*.target | sed 's,.*/,,' | paste -sd ' '
}

depends() {  # the programs of package/depends.list, this Python and no other, the libraries that compiled parts name
    libc=$(grep -o 'GLIBC_[0-9.]*' "$work/own/package/needed" | sort -uV | sed -n '$s/GLIBC_//p')
    {
        echo "libc6 (>= $libc)"
        ! grep -q 'NEEDED.*libgcc_s' "$work/own/package/needed" || echo libgcc-s1
        ! grep -q 'NEEDED.*libstdc++' "$work/own/package/needed" || echo 'libstdc++6'
        sed 's/^/python3 (>= /; s/$/)/; 2s/>=/<</' "$work/own/package/python"
        sed 's/ *#.*//; /^$/d' package/depends.list
    } | paste -sd , | sed 's/,/, /g'
}

forget_older() {  # the last packages of a release are kept, and the layers of this one
    find "$state" -maxdepth 1 -name "$release-????????????" -printf '%T@ %p\n' | sort -rn | sed -n '5,$s/^[^ ]* //p' |
        while read -r each; do rm -rf --one-file-system "$each"; done
    find "$state" -maxdepth 1 \( -name "$release-tools-*" -o -name "$release-environment-*" \) ! -path "$tools" ! -path "$environment" \
        -exec rm -rf --one-file-system {} +
}
