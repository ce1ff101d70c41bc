# make setup   a .venv with everything in it; does nothing the second time
# make demo    the whole product on a corpus made on the spot: Airflow, MLflow, DVC, a served model
# make test    all tests, the slow end-to-end ones included
# make check   lint, types, layers, dvc.yaml as rendered
# make bench   benchmarks; docs/benchmarks.md has their results
# make lock    resolve constraints.txt anew
# make images      the Docker images; for GPUs: make images ACCELERATOR=gpu
# make stack-up    the production stack of docker/compose.yaml; WORKERS=4 for more workers
# make stack-down  its end; data stays in its volumes
# make test-stack  build the images, run the stack on real recordings, kill workers, check that nothing is lost

.DEFAULT_GOAL := help
.PHONY: help setup demo test check bench bench-models lock images stack-up stack-down test-stack
SHELL := /bin/sh

# The first interpreter of 3.11 to 3.13 that really runs.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
export PATH := $(CURDIR)/$(BIN):$(PATH)

help:
	@sed -n 's/^# make/make/p' $(MAKEFILE_LIST)

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "audioml needs Python 3.11, 3.12 or 3.13 on the PATH; found: $$(python3 --version 2>&1)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@

demo: setup
	$(BIN)/audioml demo

# A worker a core, four at most: each may have a stack of servers and a training in memory. The tests of a file share
# fixtures, and so a worker.
test: setup
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/audioml render --check

bench: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,bench]"
	@for b in benchmarks/bench_*.py; do echo "== $$b"; $(BIN)/python $$b || exit 1; done

bench-models: setup
	$(BIN)/python benchmarks/leaderboard.py

lock: setup
	$(BIN)/pip install --quiet uv
	$(BIN)/uv pip compile --universal --no-header --no-annotate --python-version 3.11 --all-extras --upgrade -o constraints.txt pyproject.toml

DOCKER ?= docker
# Compose as a plug-in of Docker, or the program of its own that came before.
COMPOSE ?= $(shell $(DOCKER) compose version >/dev/null 2>&1 && echo $(DOCKER) compose || echo docker-compose)
STACK = $(COMPOSE) --env-file docker/.env -f docker/compose.yaml
TAG ?= $(shell sed -n 's/^AUDIOML_TAG=//p' docker/.env 2>/dev/null | grep . || echo 0.1.0)
ACCELERATOR ?= cpu
# Where pip finds torch without CUDA; empty takes its default index.
TORCH_INDEX ?=
# Builds install packages; where only the host's network reaches them: host.
BUILD_NETWORK ?= default
WORKERS ?= 2

images:
	@for target in airflow server worker; do \
		DOCKER_BUILDKIT=1 $(DOCKER) build --network $(BUILD_NETWORK) --target $$target --tag audioml-$$target:$(TAG) \
			--build-arg ACCELERATOR=$(ACCELERATOR) --build-arg TORCH_INDEX=$(TORCH_INDEX) -f docker/Dockerfile . || exit 1; \
	done

stack-up: images
	docker/make-env
	$(STACK) up --detach --scale worker=$(WORKERS)

stack-down:
	$(STACK) --profile gpu down

test-stack: setup images
	DOCKER="$(DOCKER)" COMPOSE="$(COMPOSE)" AUDIOML_TAG=$(TAG) $(BIN)/python -m pytest docker/test_stack.py --timeout 3600 -s
