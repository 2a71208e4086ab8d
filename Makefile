# Every target does its own set-up: python3 >= 3.11, make and a package registry are enough.
PYTHON ?= python3
DEMO_ENV := .venv-demo
ENV := .venv
PIP_FLAGS := --quiet --disable-pip-version-check --no-input

.PHONY: demo test lint typecheck unit demo-model clean

# The embedded model on the embedded video; installs the lean runtime only.
demo: $(DEMO_ENV)/.complete
	@$(DEMO_ENV)/bin/tsm-run --demo

# What CI runs.
test: lint typecheck unit

lint: $(ENV)/.complete
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .

typecheck: $(ENV)/.complete
	$(ENV)/bin/mypy

unit: $(ENV)/.complete
	$(ENV)/bin/pytest

# Makes the embedded demo anew: drawn videos, training, export, and the demo video (about half an hour on two cores).
demo-model: $(ENV)/.complete
	$(ENV)/bin/python benchmarks/make_demo.py

$(DEMO_ENV)/.complete: pyproject.toml
	$(PYTHON) -m venv --clear $(DEMO_ENV)
	$(DEMO_ENV)/bin/pip install $(PIP_FLAGS) --editable '.[cpu]'
	@touch $@

# --constraint: the versions these tests are known to pass with; other versions may be used.
$(ENV)/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(ENV)
	$(ENV)/bin/pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(ENV) $(DEMO_ENV)
