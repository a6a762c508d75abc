# `make` lists the targets. Everything is installed into .venv; nothing outside this folder and the caches is touched.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
PIP := -m pip install --quiet --disable-pip-version-check
PYTEST := -m pytest -n 2 --dist worksteal

.DEFAULT_GOAL := help
.PHONY: help setup setup-optimum setup-litert demo demo-litert test test-fast test-litert test-kill fuzz test-lowest test-phone test-executorch lint format docs results bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(READY) ## create .venv with everything, pinned by constraints.txt

$(READY): pyproject.toml constraints.txt scripts/setup_venv.py
	@$(PYTHON) scripts/setup_venv.py

demo: $(READY) ## the whole pipeline on the shipped model and dialogues
	@$(VENV)/bin/empathy-edge run quickstart --out runs/quickstart || { [ $$? -eq 1 ] && \
	  echo "A verdict of FAIL is a result of the demo, not an error of it: look at the report."; }

test: $(READY) ## every test, the real 135M model included
	$(VENV)/bin/python $(PYTEST)

test-fast: $(READY) ## the tests that take little time and no real model
	$(VENV)/bin/python $(PYTEST) -m "not slow"

test-kill: $(READY) ## every stage killed at twenty random moments
	EMPATHY_EDGE_KILLS=20 $(VENV)/bin/python $(PYTEST) tests/reliability/test_kill.py

fuzz: $(READY) ## damaged files for every reader of foreign files, ten minutes each
	EMPATHY_EDGE_FUZZ_SECONDS=600 EMPATHY_EDGE_FINDINGS=tests/reliability/findings \
	  $(VENV)/bin/python $(PYTEST) -s tests/reliability/test_fuzz.py

test-lowest: .venv-lowest/.ready ## the fast tests with the oldest versions that pyproject.toml allows, in .venv-lowest
	.venv-lowest/bin/python $(PYTEST) -m "not slow"

.venv-lowest/.ready: $(READY) pyproject.toml
	$(VENV)/bin/python scripts/lowest_versions.py > $(VENV)/lowest.txt
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python $(PIP) --no-deps -r $(VENV)/lowest.txt $$($(PYTHON) scripts/setup_venv.py --wheel) -e .
	touch $@

PHONE_PYTHON := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
PHONE := .venv-phone-$(PHONE_PYTHON)

test-phone: $(PHONE)/.ready ## the fast tests of a phone-side install, without torch; PYTHON=python3.13 for another Python
	$(PHONE)/bin/python $(PYTEST) -m "not slow"

$(PHONE)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(PHONE)
	$(PHONE)/bin/python $(PIP) -c constraints.txt $$($(PYTHON) scripts/setup_venv.py --wheel) \
	  -e '.[gguf,onnx,judge,demo]' hypothesis pytest pytest-timeout pytest-xdist
	touch $@

test-executorch: ## the ExecuTorch tests, in .venv-executorch (1.7 GB; torchao, which comes with it, would slow the rest)
	test -x .venv-executorch/bin/pytest || { $(PYTHON) -m venv .venv-executorch && .venv-executorch/bin/python $(PIP) \
	  -c constraints.txt -e '.[executorch,train,demo]' gguf onnx onnxruntime onnxscript pytest pytest-timeout; }
	.venv-executorch/bin/python -m pytest tests/export/test_executorch.py

setup-litert: .venv-litert/bin/litert-torch ## create .venv-litert for `export --to litertlm-int8` (2.3 GB; torchao and JAX come with it)

.venv-litert/bin/litert-torch:
	$(PYTHON) -m venv --clear .venv-litert
	.venv-litert/bin/python $(PIP) torch==2.13.0 transformers==5.23.0 litert-torch==0.9.4

test-litert: $(READY) setup-litert ## the tests of LiteRT-LM; part of `make test` where .venv-litert is there
	$(VENV)/bin/python $(PYTEST) tests/export/test_litertlm.py tests/formats/test_litertlm_file.py

demo-litert: $(READY) setup-litert ## make, chat with, measure and check one artifact for LiteRT-LM
	$(VENV)/bin/empathy-edge export smollm2-135m --to litertlm-int8 --out runs/litert
	echo "I lost my job today." | $(VENV)/bin/empathy-edge chat runs/litert/litertlm-int8 --once
	$(VENV)/bin/empathy-edge bench runs/litert/litertlm-int8
	$(VENV)/bin/empathy-edge check runs/litert/litertlm-int8 --reference smollm2-135m --max-prompts 32 \
	  --allow-quantized-reference || case $$? in 1|4) ;; *) exit 1 ;; esac

setup-optimum: ## create .venv-optimum for `export --exporter optimum` (1.3 GB; its versions cannot share .venv)
	test -x .venv-optimum/bin/optimum-cli || { $(PYTHON) -m venv .venv-optimum && .venv-optimum/bin/python $(PIP) \
	  torch==2.13.0 'optimum[onnxruntime]==2.1.0' optimum-onnx==0.1.0 transformers==4.57.6 accelerate==1.15.0; }

lint: $(READY) ## ruff, mypy, whether every import is declared, spelling and plain English
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/python scripts/typecheck.py
	$(VENV)/bin/deptry .
	$(VENV)/bin/codespell
	$(VENV)/bin/python -m scripts.check_text

format: $(READY) ## let ruff format the code
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: $(READY) ## write docs/commands.md, docs/api.md, the tables of docs/formats.md and docs/results/README.md anew
	$(VENV)/bin/python scripts/commands_page.py > docs/commands.md
	$(VENV)/bin/python scripts/api_page.py > docs/api.md
	$(VENV)/bin/python -m scripts.support_tables
	$(VENV)/bin/python -m scripts.results_page

results: $(READY) ## list every figure of the documentation; NAME=… DATA=folder makes some again
	@$(VENV)/bin/python -m scripts.results $(NAME) $(if $(DATA),--data "$(DATA)")

bench: $(READY) ## our own code's share: start-up, and chat and bench beside raw llama-cpp-python
	$(VENV)/bin/python -m empathy_edge.bench.startup
	$(VENV)/bin/python -m empathy_edge.bench.overhead smollm2-135m

clean: ## remove caches of tools (never .venv, never runs)
	rm -rf .pytest_cache .mypy_cache .ruff_cache build *.egg-info
