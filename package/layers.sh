# Layers above the bare system of a release: a compiler, and the environment that uv.lock describes. Sourced by package/build.
# shellcheck shell=sh

# Runs in namespaces of its own: $1 are the folders below (the uppermost first), $2 the one that takes what is written, $3 the checkout,
# $4 a folder for mounts, $5 what is run in all that.
ENTER='
    mount -t tmpfs tmpfs "$4"
    mkdir -p "$2" "$2.work" "$4/root"
    mount -t overlay -o "lowerdir=$1,upperdir=$2,workdir=$2.work" overlay "$4/root"
    cd "$4/root"
    . "$3/setup/debian.sh"
    [ -e etc/cellnet-ways ] || { ways_to_packages "$4/root"; : >etc/cellnet-ways; }
    mount -t proc proc proc
    mount --rbind /dev dev
    mkdir -p mnt/checkout mnt/cache
    mount --bind -o ro "$3" mnt/checkout
    mkdir -p "$3/.setup/cache"
    mount --bind "$3/.setup/cache" mnt/cache
    export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
    exec chroot . sh -euc "$5"
'

within() {  # folders below, folder above, command
    mkdir -p "$work/mounts"
    unshare --mount --pid --fork --kill-child --propagation private \
        env release="$release" sh -euc "$ENTER" enter "$1" "$2" "$CHECKOUT" "$work/mounts" "$3" >>"$LOG" 2>&1 ||
        { tail -n 15 "$LOG" >&2; fail "what the package is made of could not be made" "see above; all it said is in $LOG"; }
    rm -rf --one-file-system "$2.work"
}

make_tools() {
    say "installing a compiler for $release"
    within "$base" "$work/tools" '
        apt-get update -q
        apt-get install -q -y --no-install-recommends binutils gcc libc6-dev python3-dev
        apt-get clean
        rm -rf /var/lib/apt/lists/*'
    mv "$work/tools" "$tools"
}

UV='
    export UV_CACHE_DIR=/mnt/cache UV_PYTHON_DOWNLOADS=never UV_PYTHON=/usr/bin/python3 UV_LINK_MODE=copy
    export UV_PROJECT_ENVIRONMENT=/usr/lib/cellnet UV_NO_PROGRESS=1
    cd /mnt/checkout
    uv() { .setup/uv/bin/uv "$@"; }'

make_environment() {
    uv_there || make_uv
    say "installing what uv.lock names for $release"
    within "$tools:$base" "$work/environment" "$UV
        uv sync --frozen --no-install-project
        cd /
        python3 -m compileall -q -j 0 /usr/lib/cellnet/lib"
    mv "$work/environment" "$environment"
}
