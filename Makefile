# One word per need. Each target does its own set-up, in a .venv inside this tree.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Settings of the shell that calls make must not reach the demo or the tests.
# What is compiled is kept: the tests start hundreds of processes, which otherwise compile the program each.
CLEAN_ENV := env -u PYTHONDONTWRITEBYTECODE $$(env | sed -n 's/^\(LIFECYCLE_[A-Za-z0-9_]*\)=.*/-u \1/p')

.PHONY: help demo drills test simulate chaos mutants bench lint types contracts unit format schema settings constraints provider image pictures clean
.DEFAULT_GOAL := help

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(VENV)/.installed: pyproject.toml tests/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "This needs Python 3.11 or later; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "This Python has no venv; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) (once) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --require-hashes -r tests/constraints.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(VENV)/.installed  ## notices, a live run held to its plan, what became of it, and what the audit log says, on a made-up Leonardo
	@export PATH="$(CURDIR)/$(BIN):$$PATH" LIFECYCLE_AUTH=none LIFECYCLE_OUTPUT=table LIFECYCLE_NOTICE_PERIOD=PT0.1S; \
	unset $$(env | sed -n 's/^\(LIFECYCLE_[A-Za-z0-9_]*\)=.*/\1/p' | grep -v -e _AUTH -e _OUTPUT -e _PERIOD); \
	served=$$(mktemp); leo-lifecycle sandbox --port 0 --runtimes 120 > $$served & sandbox=$$!; \
	trap 'kill $$sandbox; rm -f $$served' EXIT; \
	until grep -q http $$served; do kill -0 $$sandbox || exit 1; sleep 0.1; done; cat $$served; \
	export LIFECYCLE_LEONARDO_URL=$$(grep -o 'http.*' $$served); export LIFECYCLE_NOTICE_URL=$$LIFECYCLE_LEONARDO_URL/notices; \
	leo() { printf '\n$$ leo-lifecycle %s\n' "$$*"; leo-lifecycle "$$@"; }; \
	demo=audit/demo-$$(date +%Y%m%dT%H%M%S) && mkdir -p $$demo && cd $$demo && echo "in $$demo:" && \
	leo delete-old-runtimes && \
	leo notify-owners --no-dry-run && \
	leo delete-old-runtimes && plan=$$(ls -t audit/* | head -1) && \
	leo delete-old-runtimes --no-dry-run --plan $$plan && \
	printf '\n$$ sleep 5   # in which the deletions end\n' && sleep 5 && \
	leo confirm-deletions --from audit && \
	leo check-disks && \
	leo review-audit-log promise --from audit --output table && \
	leo review-audit-log verify --from audit --output table && \
	leo review-audit-log report --html report.html --from audit

drills: $(VENV)/.installed  ## lay out ten alerts for practice, each with its text and the audit log behind it (deploy/RUNBOOK.md)
	@$(CLEAN_ENV) $(BIN)/python -m tests.drills

test: $(VENV)/.installed  ## lint, types, import contracts and tests, beside one another
	@$(MAKE) --no-print-directory --jobs lint types contracts unit

lint: $(VENV)/.installed
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(VENV)/.installed
	@$(BIN)/mypy

contracts: $(VENV)/.installed
	@$(BIN)/lint-imports

unit: $(VENV)/.installed
	@$(CLEAN_ENV) $(BIN)/pytest --durations=20

simulate: $(VENV)/.installed  ## live the real program through a made-up world without sockets, from one number: SEED=, and RUNS= or SECONDS=
	@$(CLEAN_ENV) SEED=$(SEED) RUNS=$(RUNS) SECONDS=$(SECONDS) $(BIN)/python -m tests.lives

chaos: $(VENV)/.installed  ## break the program on purpose, everywhere, by every cell of every test: takes many minutes
	@$(CLEAN_ENV) $(BIN)/pytest --no-cov -n 4 --as-processes --hypothesis-profile=chaos -m "chaos or not chaos"
	@$(MAKE) --no-print-directory mutants

$(VENV)/.mutmut: $(VENV)/.installed tests/mutants.constraints.txt
	@$(BIN)/pip install -qq --disable-pip-version-check --no-deps --require-hashes -r tests/mutants.constraints.txt
	@touch $@

mutants: $(VENV)/.mutmut  ## change the rules, the review and the comparison in every small way: a test must notice (minutes; part of chaos)
	@$(CLEAN_ENV) $(BIN)/python -m tests.mutants

bench: $(VENV)/.installed  ## measure, beside floors on the same machine
	@$(CLEAN_ENV) $(BIN)/python -m benchmarks

format: $(VENV)/.installed  ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

schema: $(VENV)/.installed  ## write the JSON Schemas of the records and of the answers from their definitions
	@$(BIN)/python -c 'import json; from core.records.events import schema; print(json.dumps(schema(), indent=2))' > core/records/audit.schema.json
	@$(BIN)/python -m core.review.schema > core/review/answers.schema.json

settings: $(VENV)/.installed  ## write core/settings/README.md from the settings' definition
	@$(BIN)/python -m core.settings.reference > core/settings/README.md

constraints: $(VENV)/.installed  ## resolve the constraints of tests, mutants, image and its build anew, for every platform
	@$(BIN)/pip install --quiet uv
	@compile="$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header"; \
	$$compile --all-extras --upgrade pyproject.toml -o tests/constraints.txt && \
	$$compile --constraint tests/constraints.txt --upgrade --group mutants -o tests/mutants.constraints.txt && \
	$$compile --constraint tests/constraints.txt --upgrade pyproject.toml -o deploy/constraints.txt && \
	echo hatchling | $$compile --constraint tests/constraints.txt --upgrade - -o deploy/build.constraints.txt

provider: $(VENV)/.installed  ## write deploy/terraform/provider.schema.json from the provider's published schema
	@there=$$(mktemp -d) && trap "rm -rf $$there" EXIT && \
	npm pack --silent --pack-destination $$there @cdktf/provider-google@16.12.1 > $$there/name && \
	$(BIN)/python deploy/terraform/provider_schema.py $$there/*.tgz

image: $(VENV)/.installed  ## build the image from Debian's packages and try it (as root; needs buildah and mmdebstrap; minutes)
	@$(CLEAN_ENV) $(BIN)/pytest --no-cov -n 0 -rs -m "chaos or not chaos" tests/test_image.py

pictures: $(VENV)/.installed  ## draw the README's pictures anew (needs chromium)
	@$(CLEAN_ENV) $(BIN)/python .readme/pictures.py

clean:  ## remove everything that make made
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .coverage audit drills dist mutants benchmarks/.peers
