# Flashsale. `make` alone lists what it can do; each target's line is its comment after "##".
#
# Everything is installed into .venv, with hashes, from requirements/*.txt. A stamp file tells
# what is installed, so that a second `make run` starts at once.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8080
# These compute: more would only share the two cores.
TEST_PROCESSES ?= 2
# Some of these wait a little: two would leave the cores idle for a third of the time.
UNIT_PROCESSES ?= 3
# These wait for servers half of their time; a fourth process takes as long (340 s for 335).
WAITING_PROCESSES ?= 3
# These wait for each other, too.
DRILL_PROCESSES ?= 4

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# The package itself builds with what the hashes already brought.
PIP_SELF := $(PIP) --no-deps --no-build-isolation --editable .
TESTED := src tests docs/model docs/written bench deploy/grafana

.PHONY: help
help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 16

# ── use it ──────────────────────────────────────────────────────────────────────────────────

.PHONY: run
run: $(VENV)/.installed-run ## start API and worker in one process on http://127.0.0.1:8080 (PORT=8090)
	@exec $(BIN)/python -m flashsale run --port $(PORT)

.PHONY: clean-data
clean-data: ## forget the sales and orders that `make run` keeps in data/
	rm -rf data

.PHONY: servers
servers: $(VENV)/.installed-dev ## start real Redis, Kafka, registry, RabbitMQ, PostgreSQL; Ctrl-C stops them
	@exec $(BIN)/python -m tests.servers

.PHONY: up
up: ## start the same servers as containers, and print where they are (needs Docker)
	@scripts/up

.PHONY: down
down: ## stop the containers; what they keep stays in their volumes
	@scripts/up down

# ── work on it ──────────────────────────────────────────────────────────────────────────────

.PHONY: test
test: ## install what is missing, say so, and run every test
	@scripts/phase "Debian packages for the test servers" scripts/install-servers
	@scripts/phase "Python packages" $(MAKE) $(VENV)/.installed-dev
	@scripts/phase "Kafka and schema registry" scripts/fetch-servers $(BIN)/python
	@scripts/phase "Unit tests" $(MAKE) unit
	@scripts/phase "Models" $(MAKE) models
	@scripts/phase "Integration tests" $(MAKE) integration
	@scripts/phase "Anti-tests that need no server" $(MAKE) antitests-short
	@scripts/phase "Faults" $(MAKE) drills
	@scripts/phase "Contracts" $(MAKE) contracts
	@scripts/phase "Benchmark, whether it works" $(MAKE) bench-smoke
	@scripts/phase "Documentation" $(MAKE) docs
	@scripts/phase "Deployment" $(MAKE) deploy-check

.PHONY: unit
unit: $(VENV)/.installed-dev ## the tests that need no server
	@$(BIN)/python -m pytest tests/unit -m "not model" -n $(UNIT_PROCESSES) --dist worksteal

.PHONY: models
models: $(VENV)/.installed-dev ## the short forms of the protocol's model and of the model test
	@$(BIN)/python -m pytest tests/unit -m model -n $(TEST_PROCESSES) --dist worksteal

.PHONY: integration
integration: $(VENV)/.installed-dev ## the tests on real servers, which they start themselves
	@together=0; $(BIN)/python -m pytest tests/integration --durations=12 -m "not alone and not long" \
		-n $(WAITING_PROCESSES) --dist loadfile || together=$$?; \
	alone=0; $(BIN)/python -m pytest tests/integration --durations=12 -m "alone and not long" || alone=$$?; \
	test $$alone -ne 5 || alone=0; \
	exit $$((together ? together : alone))

.PHONY: antitests
antitests: $(VENV)/.installed-dev ## take each protective mechanism out of a copy; its test must go red
	@$(BIN)/python -m tests.antitests

.PHONY: antitests-short
antitests-short: $(VENV)/.installed-dev ## the same, of a fifth of those whose tests need no server
	@$(BIN)/python -m tests.antitests --short

.PHONY: drills
drills: $(VENV)/.installed-dev ## kill -9 at every point, dying servers, delays and errors, and the judge of it all
	@$(BIN)/python -m pytest tests/faults --durations=8 -m "not long and not alone" -n $(DRILL_PROCESSES) --dist loadgroup
	@$(BIN)/python -m pytest tests/faults --durations=8 -m "alone and not long"

.PHONY: faults
faults: $(VENV)/.installed-dev ## break everything on both buses, SECONDS=600 on each, drawn from SEED
	@$(BIN)/python -m tests.faults.campaign --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m tests.faults.restarts --restarts 20

.PHONY: restarts
restarts: $(VENV)/.installed-dev ## restart APIs 20 times under 1,000 buyers a second (RESTARTS=2 RATE=500 BUS=kafka)
	@$(BIN)/python -m tests.faults.restarts --restarts $(or $(RESTARTS),20) --rate $(or $(RATE),1000) --bus $(or $(BUS),rabbitmq)

.PHONY: outages
outages: $(VENV)/.installed-dev ## how long buyers wait while Redis or the broker is dead (BUS=kafka)
	@$(BIN)/python -m tests.faults.outages --bus $(or $(BUS),rabbitmq)

.PHONY: long
long: $(VENV)/.installed-dev ## the tests and drills that take minutes each, on the other bus too
	@$(BIN)/python -m pytest tests/integration tests/faults -m long -n $(TEST_PROCESSES) --dist loadfile

.PHONY: bench
bench: $(VENV)/.installed-dev ## measure every scenario on real servers, with its proof (QUICK=1)
	@$(BIN)/python -m bench $(if $(QUICK),--quick)

.PHONY: bench-smoke
bench-smoke: $(VENV)/.installed-dev ## the benchmark's shortest form: whether it works, not how fast
	@$(BIN)/python -m bench --smoke

.PHONY: profile
profile: $(VENV)/.installed-dev ## show where the microseconds of the hot path and of the drain go
	@$(BIN)/python -m bench.profiling

.PHONY: board
board: $(VENV)/.installed-dev ## sell to a crowd, and draw docs/pictures/board.png from Prometheus' answers
	@$(BIN)/python deploy/grafana/board.py > deploy/grafana/dashboards/flashsale.json
	@$(BIN)/python -m tests.board

.PHONY: docs
docs: $(VENV)/.installed-dev ## build the pages' site strictly into build/site, run their code, look names up
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@$(BIN)/python -m pytest tests/docs -n $(TEST_PROCESSES) --dist load

.PHONY: written
written: $(VENV)/.installed-dev ## write anew what the pages take from the code: tables, references, pictures
	@$(BIN)/python -m flashsale.settings_table > docs/settings.md
	@$(BIN)/python -m flashsale_prometheus > docs/metrics.md
	@$(BIN)/python -m tests.antitests --page > docs/guarantees.md
	@$(BIN)/python -m bench.scaling
	@$(BIN)/python -m docs.written
	@$(MAKE) contract-documents

.PHONY: deploy-check
deploy-check: $(VENV)/.installed-dev $(VENV)/.installed-crds ## check container, cluster, Terraform and workflow files without a cluster
	@$(BIN)/python -m pytest tests/deploy -n $(TEST_PROCESSES) --dist load

.PHONY: contracts
contracts: $(VENV)/.installed-dev ## let AsyncAPI's own parser judge the document of all messages
	@scripts/fetch-asyncapi-parser $(BIN)/python
	@$(BIN)/python -m pytest tests/contracts

.PHONY: contract-documents
contract-documents: $(VENV)/.installed-dev ## write docs/asyncapi.json, events.md and openapi.json anew
	@$(BIN)/python -m flashsale.asyncapi > docs/asyncapi.json
	@$(BIN)/python -m flashsale.asyncapi.page > docs/events.md
	@$(BIN)/python -m flashsale.http > docs/openapi.json

.PHONY: release-contracts
release-contracts: $(VENV)/.installed-dev ## keep schemas and documents as those of a release (VERSION=1.1.0)
	@scripts/release-contracts $(BIN)/python $(VERSION)

.PHONY: model
model: ## search the protocol's model exhaustively (docs/model; plain Python, some minutes)
	@$(PYTHON) -m docs.model

.PHONY: rebuild-speed
rebuild-speed: $(VENV)/.installed-dev ## measure how long a lost gate of 100,000 purchases takes to load
	@$(BIN)/python -m tests.faults.rebuild_speed

.PHONY: model-test
model-test: $(VENV)/.installed-dev ## a million random commands with crashes, in simulated time (SEED=7 COMMANDS=20000)
	@$(BIN)/python -m tests.simulation.run --seed $(or $(SEED),0) --commands $(or $(COMMANDS),1000000)

.PHONY: check
check: $(VENV)/.installed-dev ## format, lint, types, import rules, unit tests
	@scripts/phase "Format" $(BIN)/ruff format --check $(TESTED)
	@scripts/phase "Lint" $(BIN)/ruff check $(TESTED)
	@scripts/phase "Types" $(BIN)/mypy
	@scripts/phase "Import rules" $(BIN)/lint-imports
	@scripts/phase "Unit tests" $(MAKE) unit

.PHONY: format
format: $(VENV)/.installed-dev ## format the code and mend what the linter can mend
	@$(BIN)/ruff check --fix --quiet $(TESTED) || true
	@$(BIN)/ruff format $(TESTED)

.PHONY: newcomer
newcomer: ## do what README's first section says on a bare Debian (root and debootstrap)
	@scripts/newcomer

.PHONY: release-check
release-check: $(VENV)/.installed-dev ## build the wheel, install it in fresh environments, use it there
	@scripts/phase "Wheel in fresh environments" scripts/release-check $(BIN)/python

.PHONY: lock
lock: $(VENV)/.installed-dev ## pin the newest versions that fit, with hashes
	@scripts/lock $(BIN)/uv

# ── installed ───────────────────────────────────────────────────────────────────────────────

$(BIN)/python:
	@echo "Creating $(VENV) …"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Flashsale needs Python 3.11 or later; $(PYTHON) is older (make PYTHON=…)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

# dev.txt holds all of run.txt, at the same versions: after `make test` there is nothing to add.
$(VENV)/.installed-run: requirements/run.txt pyproject.toml | $(BIN)/python
	@if [ -e $(VENV)/.installed-dev ]; then $(MAKE) $(VENV)/.installed-dev; else \
		echo "Installing what the embedded default needs (requirements/run.txt) …"; \
		$(PIP) --require-hashes --requirement requirements/run.txt; \
		$(PIP_SELF); \
	fi
	@touch $@

$(VENV)/.installed-dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing everything and the test tools (requirements/dev.txt) …"
	@$(PIP) --require-hashes --requirement requirements/dev.txt
	@$(PIP_SELF)
	@touch $@

# Apart from the rest: one of them brings a pytest plugin.
$(VENV)/.installed-crds: requirements/crds.txt | $(VENV)/.installed-dev
	@echo "Installing schemas of custom resources (requirements/crds.txt) …"
	@$(PIP) --require-hashes --upgrade --target $(VENV)/crds --requirement requirements/crds.txt
	@touch $@
