# Every target that needs it makes its own environment: see tools/setup_env.py.

PYTHON ?= python3
VENV ?= .venv
OPENMMLAB_VENV ?= .venv-openmmlab
DEMO_ARGS ?=

RUN := "$(VENV)/bin/python"

# Packages outside the environment must neither satisfy pip's requirements nor be imported.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all test-openmmlab lint format clean

help:
	@echo 'make demo      set up, then train and run a small detector (DEMO_ARGS="..." is passed on)'
	@echo 'make test      set up, then check the style and run the fast tests'
	@echo 'make test-all  the same with all tests'
	@echo 'make test-openmmlab  all tests on OpenMMLab'"'"'s last releases, in $(OPENMMLAB_VENV)'
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

# OpenMMLab's own packages in a second environment (Python 3.10 or 3.11, several GB); run from the
# clone, since their mmengine does not find editable installs.
test-openmmlab: setup
	"$(PYTHON)" -m venv "$(OPENMMLAB_VENV)"
	"$(OPENMMLAB_VENV)/bin/python" -m pip install 'setuptools<70' wheel ninja packaging 'numpy<2' torch==2.1.2
	MMCV_WITH_OPS=1 FORCE_CUDA=0 "$(OPENMMLAB_VENV)/bin/python" -m pip install --no-build-isolation \
	    -r requirements/openmmlab.txt
	"$(OPENMMLAB_VENV)/bin/python" -m pip install -c requirements/openmmlab.txt \
	    -r requirements/runtime.txt -r requirements/tests.txt
	PYTHONPATH="$(CURDIR)" "$(OPENMMLAB_VENV)/bin/python" -m pytest

format: setup
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find mmdet_vanilla tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
