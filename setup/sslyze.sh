# The TLS scanner of the tests in an environment of its own, .setup/sslyze, exactly as setup/sslyze.txt says. Sourced by setup/run.
# .setup/sslyze/.cellnet says what it was made from, and is written last.
# shellcheck shell=sh

SSLYZE=.setup/sslyze

sslyze_inputs() {  # a moved checkout and another Python count too, as for .venv
    { cat setup/sslyze.txt; pwd; readlink -f "$PYTHON"; } | sha256sum
}

sslyze_current() {  # purposes: nothing but the tests needs it
    case " $1 " in *" test "*) ;; *) return 0 ;; esac
    [ -x "$SSLYZE/bin/sslyze" ] && [ "$(sslyze_inputs)" = "$(cat "$SSLYZE/.cellnet" 2>/dev/null)" ]
}

make_sslyze() {
    say "installing the tests' TLS scanner into $SSLYZE"
    inputs=$(sslyze_inputs)
    rm -rf "$SSLYZE"
    if ! { uv venv "$SSLYZE" && uv pip install --python "$SSLYZE/bin/python" --no-deps --require-hashes --compile-bytecode \
        --only-binary :all: --no-binary sslyze --build-constraints setup/sslyze.txt -r setup/sslyze.txt; }; then
        tail -n 15 "$LOG" >&2
        fail "uv could not install what setup/sslyze.txt names" \
            "see its last lines above (all of them: $LOG); is there a network? Behind a proxy: sudo -E make test, with HTTPS_PROXY set"
    fi
    printf '%s\n' "$inputs" >"$SSLYZE/.cellnet"
}
