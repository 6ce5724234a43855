# Two commands on a machine that has Python 3.11 or newer, git and make:
#   make run     trains and tests BGFormer on handwritten digits
#   make test    runs the test suite
# Both make .venv and install the project into it the first time. PYTHON names another interpreter.

PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: run test lint clean

run: $(VENV)/installed
	$(VENV)/bin/python experiments/run.py $(ARGS)

test: $(VENV)/installed
	$(VENV)/bin/python -m pytest $(ARGS)

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
