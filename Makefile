# Needs only Python 3.11 or later and make. `make quickstart` shows a sync, `make test` runs the tests.
PYTHON ?= python3.11
VENV   := .venv
BIN    := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable
USABLE := $(VENV)/.usable
READY  := $(VENV)/.ready

.PHONY: quickstart test lint picture picture-report picture-console failures site simulate mutants kills powerloss io-errors stateful hostile bench bench-check reference format clean
.DEFAULT_GOAL := quickstart

$(USABLE): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	@touch $(USABLE)

# What tests need beside: servers, and the libraries of all connectors.
$(READY): $(USABLE)
	$(INSTALL) '.[dev]'
	@touch $(READY)

quickstart: $(USABLE)
	$(BIN)/memsync run configs/quickstart.yaml
	$(BIN)/memsync status configs/quickstart.yaml
	$(BIN)/memsync search configs/quickstart.yaml "how do I send dead letters again?" --count 2

test: $(READY)
	$(BIN)/python -m pytest -n auto --dist worksteal

# Thousands of generated hostile inputs through the real code; some 5 minutes for 5,000. `make test` has 300 of them.
INPUTS ?= 5000
SEED ?= 1
hostile: $(READY)
	$(BIN)/python -m tests.security.hostile --inputs $(INPUTS) --seed $(SEED)

# SIGKILL at every system call that changes something (some 35 minutes, needs strace), then at random moments.
KILLS ?= 1000
kills: $(READY)
	$(BIN)/python -m tests.crashes.kills --kills $(KILLS)

# What a power cut may leave of the files, at any moment of a run; some 2 minutes, needs strace.
IMAGES ?= 14000
powerloss: $(READY)
	$(BIN)/python -m tests.crashes.power_cuts --images $(IMAGES)

# The disk fails, or is full, at each of its calls; some 20 minutes, needs strace.
io-errors: $(READY)
	$(BIN)/python -m tests.crashes.io_errors

# Commands, faults, kills and lost states in any order; `make test` tries a few.
stateful: $(READY)
	EXAMPLES=$(or $(EXAMPLES),200) $(BIN)/python -m pytest tests/stateful -n 0

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The real pipeline in a world of chance: 10,000 histories take some 15 minutes on two cores.
SEEDS ?= 10000
simulate: $(READY)
	$(BIN)/python -m tests.simulation --seeds 0:$(SEEDS)
	$(BIN)/python -m tests.simulation --seeds 0:100 --scenario all

# Plants bugs and lets the simulation look for them: some 15 minutes on two cores.
mutants: $(READY)
	$(BIN)/python -m tests.mutants --write

# Others to measure beside, in an environment of their own: their packages and ours do not share versions.
PEERS_VENV  := .venv-peers
PEERS_READY := $(PEERS_VENV)/.ready
PEERS_NEED  := tests/benchmarks/peers/requirements.txt

$(PEERS_READY): $(PEERS_NEED)
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(PEERS_NEED)
	@touch $(PEERS_READY)

# Ratios to what stands beside it in the same run, into docs/performance.json and from there into the page and its plots;
# some 30 minutes, on a quiet machine. `make bench ONLY="client whole"` measures these again and leaves the rest.
ROUNDS    ?= 5
DOCUMENTS ?= 20000
BENCH     := $(BIN)/python -m tests.benchmarks --rounds $(ROUNDS) --documents $(DOCUMENTS) $(if $(ONLY),--only $(ONLY))
bench: $(READY) $(PEERS_READY)
	$(BENCH) --write

# The same, held against the last results: fails if a figure is worse than its band allows.
bench-check: $(READY) $(PEERS_READY)
	$(BENCH) --check

picture: $(READY)
	$(BIN)/python docs/record_quickstart.py

# The documentation as a site in build/site. A broken link fails.
site: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The page of a run; needs Chromium.
picture-report: $(READY)
	$(BIN)/python docs/picture_report.py

# The console; needs Chromium and its driver.
picture-console: $(READY)
	$(BIN)/python docs/picture_console.py

# What memsync says when things go wrong: docs/failures.md. Some two minutes.
failures: $(READY)
	$(BIN)/python docs/record_failures.py

# What is made of the models of the settings: the reference in docs/configuration.md, and the schema for editors.
reference: $(READY)
	PYTHONPATH=. $(BIN)/python docs/configuration_reference.py
	$(BIN)/memsync schema --write configs/memsync.schema.json

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) $(PEERS_VENV) .memsync configs/.memsync dist build
