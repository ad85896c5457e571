# What a newcomer needs is `make run`; what a change needs is `make check` and `make test`. All of them set up what they need.
.DEFAULT_GOAL := help
.PHONY: help setup compiled run test coverage test-smoke bench check docs clean

UV := uv==0.13.9
VENV := .venv
STAMP := $(VENV)/.horo-setup
# Test processes side by side, more than cores, for they wait half of their time; each has servers of its own.
WORKERS ?= 4
# For another Python than the first suitable one: make PYTHON=/path/to/python3.12
PYTHON ?=
# Nothing is fetched, and nothing kept from the last time, for warnings are told but once.
SITE := $(VENV)/bin/sphinx-build -q -E -n -W --keep-going -b html docs docs/_build/html
# Debian keeps a part of Python that `venv` needs in a package of its own.
VENV_PACKAGE := python3-venv

help:
	@echo "make run         set up what is needed and start Horo on this machine, with a demo domain (Ctrl-C ends it)"
	@echo "make test        the whole test suite, on real servers: containers where a Docker engine can be had, else binaries"
	@echo "make coverage    the same, and which lines no test runs (a third slower)"
	@echo "make test-smoke  the small set of tests, on the servers' own binaries"
	@echo "make bench       measure Horo beside Postfix and Mailman on this machine, and write docs/benchmarks.md (half an hour at least)"
	@echo "make check       format, lint, types, import rules, reference pages, the documentation"
	@echo "make docs        the documentation as a site, in docs/_build/html"
	@echo "make setup       just the environment: $(VENV), with $(VENV)/bin/horo in it"
	@echo "make clean       remove the environment and all caches (never your data in ./var)"

setup: $(STAMP)

$(STAMP): pyproject.toml uv.lock
	@set -eu; \
	if [ ! -x $(VENV)/bin/pip ]; then \
		for python in $(PYTHON) python3 python3.13 python3.12 python3.11 none; do \
			$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && break; \
		done; \
		if [ $$python = none ]; then \
			echo "Horo needs Python 3.11, 3.12 or 3.13; this machine has $$(python3 --version 2>/dev/null || echo none)." >&2; \
			echo "Install one (Debian: apt-get install python3 $(VENV_PACKAGE)), or say where it is: make PYTHON=/path/to/python3.11" >&2; \
			exit 1; \
		fi; \
		if ! $$python -c 'import ensurepip, venv' 2>/dev/null; then \
			if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
				echo "This Python cannot make environments: install its venv module (Debian: apt-get install $(VENV_PACKAGE))." >&2; \
				exit 1; \
			fi; \
			apt-get install -y -qq $(VENV_PACKAGE) >/dev/null 2>&1 || { apt-get update -qq && apt-get install -y -qq $(VENV_PACKAGE) >/dev/null; }; \
		fi; \
		echo "Setting up $(VENV) with $$($$python --version) ..."; \
		$$python -m venv $(VENV); \
	fi; \
	$(VENV)/bin/pip install --quiet --disable-pip-version-check "$(UV)"; \
	echo "Installing the packages of uv.lock ..."; \
	env -u VIRTUAL_ENV $(VENV)/bin/uv sync --quiet --frozen --inexact --compile-bytecode --group dev --python $(VENV)/bin/python; \
	touch $(STAMP)

run: setup compiled
	@exec $(VENV)/bin/horo up --demo

# Real processes start in a third of the time when Horo's own modules are compiled.
compiled:
	@$(VENV)/bin/python -m compileall -q shared services cli tests/support

test: setup compiled
	@$(VENV)/bin/pytest -n $(WORKERS)

# A third slower: tells which lines no test runs.
coverage: setup compiled
	@$(VENV)/bin/pytest -n $(WORKERS) --cov --cov-report=term:skip-covered

test-smoke: setup compiled
	@TEST_SERVERS=binaries $(VENV)/bin/pytest -n $(WORKERS) -m smoke

# `make bench ARGS="--only many --systems cluster,postfix"` for a part of it.
bench: setup compiled
	@env -u VIRTUAL_ENV $(VENV)/bin/uv sync --quiet --frozen --inexact --group dev --group bench --python $(VENV)/bin/python
	@$(VENV)/bin/python -m bench $(ARGS)

check: setup
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo
	@$(VENV)/bin/python -m cli.reference --check
	@$(SITE)

# The documentation as a site, in docs/_build/html. A warning is an error: a link that leads nowhere, a page that no other names.
docs: setup
	@$(SITE)
	@echo "docs/_build/html/index.html"

clean:
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov dist docs/_build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
