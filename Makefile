# The project's commands. Each makes .venv and installs what it needs into it, once; only Python and pip are asked for.
#
#   make test PYTHON=python3.13           which Python makes .venv (after `make clean`, when .venv is there already)
#   make test FULL=1                      all tests and all their examples, not a quick choice of them
#   make test ARGS="tests/test_tape.py"   more arguments for the program that runs (ARGS="-n0 --pdb": in one process)
#   make test-gpu CUDA=cuda12             which of CUDA's versions CuPy is for
#   make test-oldest OLDEST=/opt/python3  where the oldest Python is, if not under its name in PATH

PYTHON ?= python3
OLDEST ?= python$(shell sed -n 's/^requires-python = ">=\(.*\)"$$/\1/p' pyproject.toml)
CUDA   ?= cuda13
ARGS   ?=
FULL   ?=
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-gpu test-oldest test-targets lint format bench hooks clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed-demo  ## train a classifier and a denoiser on real images, write demo.png
	$(BIN)/python examples/demo.py $(ARGS)

test: $(VENV)/.installed-test  ## run the quick tests and the examples in the docstrings, or with FULL=1 all tests
	$(BIN)/python -m pytest -n auto --dist worksteal $(if $(FULL),--full) $(ARGS)

test-gpu: $(VENV)/.installed-test $(VENV)/.installed-$(CUDA)  ## run the tests that need an NVIDIA GPU
	$(BIN)/python -m pytest -m gpu --full $(ARGS)

test-oldest:  ## run the tests with the oldest Python and libraries that pyproject.toml declares, in .venv-oldest
	@$(MAKE) --no-print-directory test VENV=$(VENV)-oldest PYTHON=$(OLDEST) VERSIONS=$(VENV)-oldest/versions.txt

test-targets: $(VENV)/.installed-test  ## run the tests of plans, kernels and values as on processors with SSE, AVX2, AVX-512
	$(BIN)/python tests/targets.py $(ARGS)

lint: $(VENV)/.installed-dev  ## check style, format, types and the order of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-dev  ## put the code into the project's format
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.installed-test  ## time calls and start-up (beside PyTorch where .venv has it)
	$(BIN)/python -m benchmarks.run $(ARGS)

hooks: $(VENV)/.installed-dev  ## run `make lint` before every git commit
	$(BIN)/pre-commit install

clean:  ## remove .venv, caches and everything built
	rm -rf $(VENV) $(VENV)-oldest build dist demo.png gradient_penalty.png
	find . -name .git -prune -o \
	    -type d \( -name __pycache__ -o -name '.*_cache' -o -name .hypothesis \) -prune -exec rm -rf {} +

# One stamp per extra: it is as old as the last installation, and pyproject.toml is what makes it out of date.
$(VENV)/.installed-%: $(VENV)/.created pyproject.toml $(VERSIONS)
	@echo "Installing eagerconv[$*] into $(VENV): the first time this takes a minute or two."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(VERSIONS:%=--constraint %) --editable '.[$*]'
	@touch $@

$(VENV)/versions.txt: $(VENV)/.created pyproject.toml tests/oldest.py
	$(BIN)/python tests/oldest.py > $@

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "eagerconv needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)"; \
	    echo "Name a newer one, as in: make $(MAKECMDGOALS) PYTHON=python3.13"; exit 1; } >&2
	$(PYTHON) -m venv $(VENV)
	@touch $@
