# geoae: every verb sets up what it needs in .venv, through constraints.txt.
#
# PYTHON chooses the interpreter that makes .venv; without it the first of the list below that works.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --progress-bar off -c constraints.txt
# Tests of one file share what is dear to make, so a file stays on one worker.
WORKERS ?= 2
PYTEST_ARGS ?=
KILLS ?= 1000
SEED ?= 0
STUDY ?= small

.PHONY: help demo test check docs bench soak study clean lint types tests debian

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## write a synthetic US3D folder and run the whole way on it, into demo/
	$(BIN)/geoae demo

test: debian lint types tests docs ## everything that must pass: lint, types, tests, wheel, documentation

check: lint types ## the quick part of `make test`: lint, types and the tests that are not slow
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(PYTEST_ARGS)

docs: $(VENV)/.installed-dev ## build the documentation into docs/_build/html, warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "Documentation: docs/_build/html/index.html"

bench: $(VENV)/.installed-dev ## the table of benchmarks, each figure beside its floor or its peer
	$(BIN)/python -m benchmarks

soak: $(VENV)/.installed-dev ## kill commands 1,000 times at random and compare all bytes, about half an hour (KILLS=n, SEED=n)
	$(BIN)/python tests/soak.py --kills $(KILLS) --seed $(SEED)

study: $(VENV)/.installed-dev ## the documents' experiments and claims, into docs/study.md; STUDY=small or full
	$(BIN)/python -m studies --size $(STUDY)

clean: ## remove what was built and what the demo wrote (.venv stays)
	rm -rf build dist demo bench study docs/_build docs/_generated docs/jupyter_execute \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks

# --- parts of the above ---------------------------------------------------------------------------

lint: $(VENV)/.installed-dev
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check

types: $(VENV)/.installed-dev
	$(BIN)/python -m mypy geoae plugins

tests: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_ARGS)

# Programs that some tests compare with; says so and goes on where it cannot install them.
debian:
	@bash scripts/debian-packages.sh

# --- setting up -----------------------------------------------------------------------------------
# A stamp is written last, so an installation that was interrupted is taken up again. Building without
# isolation keeps the build backend pinned, too.

$(VENV)/.created:
	@python=$${PYTHON:-}; \
	for candidate in $${python:-python3.11 python3.12 python3.13 python3}; do \
	  if "$$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	  then python=$$candidate; break; else python=; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "No Python 3.11 or newer with venv and ensurepip was found (on Debian: apt-get install python3-venv;" >&2; \
	  echo "else name one: make PYTHON=/path/to/python3.11)." >&2; exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$$python" --version)"; \
	"$$python" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing geoae and torch (two to four minutes the first time)"
	@$(PIP_INSTALL) hatchling
	@# The demo trains a VAE. torch first and pinned by the constraints: the build for processors alone where it is
	@# at hand, and no package that asks for a newer one brings gigabytes of CUDA with it.
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) --no-build-isolation -e ".[torch]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.created pyproject.toml constraints.txt
	@echo "Installing geoae and what developing it needs (two to five minutes the first time)"
	@$(PIP_INSTALL) hatchling
	@# torch first and pinned: a package that asks for a newer one would bring gigabytes of CUDA with it.
	@$(PIP_INSTALL) torch
	@$(PIP_INSTALL) --no-build-isolation -e ".[torch,dev,docs]"
	@touch $@ $(VENV)/.installed
