# make demo       do the main job on real data: train with a learned optimizer, meta-train one, compare
# make test       run the tests
# make lint       check style, who imports whom, and types
# make bench      measure meta-training throughput
# make docs       build the documentation site, site/index.html
# make notebooks  run notebooks/*.py and store them with their outputs as .ipynb, ten to twenty minutes on two cores
#
# Each sets up .venv with what it needs. Another Python: make test PYTHON=python3.12

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test lint bench docs notebooks python-check

demo: .venv/meta
	$(BIN)/python -m meta_train demo --out demo

test: .venv/dev
	$(BIN)/python -m pytest

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/basedpyright --pythonpath $(BIN)/python

bench: .venv/meta
	$(BIN)/python benchmarks/meta_training.py

# The environment variable silences a notice of the theme's about its own future.
docs: .venv/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

notebooks: .venv/notebooks
	$(BIN)/python notebooks/build.py

# One stamp for what `demo` and `bench` need, one for what `test` needs on top.
.venv/meta: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[meta]'
	@touch $@

.venv/dev: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[meta,dev]'
	@touch $@ .venv/meta

.venv/docs: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	@touch $@

.venv/notebooks: setup.cfg pyproject.toml | .venv/bin/python
	$(BIN)/python -m pip install --quiet --editable '.[meta,notebooks]'
	@touch $@ .venv/meta

.venv/bin/python: | python-check
	@echo "Setting up .venv; the first time takes a few minutes."
	$(PYTHON) -m venv .venv

python-check:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "learned_optim needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Install one, or name it: make $(or $(firstword $(MAKECMDGOALS)),demo) PYTHON=python3.12" >&2; exit 1; }
