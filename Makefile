# Each target does its own set-up: nothing is needed but make and a python3 of at least 3.11.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench bench-kernels clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*  ## /  make \1	/p' $(MAKEFILE_LIST)

demo: $(READY)  ## run demos/interlock.py
	$(BIN)/python demos/interlock.py

test: lint  ## lint, then all tests and the docstrings' examples
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile

lint: $(READY)  ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(READY)  ## the benchmarks, on a machine with nothing else to do
	$(BIN)/python benchmarks/redistribution.py
	$(BIN)/python benchmarks/network.py
	$(BIN)/python benchmarks/events.py
	$(BIN)/python benchmarks/control.py
	$(BIN)/python benchmarks/plan_cost.py
	$(BIN)/python benchmarks/archive.py --size 8192 --repeat 3 --fields 1000  # a fourth of 2 GiB, a tenth of the fields

bench-kernels: $(READY)  ## the kernels beside np.copyto; the same
	$(BIN)/python benchmarks/kernel_speed.py
	$(BIN)/python benchmarks/random_arrays.py

clean:  ## remove the environment, builds and caches
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Touched last: an installation that broke off is done again. -qq: errors only.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "maestro needs Python 3.11 or later, but '$(PYTHON)' is: $$($(PYTHON) --version 2>&1)" >&2; \
	    echo "Name another: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) (a minute or two) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check \
	    --constraint constraints.txt --editable '.[demo,notebook,test]'
	@touch $@
