# Commands on a machine that has Python 3.11 or newer, git and make:
#   make run     trains BGFormer on letters and tests it on other alphabets
#   make test    runs the test suite; make slow runs the long tests, make coverage measures what the tests reach
#   make docs    builds the documentation in docs/_build/html
#   make dist    builds the package in dist/ and checks it
# They make .venv and install the project into it the first time. PYTHON names another interpreter.

PYTHON ?= python3
VENV := .venv
ARGS ?=

.PHONY: run test slow coverage lint docs dist clean

run: $(VENV)/installed
	$(VENV)/bin/python experiments/run.py $(ARGS)

test: $(VENV)/installed
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n auto $(ARGS)

slow: $(VENV)/installed
	$(VENV)/bin/python -m pytest -m slow $(ARGS)

coverage: $(VENV)/installed
	$(VENV)/bin/python -m pytest --cov=pyg_bgformer --cov-report=term-missing:skip-covered $(ARGS)

lint: $(VENV)/installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/installed
	$(VENV)/bin/python -m sphinx -W --keep-going -q docs docs/_build/html
	@echo "open docs/_build/html/index.html"

dist: $(VENV)/installed
	rm -rf dist
	$(VENV)/bin/python -m build
	$(VENV)/bin/python -m twine check --strict dist/*

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) docs/_build docs/generated .mypy_cache .ruff_cache .pytest_cache
