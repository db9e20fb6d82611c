# The two commands are `make demo` and `make test`; each sets up .venv first where that is missing
# or older than pyproject.toml. Nothing is installed outside of .venv, and only pip uses the network.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Another interpreter: make PYTHON=/path/to/python3.12 ...
PYTHON ?= $(or $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; \
	done),python3)

VENV := .venv
BIN  := $(VENV)/bin
JOBS ?= 2

# The caller's own Python settings must not reach into .venv.
unexport PYTHONPATH PYTHONHOME PYTHONSTARTUP PYTHONDONTWRITEBYTECODE VIRTUAL_ENV PYTEST_ADDOPTS
unexport PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV

DEMO    := build/adding
PYTEST  := $(BIN)/python -m pytest
# The commands among the modules of benchmarks.
BENCHES := benchmarks/golden_speed.py benchmarks/activation_tables.py \
           benchmarks/simulation_speed.py benchmarks/engine.py
SOURCES := golden hdl sim fpga proofs tests examples $(wildcard benchmarks) gatefold

.PHONY: help setup demo test test-full test-torch coverage prove mutate lint bench clean distclean

help:
	@echo "make demo        build and verify the example: model -> Verilog -> simulation -> bitstream"
	@echo "make test        ruff, types, and the test suite (minutes)"
	@echo "make test-full   the same with the slow tests"
	@echo "make coverage    which lines of the Python code the test suite runs"
	@echo "make test-torch  the tests against PyTorch (installs the train extra)"
	@echo "make prove       all proofs of the hardware, and the faults planted to see them fail"
	@echo "make mutate      faults that Yosys plants, and which of them the bench finds (half an hour)"
	@echo "make bench       what benchmarks/ measures: bit-true model, tables, engine (an hour and more)"
	@echo "make lint        ruff and types only"
	@echo "make setup       set up .venv and warm the tools up; done by the others where needed"
	@echo "make clean       remove what was built; make distclean removes .venv too"

setup: $(VENV)/.warm

$(VENV)/.installed: pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "set-up: Python 3.11 or later is missing" >&2; exit 1; }
	@$(PYTHON) -I sim/prerequisites.py
	@echo "setting up $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
		--editable ".[test]"
	@touch $@

$(VENV)/.torch: $(VENV)/.installed
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off \
		--editable ".[test,train]"
	@touch $@

# The WebAssembly tools compile themselves on their first call, then keep that in the user's cache.
$(VENV)/.warm: $(VENV)/.installed
	@echo "warming the tools up; the first time takes a minute or two ..."
	@$(BIN)/python -c 'from fpga.tools import warm_up; warm_up()'
	@touch $@

demo: setup
	@mkdir -p build
	@$(BIN)/python examples/adding/task.py -o build/adding.npz
	@$(BIN)/gatefold build examples/adding/model.onnx --data build/adding.npz \
		--board ulx3s-85f --metric examples/adding/task.py:correct -o $(DEMO)
	@$(BIN)/gatefold verify $(DEMO)

test: setup lint
	$(PYTEST) -n $(JOBS) --dist worksteal --durations=25

test-full: setup lint
	$(PYTEST) -n $(JOBS) --dist worksteal -m "not torch"

test-torch: setup $(VENV)/.torch
	$(PYTEST) -m torch

coverage: setup
	$(PYTEST) -n $(JOBS) --dist worksteal --cov --cov-report=term

prove: setup
	$(BIN)/python -m proofs --faults --jobs $(JOBS)

mutate: setup
	@$(BIN)/python benchmarks/mutation.py --jobs $(JOBS)

lint: $(VENV)/.installed
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy $(SOURCES)

bench: setup
	@for f in $(BENCHES); do echo "== $$f"; $(BIN)/python $$f || exit 1; done

clean:
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
