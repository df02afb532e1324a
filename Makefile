# Every target that needs it makes its own environment: see tools/setup_env.py.

PYTHON ?= python3
VENV ?= .venv
DEMO_ARGS ?=

RUN := "$(VENV)/bin/python"

# Packages outside the environment must neither satisfy pip's requirements nor be imported.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format clean

help:
	@echo 'make demo      set up, then train and run a small detector (DEMO_ARGS="..." is passed on)'
	@echo 'make test      set up, then check the style and run the fast tests'
	@echo 'make test-all  the same with all tests'
	@echo 'make setup     only set up the environment in $(VENV)'
	@echo 'make lint      only check the style'
	@echo 'make format    rewrite the files in that style'
	@echo 'make clean     remove build products and caches, but no environment, data or results'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python, VENV=folder where the environment goes.'

setup:
	@"$(PYTHON)" -c '' 2>/dev/null || { \
	    echo 'setup: "$(PYTHON)" cannot be run: install Python 3.10 or newer, or name an installed one,' \
	        'for example PYTHON=python3.11.' >&2; exit 1; }
	@"$(PYTHON)" tools/setup_env.py --venv "$(VENV)"

demo: setup
	@$(RUN) tools/demo.py $(DEMO_ARGS)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

test: lint
	$(RUN) -m pytest -m "not slow"

test-all: lint
	$(RUN) -m pytest

format: setup
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find mmdet_vanilla tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
