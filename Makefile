# Two commands matter: `sudo make demo` and `sudo make test`. Every target first sets up what it needs and this host lacks.
.DEFAULT_GOAL := help
.PHONY: help setup demo lab test test-release check bench deb clean
MAKEFLAGS += --no-print-directory
export MAKE_TARGET = $@

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## install what cellnet needs and this host lacks (root): Debian packages, .venv, a group, a user
	@setup/run

demo: ## the main job on the real kernel, step by step (root)
	@setup/run demo
	@.venv/bin/cellnet lab demo --cells 1

lab: ## the same across three cells that share an etcd, step by step (root)
	@setup/run demo lab
	@.venv/bin/cellnet lab demo

# Where make runs in the background or under nohup, signals are ignored, and would be in everything that a test starts.
test: ## all tests, kernel tests and checks included (root); make test ARGS='-k policy' for some
	@setup/run test check bench release machines deb
	@env --default-signal .venv/bin/pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS); \
	code=$$?; [ $$code -eq 1 ] || exit $$code; \
	echo 'what failed beside others is run again by itself; both runs are to be read'; \
	exec env --default-signal .venv/bin/pytest --last-failed --last-failed-no-failures none $(ARGS)

# All of the above, on a machine that has nothing but what the set-up brings; what came of it stands in docs/kernels.md.
test-release: ## all tests on a fresh machine of a Debian release (root); make test-release RELEASE=trixie
	@setup/run release
	@SETUP='test check bench release machines deb' setup/release '$(RELEASE)' \
		"sudo make test ARGS='--deselect tests/repository/test_release.py $(ARGS)'"

check: ## lint, types, layers and sizes; nothing is run
	@setup/run check
	@setup/check

bench: ## the numbers of docs/performance.md, measured here (root); make bench ARGS='--rounds 20' for a short look
	@setup/run bench
	@for script in bench/bench_*.py; do .venv/bin/python -m "bench.$$(basename "$$script" .py)" $(ARGS) || exit 1; done

deb: ## a package for Debian 12 and one for 13, in .setup/deb (root)
	@setup/run deb
	@for release in bookworm trixie; do package/build $$release || exit 1; done

clean: ## remove what setup and the tests made in this folder; the host's packages and accounts stay
	@rm -rf --one-file-system .venv .setup .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
