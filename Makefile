# Every target sets up what it needs, in .venv, on a machine with make, git and Python 3.11 or newer.
# `make` lists the targets. A certain Python: make PYTHON=python3.13 test

VENV := .venv
BIN := $(VENV)/bin
PYTHON ?=
ARGS ?=

# An environment that keeps Python from caching what it compiled would have each of the many processes compile anew.
unexport PYTHONDONTWRITEBYTECODE

# Pure tests run on all cores. Schedules bring their own processes, and tell how they get on. Real processes wait for
# timers more than they work, so two tests at a time; those that measure, or must not be disturbed, have the machine alone.
ALONE_TESTS := $(wildcard tests/test_docs.py tests/cluster/test_clients.py)
REAL_TESTS := $(filter-out $(ALONE_TESTS),$(filter-out %/__pycache__/,$(wildcard tests/cluster/*/) $(wildcard tests/cluster/test_*.py)))
SEEDED_TESTS := $(wildcard tests/small/ tests/sim/)
PURE_TESTS := $(filter-out $(ALONE_TESTS) $(SEEDED_TESTS) tests/cluster/ tests/docker/ tests/__pycache__/, \
    $(wildcard tests/*/ tests/test_*.py))

# $(call tests,which and how): 5 is how pytest says that ARGS has chosen none of them.
tests = { $(BIN)/python -m pytest $(1) $(ARGS) || [ $$? -eq 5 ]; }

define needs_redis
command -v redis-server >/dev/null || { \
    echo "make $@ compares with Redis, and redis-server is not installed."; \
    echo "On Debian or Ubuntu: apt-get install redis-server"; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help demo test check sim small leases ablations faults bench failover placement membership clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.runtime ## start three nodes on this machine and show what they do
	@$(BIN)/gimmal demo $(ARGS)

test: $(VENV)/.dev ## all tests but those with containers (ARGS="-k queue" to choose)
	@failed=0; \
	$(call tests,$(PURE_TESTS) -n auto --maxprocesses 8 --dist worksteal) || failed=1; \
	$(call tests,$(SEEDED_TESTS)) || failed=1; \
	$(call tests,$(REAL_TESTS) -n 2 --dist worksteal) || failed=1; \
	$(call tests,$(ALONE_TESTS)) || failed=1; \
	exit $$failed

check: $(VENV)/.dev ## lint, format, types, architecture and house rules
	@echo "ruff check" && $(BIN)/ruff check .
	@echo "ruff format --check" && $(BIN)/ruff format --check .
	@echo "mypy --strict" && $(BIN)/mypy
	@echo "lint-imports" && $(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest tests/test_tidy.py tests/test_architecture.py

sim: $(VENV)/.dev ## whole clusters in virtual time (SEEDS=1000, or SEED=7 to replay one)
	@$(BIN)/python -m tests.sim $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),100)) $(ARGS)

small: $(VENV)/.dev ## replicas in a small world (SEEDS=10000, or SEED=7 to replay one)
	@$(BIN)/python -m tests.small $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),10000)) $(ARGS)

leases: $(VENV)/.dev ## leases in a small world (SEEDS=1000, or SEED=7 to replay one)
	@$(BIN)/python -m tests.leases $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000)) $(ARGS)

ablations: $(VENV)/.dev ## take each rule of replication away, and see after how many schedules that is noticed (ARGS=--write for the page)
	@$(BIN)/python -m tests.small --ablations $(ARGS)

faults: $(VENV)/.dev ## real nodes, all kinds of faults, clients of keys and of queues that keep accounts (MINUTES=10 each, SEED=7 to plan it again)
	@$(BIN)/python -m pytest tests/cluster/storm --minutes $(or $(MINUTES),10) $(if $(SEED),--storm-seed $(SEED)) -v $(ARGS)
	@$(if $(SEED),,$(BIN)/python -m pytest tests/cluster/test_meta_group.py --tries $(or $(TRIES),30) --timeout 1800 -v $(ARGS))

bench: $(VENV)/.bench ## gimmal against Redis and queues on this machine (needs redis-server, nats-server, rabbitmq-server)
	@$(BIN)/python -m benchmarks $(ARGS)

failover: $(VENV)/.bench ## how long writes stop when nodes die, beside Redis (TRIES=30, needs redis-server)
	@$(needs_redis)
	@$(BIN)/python -m benchmarks.failover $(if $(TRIES),--tries $(TRIES)) $(ARGS)

placement: $(VENV)/.bench ## measure the placement of partitions and write its page
	@$(BIN)/python -m benchmarks.placement --write $(ARGS)

membership: $(VENV)/.bench ## simulate clusters of up to 1,000 nodes and write their page (an hour)
	@$(BIN)/python -m benchmarks.membership --write $(ARGS)

clean: ## remove .venv, caches and build products
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find gimmal tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps: .created is an empty virtual environment; the others say what was installed into it, and are older
# than pyproject.toml when that has to be done again.

$(VENV)/.runtime: pyproject.toml $(VENV)/.created
	@echo "Installing gimmal into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.bench: pyproject.toml $(VENV)/.created
	@echo "Installing gimmal and what the benchmarks need into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@ $(VENV)/.runtime

$(VENV)/.dev: pyproject.toml $(VENV)/.created
	@echo "Installing gimmal and the tools of its developers into $(VENV) (about a minute, once) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ $(VENV)/.runtime $(VENV)/.bench

$(VENV)/.created:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        found="$$python"; break; \
	    fi; \
	done; \
	if [ -z "$$found" ]; then \
	    echo "gimmal needs Python 3.11 or newer; $(or $(PYTHON),python3) is $$($(or $(PYTHON),python3) --version 2>&1)."; \
	    echo "Install one, or name it: make PYTHON=/path/to/python3.12 ..."; exit 1; \
	fi; \
	if ! "$$found" -c 'import ensurepip, venv' 2>/dev/null; then \
	    version=$$("$$found" -c 'import sys; print("%d.%d" % sys.version_info[:2])'); \
	    echo "$$found cannot make virtual environments: its venv module is not installed."; \
	    echo "On Debian or Ubuntu: apt-get install python3-venv (or python$$version-venv)"; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$found" --version) ..."; \
	"$$found" -m venv $(VENV) && touch $@
