# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: help demo test lint docs wheels clean

help:
	@echo "make demo    install into $(VENV), reconstruct a simulated scan, say where the report lies"
	@echo "make test    install into $(VENV) with the developer tools, run all tests"
	@echo "make lint    ruff and mypy"
	@echo "make docs    HTML documentation in docs/_build/html, examples executed"
	@echo "make wheels  are there wheels of all dependencies for the other Python versions?"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# the stamps make an installation happen once for every change of pyproject.toml
$(VENV)/.installed: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(BIN)/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@ $(VENV)/.installed

demo: $(VENV)/.installed
	$(BIN)/sciinv demo --overwrite

# one thread a process: two test processes share two cores
test: $(VENV)/.installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(JOBS) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-dev
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html

wheels: $(BIN)/python
	PYTHON=$(BIN)/python scripts/check_wheels.sh

clean:
	rm -rf build dist docs/_build docs/auto_examples docs/generated *.egg-info
