# `make demo` and `make test` set up what they need, once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BASE := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test lint matrix wheel setup docs docs-check clean

demo: $(BASE)
	$(BIN)/engine demo

test: $(DEV)
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Every promised Python and library version: `make matrix FULL=1` for the whole suite, `ONLY="3.13 3.12-lowest"` for some.
matrix: $(DEV)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python .ci/matrix.py $(if $(FULL),--full) $(ONLY)

# A wheel in dist/, tried in an environment of its own.
wheel: $(DEV)
	.ci/wheel

setup: $(DEV)

# The pages that code writes, then the deck's pictures. `make docs-check` says which pages are out of date.
docs: $(DEV)
	$(BIN)/python -m bench.pages
	$(BIN)/python -m tui.shots docs

docs-check: $(DEV)
	$(BIN)/python -m bench.pages --check

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "setting up $(VENV) (once; some minutes and about 1.6 GB without CUDA)"
	@$(PIP) -e .
	@touch $@

$(DEV): $(BASE)
	@echo "adding what tests need to $(VENV) (once; about 0.9 GB more without CUDA)"
	@$(PIP) -e '.[dev]'
	@touch $@
