# make setup   a .venv with everything in it; does nothing the second time
# make demo    the whole product on a corpus made on the spot: Airflow, MLflow, DVC, a served model
# make test    all tests, the slow end-to-end ones included
# make check   lint, types, layers, dvc.yaml as rendered
# make bench   benchmarks; docs/benchmarks.md has their results
# make lock    resolve constraints.txt anew

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench lock
SHELL := /bin/sh

# The first interpreter of 3.11 to 3.13 that really runs.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:
	@sed -n 's/^# //p' $(MAKEFILE_LIST)

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "audioml needs Python 3.11, 3.12 or 3.13 on the PATH; found: $$(python3 --version 2>&1)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/audioml demo

test: setup
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/audioml render --check

bench: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,bench]"
	@for b in benchmarks/bench_*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

lock: setup
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --no-header --no-annotate --python-version 3.11 --all-extras --upgrade -o constraints.txt pyproject.toml
