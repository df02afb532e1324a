PYTHON ?= python3
VENV ?= .venv
OPENMMLAB_VENV ?= .venv-openmmlab
DEMO_ARGS ?=
# As many test processes as cores; each of torch's threads would take a core from another process.
WORKERS ?= auto

RUN := "$(VENV)/bin/python"
PIP := $(RUN) -m pip
TEST := OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(WORKERS) -rs

# Packages outside the environment must neither satisfy pip's requirements nor be imported.
unexport PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.PHONY: help setup setup-ops demo test test-quick test-ops test-all test-openmmlab mutate lint format clean

help:
	@echo 'make demo      set up, then train and run a small detector (DEMO_ARGS="..." is passed on)'
	@echo 'make test      set up, then check the style and run the fast tests'
	@echo 'make test-quick  the tests to run while editing, in under a minute'
	@echo 'make test-all  all tests, also the slow ones'
	@echo 'make test-ops  compile mmcv'"'"'s operators, then run the fast tests with them'
	@echo 'make test-openmmlab  all tests on OpenMMLab'"'"'s last releases, in $(OPENMMLAB_VENV)'
	@echo 'make mutate    make deliberate faults, one at a time, and see a test fail at each (11 minutes)'
	@echo 'make setup     only set up the environment in $(VENV)'
	@echo 'make setup-ops compile mmcv'"'"'s operators into it (needs a C++ compiler, takes 10 minutes on 2 cores)'
	@echo 'make lint      only check the style'
	@echo 'make format    rewrite the files in that style'
	@echo 'make clean     remove build products and caches, but no environment, data or results'
	@echo
	@echo 'PYTHON=python3.12 chooses the Python, VENV=folder where the environment goes.'

# Pip skips what is installed already, so that an interrupted set-up goes on. The folder's place and
# the Python are part of the mark's name: a clone that was moved, or another Python, sets up anew.
MARK = $(VENV)/ready-$(shell "$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)-$(shell echo '$(CURDIR)' | cksum | cut -d' ' -f1)

setup: $(MARK)

$(MARK): $(wildcard requirements/*.txt) setup.py pyproject.toml mmdet_vanilla/version.py
	@"$(PYTHON)" -c '' 2>/dev/null || { \
	    echo 'setup: "$(PYTHON)" cannot be run: install Python 3.10 or newer, or name an installed one,' \
	        'for example PYTHON=python3.11.' >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo 'setup: this Python is too old: install Python 3.10 or newer and name it, for example' \
	        'PYTHON=python3.11.' >&2; exit 1; }
	@if [ -d "$(VENV)" ] && [ -n "$$(ls -A "$(VENV)")" ] && [ ! -e "$(VENV)/pyvenv.cfg" ]; then \
	    echo 'setup: $(VENV) holds files that are not of a virtual environment: choose another place' \
	        'with VENV=/another/folder.' >&2; exit 1; fi
	@rm -f "$(VENV)"/ready-*
	@$(RUN) -m pip --version >/dev/null 2>&1 && [ "$$($(RUN) -V)" = "$$("$(PYTHON)" -V)" ] || \
	    "$(PYTHON)" -m venv --clear "$(VENV)"
	$(PIP) install -r requirements/development.txt
	$(PIP) install --no-deps -r requirements/mmdeploy.txt
# Both OpenCV packages are required (requirements/stack.txt says by what) and both write the folder
# cv2: the last one written has to be the headless one, since the other needs libGL and X11.
	$(PIP) install --no-deps --force-reinstall $$(grep '^opencv-python-headless.*<' requirements/stack.txt | cut -d';' -f1)
	$(PIP) install --no-deps -e .
	@$(RUN) -c 'import mmdet_vanilla' || { rm -rf "$(VENV)/ready-"*; exit 1; }
	@touch "$@"
	@echo 'Ready. Use it with: . $(VENV)/bin/activate'

# FORCE_CUDA=0 keeps mmcv from looking for the CUDA toolkit where torch sees no GPU.
setup-ops: setup
	$(PIP) install -r requirements/operators.txt
	FORCE_CUDA=$$($(RUN) -c 'import torch; print(int(torch.cuda.is_available()))') \
	    PATH="$(CURDIR)/$(VENV)/bin:$(VENV)/bin:$$PATH" $(PIP) install -v --no-deps --no-build-isolation \
	    --no-cache-dir --force-reinstall $$(grep '^onedl-mmcv' requirements/stack.txt)
	$(RUN) -c 'from mmdet_vanilla import ops; assert not ops.using_stand_ins(), "mmcv was not compiled"'

demo: setup
	@$(RUN) tools/demo.py $(DEMO_ARGS)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

test: lint
	$(TEST) -m "not slow" --durations 15

test-quick: lint
	$(TEST) -m "not slow" tests/test_models tests/test_ops tests/test_evaluation tests/test_configs.py

test-all: lint
	$(TEST)

# The fast tests once more, with mmcv's own operators.
test-ops: setup-ops
	$(TEST) -m "not slow"

# OpenMMLab's own packages in a second environment (Python 3.10 or 3.11, several GB); run from the
# clone, since their mmengine does not find editable installs. In an isolated build (PEP 517) mmcv
# finds no torch and compiles nothing; the constraints hold in there, too.
OPENMMLAB_PIP := "$(OPENMMLAB_VENV)/bin/python" -m pip install
test-openmmlab: setup
	"$(PYTHON)" -m venv "$(OPENMMLAB_VENV)"
	$(OPENMMLAB_PIP) 'setuptools<70' wheel packaging 'numpy<2' torch==2.1.2
	PIP_CONSTRAINT=requirements/openmmlab.txt $(OPENMMLAB_PIP) --use-pep517 -r requirements/openmmlab.txt
	PIP_CONSTRAINT=requirements/openmmlab.txt $(OPENMMLAB_PIP) -r requirements/runtime.txt -r requirements/tests.txt
	PYTHONPATH="$(CURDIR)" OMP_NUM_THREADS=1 "$(OPENMMLAB_VENV)/bin/python" -m pytest -n $(WORKERS) -rs

# In a copy of the tree; writes docs/mutations.md.
mutate: setup
	OMP_NUM_THREADS=1 $(RUN) tests/mutation/run.py --out docs/mutations.md

format: setup
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find mmdet_vanilla tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
