# The few commands. Everything they make lies in $(VENV) and $(OUT), and `make clean` removes it.
#
#   make setup   a virtual environment with everything a developer needs, made once per change of pyproject.toml
#   make demo    the first notebook, run headless: leaderboard, score curve, run directory
#   make lab     JupyterLab on the notebooks
#   make test    setup, checks, tests, every notebook
#   make check   lint, format, types, the rooms' order
#   make plants  plant mistakes in a copy of the source; the tests named for each must go red (a few minutes)
#
# Overrides: VENV=path (default .venv), PYTHON=interpreter (default: the first of python3, python3.x that is new enough),
# OUT=path (default out), PYTEST_ARGS="..." (more arguments for pytest, e.g. --long, -n0).

MAKEFLAGS += --no-print-directory
VENV ?= .venv
OUT ?= out
PYTHON ?=
PYTEST_ARGS ?=

RUN := $(VENV)/bin/python
TOGETHER = $(shell "$(RUN)" -c 'import os; print(min(4, 1 + (os.cpu_count() or 1)))' 2>/dev/null || echo 2)
STAMP := $(VENV)/.epsilon_lab-installed

# pip is quiet and asks nothing; matplotlib needs no screen.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PIP_ROOT_USER_ACTION := ignore
export MPLBACKEND := Agg
# Where nothing compiled may be kept, each of the hundreds of processes that the tests start compiles all of it anew.
unexport PYTHONDONTWRITEBYTECODE

# The stamp names the checkout that was installed: a moved clone, or a VENV shared by two, installs again.
ifneq ($(shell cat "$(STAMP)" 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

.DEFAULT_GOAL := help
.PHONY: help setup check test plants demo lab clean

help:
	@sed -n '3,/^$$/s/^# \{0,1\}//p' Makefile

setup: $(STAMP)

$(STAMP): pyproject.toml
	@chosen=; for name in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
	    if "$$name" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	        chosen=$$name; break; fi; done; \
	if [ -z "$$chosen" ]; then \
	    echo "epsilon_lab needs Python 3.11 or later with venv; $$(python3 --version 2>&1 | head -n 1) was found." >&2; \
	    echo "Install one (Debian: apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.11" >&2; \
	    exit 1; fi; \
	if ! "$(RUN)" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then \
	    echo "making $(VENV) with $$("$$chosen" --version)"; "$$chosen" -m venv "$(VENV)"; fi
	@echo "installing epsilon_lab into $(VENV) (a minute or two, once)"
	@"$(RUN)" -m pip install --quiet --quiet --editable ".[dev,browser,mcp,linkage]"
	@echo "$(CURDIR)" > "$(STAMP)"

check: $(STAMP)
	@"$(RUN)" -m ruff check --quiet
	@"$(RUN)" -m ruff format --check --quiet || { echo "run: $(RUN) -m ruff format" >&2; exit 1; }
	@"$(RUN)" -m mypy --no-error-summary
	@report=$$("$(RUN)" -c "from importlinter.cli import lint_imports_command as check; check()" --no-cache 2>&1) || { echo "$$report"; exit 1; }
	@echo "checks passed: lint, format, types, the rooms' order"

# Files of tests share the processors; a file's tests, and a notebook's cells, stay together and in order. The notebooks,
# which take longest, come first, so that no processor is idle at the end; and as a third of all tests is waiting (for time
# limits, leases, processes), there is one file more under way than there are processors, up to four.
test: check
	@"$(RUN)" -m pytest -q --numprocesses=$(TOGETHER) --dist=loadfile --no-loadscope-reorder --nbval-lax --nbval-cell-timeout=180 notebooks tests $(PYTEST_ARGS)

plants: $(STAMP)
	@"$(RUN)" tests/plants/check.py

demo: $(STAMP)
	@"$(RUN)" -m epsilon_lab demo --out "$(OUT)"

lab: $(STAMP)
	@"$(RUN)" -m jupyterlab --notebook-dir=notebooks

clean:
	test ! -e "$(VENV)/pyvenv.cfg" || rm -rf "$(VENV)"
	rm -rf "$(OUT)" build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
