# Everything happens in .venv; `make demo` and `make test` make it when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: install demo test lint flight format results clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt
	$(PYTHON) -c 'import sys; sys.exit("hyperline needs Python 3.10 or newer") if sys.version_info < (3, 10) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/hyperline demo --out demo

lint: $(STAMP)
	$(BIN)/python tools/link_tree.py
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n auto

# An install without extras, as on board, in an environment of its own.
flight: $(STAMP)
	$(BIN)/python tools/flight_check.py

# Accuracy over seeds; twenty minutes on two cores.
results: $(STAMP)
	$(BIN)/python bench/accuracy.py

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
