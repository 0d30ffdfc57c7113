# SPDX-License-Identifier: Apache-2.0
# People and CI use the same commands: see `make help`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# Every command is a process of its own, and without compiled modules it would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

ARGS ?=
WORKERS ?= 5
BIN := .venv/bin

# The first of these that is a Python we support makes the environment.
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13,$(shell \
	$(p) -c 'import sys, ensurepip; (3, 11) <= sys.version_info[:2] < (3, 14) and print("$(p)")' 2>/dev/null)))

# What runs the service needs less than what tests it; the larger environment serves for both.
RUN_ENV := $(if $(wildcard .venv/dev.stamp),.venv/dev.stamp,.venv/run.stamp)

.PHONY: help
help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|'

.PHONY: run
run: $(RUN_ENV) ## Show everything on this machine: a network, a plugin, the service, two jobs (ARGS=--once ends by itself)
	@exec $(BIN)/datajobs demo $(ARGS)

.PHONY: check
check: .venv/dev.stamp ## Formatting, lint, strict types, and which stage may import which
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: .venv/dev.stamp ## A sample of all tests; says what it skips for want of a system package (make deps)
	$(BIN)/python -m pytest -n $(WORKERS) --no-loadscope-reorder $(ARGS)

.PHONY: crash
crash: .venv/dev.stamp ## Kill processes of every kind under load, in rounds that are kept (CRASH_KILLS=1000)
	@$(BIN)/python -m tests.recovery.rounds $${CRASH_KILLS:-1000}

.PHONY: simulate
simulate: .venv/dev.stamp ## Run dispatch in virtual time over many seeds (SEEDS=100000 FIRST=0); prints what repeats a fault
	@$(BIN)/python -m tests.simulation $${SEEDS:-2000} $${FIRST:-0}

.PHONY: nightly
nightly: .venv/dev.stamp ## The long tests, step by step; what has passed for this commit is not run again (ARGS=--again)
	@$(BIN)/python -m tests.nightly $(ARGS)

.PHONY: bench
bench: $(RUN_ENV) ## Measure: time to 202, time until all is acknowledged, operations per second, memory
	$(BIN)/python -m bench $(ARGS)

.PHONY: deps
deps: ## Install the system packages and the Kafka broker that some tests need (as root, or with sudo)
	deploy/deps.sh

.PHONY: services
services: .venv/dev.stamp ## Run PostgreSQL, a Kafka broker and an S3 service to try things with, until Ctrl-C
	@exec $(BIN)/python -m deploy.services

.PHONY: wheel
wheel: .venv/dev.stamp ## Build the wheel into dist/
	$(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python --out-dir dist .
	@ls dist/*.whl

.PHONY: clean
clean: ## Remove what these commands made: environment, caches, builds
	rm -rf .venv dist build .nightly .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: exactly what the lock files say, every file checked by its hash -----------------

.venv/bin/uv: | requirements.lock
	@$(if $(PYTHON),,echo "Python 3.11, 3.12 or 3.13 with venv is needed (Debian: apt-get install python3-venv)" >&2; exit 2)
	@echo "Making .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@awk '/^uv==/ {on = 1} on {print} on && !/\\$$/ {exit}' requirements.lock > .venv/uv.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r .venv/uv.lock

.venv/%.stamp: pyproject.toml .venv/bin/uv
	@echo "Installing what $(LOCK) says into .venv"
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes $(LOCK)
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

.venv/run.stamp: LOCK := requirements.lock
.venv/run.stamp: requirements.lock
.venv/dev.stamp: LOCK := requirements-dev.lock
.venv/dev.stamp: requirements-dev.lock
