# The Python environment .venv, exactly as uv.lock says. Sourced by setup/run.
# .venv/.cellnet says what was installed (agent/cni/*.py are copied): one line for the inputs, one for the dependency groups. It is written last.
# .setup/unfinished is there while .venv is being made: its contents are not to be trusted then.
# shellcheck shell=sh

PYTHON=/usr/bin/python3                     # not the first python3 in PATH: pyenv's or a venv's may go tomorrow
STAMP=.venv/.cellnet

venv_inputs() {  # a moved checkout and another Python count too: both are written all over .venv
    { cat pyproject.toml uv.lock setup/uv.txt agent/cni/*.py; pwd; readlink -f "$PYTHON"; } | sha256sum
}

venv_stamp() {  # inputs, groups
    printf '%s\n%s\n' "$1" "$2"
}

venv_groups() {  # purposes -> those that are dependency groups, and those that an earlier setup was asked for
    before=$(sed -n 2p "$STAMP" 2>/dev/null || true)
    groups=''
    case " $1 $before " in *" test "* | *" check "*) groups='test ' ;; esac  # types of tests are checked too
    case " $1 $before " in *" check "*) groups="${groups}check " ;; esac
    printf '%s' "$groups"
}

venv_current() {  # purposes
    [ ! -e .setup/unfinished ] && [ -x .venv/bin/cellnet ] &&
        [ "$(venv_stamp "$(venv_inputs)" "$(venv_groups "$1")")" = "$(cat "$STAMP" 2>/dev/null)" ]
}

venv_fit() {  # made here, whole, with this Python
    [ ! -e .setup/unfinished ] && [ -x .venv/bin/python ] &&
        [ "$(.venv/bin/python -IS -c 'import sys; print(sys.prefix, sys.version_info[:2])' 2>/dev/null)" = \
            "$(pwd)/.venv $("$PYTHON" -IS -c 'import sys; print(sys.version_info[:2])')" ] &&
        { [ ! -e .venv/bin/cellnet ] || [ "$(sed -n '1s/^#!//p' .venv/bin/cellnet)" = "$(pwd)/.venv/bin/python" ]; }
}

uv_there() { cmp -s setup/uv.txt .setup/uv/uv.txt && [ -x .setup/uv/bin/uv ]; }

make_uv() {
    say "fetching uv"
    rm -rf .setup/uv
    "$PYTHON" -m venv .setup/uv >>"$LOG" 2>&1 ||
        fail "python3 -m venv failed, see $LOG" "apt-get install --reinstall python3-venv"
    if ! .setup/uv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
        --only-binary :all: --require-hashes -r setup/uv.txt >>"$LOG" 2>&1; then
        tail -n 5 "$LOG" >&2
        fail "uv could not be fetched from PyPI" "is there a network? Behind a proxy: sudo -E make setup, with HTTPS_PROXY set"
    fi
    cp setup/uv.txt .setup/uv/uv.txt
}

uv() {  # its cache is ours too, so that nothing of root's lands in the caller's home
    uv_there || make_uv
    UV_CACHE_DIR=$(pwd)/.setup/cache UV_PYTHON_DOWNLOADS=never UV_PYTHON=$PYTHON UV_PROJECT_ENVIRONMENT=.venv \
        .setup/uv/bin/uv --quiet "$@" >>"$LOG" 2>&1
}

make_venv() {  # purposes
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$PYTHON is older than 3.11" "use Debian 12 or newer"
    groups=$(venv_groups "$1")
    inputs=$(venv_inputs)
    options=''
    for group in $groups; do options="$options --group $group"; done
    say "installing Python packages into .venv: cellnet $groups"
    if ! venv_fit; then
        rm -rf .venv
    fi
    : >.setup/unfinished
    # shellcheck disable=SC2086 # one word for each option
    if ! uv sync --frozen --compile-bytecode $options; then  # a user whom .venv does not belong to cannot write it later
        tail -n 15 "$LOG" >&2
        fail "uv could not install what uv.lock names" \
            "see its last lines above (all of them: $LOG); is there a network? Behind a proxy: sudo -E make setup"
    fi
    venv_stamp "$inputs" "$groups" >"$STAMP"
    rm .setup/unfinished
}
