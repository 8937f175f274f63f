# Needs only Python 3.11 or later and make. `make quickstart` shows a sync, `make test` runs the tests.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: quickstart test stateful lint picture format clean
.DEFAULT_GOAL := quickstart

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

quickstart: $(READY)
	$(BIN)/memsync run configs/quickstart.yaml
	$(BIN)/memsync status configs/quickstart.yaml
	$(BIN)/memsync search configs/quickstart.yaml "how do I replay dead letters?" --count 2

test: $(READY)
	$(BIN)/python -m pytest -n auto

# Commands, faults, kills and lost states in any order; `make test` tries a few.
stateful: $(READY)
	EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/python -m pytest tests/stateful -n 0

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

picture: $(READY)
	$(BIN)/python docs/record_quickstart.py

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) .memsync configs/.memsync dist build
