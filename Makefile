# `make` alone lists the targets. What a target needs is set up first, by scripts/bootstrap.

BIN := .venv/bin
PYTHON_SCRIPTS = $(shell grep -rlE '^.!/.*python' scripts)
LOCK = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
	--only-binary :all: --generate-hashes --no-emit-index-url \
	--custom-compile-command 'make lock' --group build pyproject.toml

.PHONY: help run test test-services test-systemd test-long soak fuzz mutants check bench bench-planner \
	lock audit sbom install uninstall deb clean for-run for-dev for-bench

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-13s %s\n", $$1, $$2 }' Makefile

# The trap lets the demo end Ctrl-C in its own way, without a word of make's about it.
run: for-run ## See it work: the daemon and a simulated Keepa, until Ctrl-C
	@trap : INT; $(BIN)/python scripts/demo || [ $$? -eq 130 ]

# Three at a time on two cores, for nearly half of their time is waiting.
test: for-dev ## Run the tests
	@$(BIN)/pytest -n 3 --dist worksteal

test-services: for-dev ## Run the tests on a real Kafka and Elasticsearch, fetched first
	@PRICECHECK_SERVICES=required $(BIN)/pytest -m 'services and not long' --timeout 900

test-systemd: for-dev ## Run the tests on a real systemd, in a container; as root
	@$(BIN)/pytest -m 'long or not long' --timeout 600 tests/box

test-long: for-dev ## Run the tests too slow for every day
	@$(BIN)/pytest -m long --timeout 600

soak: for-dev ## Run the daemon for three minutes with all that can go wrong
	@$(BIN)/python scripts/soak

fuzz: for-dev ## Try made-up input on all that reads what strangers write, ten seconds each
	@$(BIN)/python scripts/fuzz

check: for-dev ## Lint, check the format and the types
	@$(BIN)/ruff check . $(PYTHON_SCRIPTS)
	@$(BIN)/ruff format --check . $(PYTHON_SCRIPTS)
	@$(BIN)/mypy pricecheck tests $(PYTHON_SCRIPTS)

mutants: for-bench ## Break what all rests on in every small way, and see a test fail
	@$(BIN)/python scripts/mutants

bench: for-bench ## Measure speed and memory
	@$(BIN)/python scripts/bench

bench-planner: for-dev ## Measure the planner against other policies
	@$(BIN)/python scripts/bench-planner

lock: for-dev ## Pin the newest release of every dependency
	@$(LOCK) --output-file requirements.lock
	@$(LOCK) --extra dev --constraints requirements.lock --output-file requirements-dev.lock
	@$(LOCK) --extra dev --extra bench --constraints requirements-dev.lock \
		--output-file requirements-bench.lock

audit: for-dev ## Ask the package index for advisories about what is pinned
	@$(BIN)/python scripts/audit

sbom: for-dev ## Write what an installed pricecheck consists of, as CycloneDX, in dist
	@$(BIN)/python scripts/sbom dist/pricecheck.cdx.json

install: ## Install the program and its systemd units here; as root
	@sh scripts/install

uninstall: ## Take them away again, but for config and data; as root
	@sh scripts/install remove

deb: ## Build a Debian package, in dist
	@sh scripts/deb

clean: ## Remove what was made here, .venv included
	rm -rf .venv .demo build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

for-run:
	@sh scripts/bootstrap run

for-dev:
	@sh scripts/bootstrap dev

for-bench:
	@sh scripts/bootstrap bench
