# One command each; `make help` lists them. Every target uses the project's own .venv.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help venv demo test check bench gpu-check clean

help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Create .venv with everything that developing needs (again only when its inputs change)

$(STAMP): pyproject.toml constraints.txt setup.py $(wildcard scconv_deploy/kernels/src/*)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is too old; Python 3.11 or newer is needed: make PYTHON=python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (minutes the first time)"
	@PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install -qq -c constraints.txt -e ".[dev]"
	@touch $@

demo: $(STAMP) ## Export the trained digits model to ONNX and TensorRT, verify it and time it
	@$(BIN)/python samples/demo.py

test: $(STAMP) ## Run the tests
	@$(BIN)/python -m pytest -m "not slow and not bench"

check: $(STAMP) ## Format, lint, types and layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(STAMP) ## Measure export time and latency (about 20 minutes; JSON in tests/bench/results/)
	@$(BIN)/python -m tests.bench.export_time
	@$(BIN)/python -m tests.bench.latency
	@$(BIN)/python -m tests.bench.forms

gpu-check: $(STAMP) ## Where an NVIDIA GPU is at hand: run kernels, plugins and engines there, and record it
	@$(BIN)/python -m tests.gpu.check

clean: ## Remove .venv, caches and out/
	@rm -rf $(VENV) out build scconv_deploy/kernels/*.so .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
