# Every target does its own set-up: python3 >= 3.11, make and a package registry are enough.
PYTHON ?= python3
DEMO_ENV := .venv-demo
ENV := .venv
TYPESCRIPT := $(ENV)/typescript/node_modules/.bin/tsc
PIP_FLAGS := --quiet --disable-pip-version-check --no-input

# Kills processes that load data; PyTorch tells their parent by a signal, which the workers of the others do not bear.
ALONE := tests/train/training/test_robust_runs.py

.PHONY: demo test lint javascript typecheck unit docs package lowest nightly conformance demo-model clean

# The embedded model on the embedded video; installs the lean runtime only.
demo: $(DEMO_ENV)/.complete
	@$(DEMO_ENV)/bin/tsm-run --demo

# What CI runs.
test: lint typecheck unit

lint: $(ENV)/.complete
	$(ENV)/bin/ruff check .
	$(ENV)/bin/ruff format --check .
	if [ -x $(ENV)/bin/hadolint ]; then $(ENV)/bin/hadolint Dockerfile Dockerfile.gpu deploy/Dockerfile; fi
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory javascript; \
	 else echo "no npm: the types of the pages' scripts are not checked"; test -z "$$TSM_REQUIRE_NPM"; fi

# The types that the review page's scripts state in their comments.
javascript: $(TYPESCRIPT)
	$(TYPESCRIPT) --project serve/tsm_serve/static/review

$(TYPESCRIPT):
	npm install --silent --no-audit --no-fund --prefix $(ENV)/typescript typescript@7.0.2

typecheck: $(ENV)/.complete
	$(ENV)/bin/mypy

unit: export TSM_BINDINGS = $(CURDIR)/$(ENV)/tensorrt-10:$(CURDIR)/$(ENV)/tensorrt-11
# One thread a process: the processes share the cores.
unit: export OMP_NUM_THREADS = 1
unit: export TSM_PYCUDA = $(CURDIR)/$(ENV)/pycuda
unit: $(ENV)/.complete $(ENV)/.pycuda
	$(ENV)/bin/pytest --numprocesses auto --dist loadfile --durations 20 --ignore $(ALONE)
	$(ENV)/bin/pytest $(ALONE)

# The documentation site, in site/; a broken link is an error.
docs: $(ENV)/.complete
	NO_MKDOCS_2_WARNING=1 $(ENV)/bin/mkdocs build --strict --quiet

# Wheel and sdist in dist/, checked, and the wheel installed into an environment of its own, where the demo runs.
package: $(ENV)/.complete
	rm -rf dist $(ENV)-wheel
	$(ENV)/bin/python -m build --no-isolation --outdir dist . >/dev/null
	$(ENV)/bin/twine check --strict dist/*
	$(ENV)/bin/check-wheel-contents --ignore W002 --package train/tsm_train --package export/tsm_export \
	  --package runtime/tsm_runtime --package serve/tsm_serve dist/*.whl
	$(PYTHON) -m venv $(ENV)-wheel
	$(ENV)-wheel/bin/pip install $(PIP_FLAGS) "$$(echo dist/*.whl)[cpu]"
	cd dist && ../$(ENV)-wheel/bin/tsm-run --demo

# The runtime with the lowest allowed version of each direct dependency: all modules, all commands, the demo.
lowest:
	rm -rf $(ENV)-lowest
	$(PYTHON) -m venv $(ENV)-lowest
	$(PYTHON) tests/lowest_versions.py cpu > $(ENV)-lowest/lowest.txt
	$(ENV)-lowest/bin/pip install $(PIP_FLAGS) --constraint $(ENV)-lowest/lowest.txt '.[cpu]'
	cd $(ENV)-lowest && bin/python ../tests/lowest_imports.py && bin/tsm-run --demo

# What takes too long for CI: the marked tests, and the conformance check.
nightly: $(ENV)/.complete conformance
	$(ENV)/bin/pytest -m nightly

# Parses and builds every backbone at full size with TensorRT for RTX, which needs no GPU (about an hour).
conformance: $(ENV)/.complete
	$(ENV)/bin/python benchmarks/conformance.py

# Makes the embedded demo anew: drawn videos, training, export, and the demo video (about 45 minutes on one core).
demo-model: $(ENV)/.complete
	$(ENV)/bin/python benchmarks/make_demo.py

$(DEMO_ENV)/.complete: pyproject.toml
	$(PYTHON) -m venv --clear $(DEMO_ENV)
	$(DEMO_ENV)/bin/pip install $(PIP_FLAGS) --editable '.[cpu]'
	@touch $@

# The bindings of two versions of TensorRT, without its libraries: what they offer is compared with what is used.
# --constraint: the versions these tests are known to pass with; other versions may be used.
$(ENV)/.complete: pyproject.toml constraints.txt
	$(PYTHON) -m venv --clear $(ENV)
	$(ENV)/bin/pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	$(ENV)/bin/pip install $(PIP_FLAGS) --no-deps --target $(ENV)/tensorrt-10 tensorrt-cu13-bindings==10.16.1.11
	$(ENV)/bin/pip install $(PIP_FLAGS) --no-deps --target $(ENV)/tensorrt-11 tensorrt-cu13-bindings==11.4.0.106
	@touch $@

# pycuda for the tests on an emulated driver, which need a C++ compiler.
$(ENV)/.pycuda: $(ENV)/.complete tests/emulated_gpu/build_pycuda.py
	if command -v g++ >/dev/null; then $(ENV)/bin/python tests/emulated_gpu/build_pycuda.py $(ENV)/pycuda; fi
	@touch $@

clean:
	rm -rf $(ENV) $(ENV)-lowest $(DEMO_ENV)
