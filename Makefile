# `make` lists the targets. Everything is installed into .venv; nothing outside this folder and the caches is touched.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
export CMAKE_BUILD_PARALLEL_LEVEL ?= $(shell nproc 2>/dev/null || echo 2)

.DEFAULT_GOAL := help
.PHONY: help setup setup-optimum demo test test-fast test-executorch lint format docs bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY) ## create .venv with everything, pinned by constraints.txt

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 $(MAKECMDGOALS)"; exit 3; }
	@command -v c++ >/dev/null || { echo "A C++ compiler is needed to build llama.cpp (Debian: apt-get install g++ cmake)"; exit 3; }
	@command -v cmake >/dev/null || { echo "cmake is needed to build llama.cpp (Debian: apt-get install cmake)"; exit 3; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing (once, about 6 minutes on 2 cores: llama.cpp is compiled) ..."
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all,dev]'
	@touch $@

setup-optimum: ## create .venv-optimum for `export --exporter optimum` (1.3 GB; its versions cannot share .venv)
	test -x .venv-optimum/bin/optimum-cli || { $(PYTHON) -m venv .venv-optimum && .venv-optimum/bin/python -m pip install --quiet --disable-pip-version-check \
	  torch==2.13.0 'optimum[onnxruntime]==2.1.0' optimum-onnx==0.1.0 transformers==4.57.6 accelerate==1.15.0; }

demo: $(READY) ## the whole road on the shipped model and dialogues, 8 to 9 minutes
	@$(VENV)/bin/empathy-edge run quickstart --out runs/quickstart || { [ $$? -eq 1 ] && echo "A verdict of FAIL is a result of the demo, not an error of it: look at the report."; }
	@echo "Talk to it: $(VENV)/bin/empathy-edge chat runs/quickstart/export/gguf-q8_0"

test: $(READY) ## every test, the real 135M model included
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal

test-fast: $(READY) ## the tests that need no real model
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m "not slow"

test-executorch: ## the ExecuTorch tests, in .venv-executorch (1.7 GB; torchao, which comes with it, would slow the rest)
	test -x .venv-executorch/bin/pytest || { $(PYTHON) -m venv .venv-executorch && .venv-executorch/bin/python -m pip install --quiet \
	  --disable-pip-version-check -c constraints.txt -e '.[executorch,train,demo]' gguf onnx onnxruntime onnxscript pytest pytest-timeout; }
	.venv-executorch/bin/python -m pytest tests/export/test_executorch.py

lint: $(READY) ## ruff and mypy
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

format: $(READY) ## let ruff format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: $(READY) ## write docs/commands.md anew from the command line's own help
	$(VENV)/bin/python -m empathy_edge.docs > docs/commands.md

bench: $(READY) ## our own code's share: chat and bench beside raw llama-cpp-python
	$(VENV)/bin/python -m empathy_edge.bench.overhead smollm2-135m

clean: ## remove caches of tools (never .venv, never runs)
	rm -rf .pytest_cache .mypy_cache .ruff_cache build *.egg-info
