# One word per need. Each target does its own set-up, in a .venv inside this tree.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Settings of the shell that calls make must not reach the demo or the tests.
CLEAN_ENV := env $$(env | sed -n 's/^\(LIFECYCLE_[A-Za-z0-9_]*\)=.*/-u \1/p')

.PHONY: help demo test bench lint types contracts unit format schema constraints clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(VENV)/.installed: pyproject.toml tests/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "This needs Python 3.11 or later; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --require-hashes -r tests/constraints.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.installed  ## a dry run, then a live run, against a made-up Leonardo on loopback
	@port=$$(mktemp); $(CLEAN_ENV) $(BIN)/leo-lifecycle sandbox --port 0 --runtimes 120 > $$port & sandbox=$$!; \
	trap 'kill $$sandbox; rm -f $$port' EXIT; \
	until grep -q http $$port; do kill -0 $$sandbox || exit 1; sleep 0.1; done; cat $$port; \
	job="$(CLEAN_ENV) $(BIN)/leo-lifecycle delete-old-runtimes --auth none --output table --leonardo-url $$(grep -o 'http.*' $$port)"; \
	printf '\n$$ leo-lifecycle delete-old-runtimes\n'; $$job && \
	printf '\n$$ leo-lifecycle delete-old-runtimes --no-dry-run\n'; $$job --no-dry-run

test: lint types contracts unit  ## lint, types, import contracts and tests

lint: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed
	@$(BIN)/mypy

contracts: $(VENV)/.installed
	@$(BIN)/lint-imports

unit: $(VENV)/.installed
	@$(CLEAN_ENV) $(BIN)/pytest

bench: $(VENV)/.installed  ## measure, beside floors on the same machine
	@$(BIN)/python benchmarks/autopause.py

format: $(VENV)/.installed  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schema: $(VENV)/.installed  ## write core/records/audit.schema.json from the records' definition
	@$(BIN)/python -c 'import json; from core.records.events import schema; print(json.dumps(schema(), indent=2))' > core/records/audit.schema.json

constraints: $(VENV)/.installed  ## resolve tests/constraints.txt anew, for every platform
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --all-extras --upgrade pyproject.toml -o tests/constraints.txt

clean:  ## remove everything that make made
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage audit dist
