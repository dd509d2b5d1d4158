# Everything one does with this repository. `make help` says what needs what.

.DEFAULT_GOAL := help
.PHONY: help run test test-all fleet lint bench

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Serve ./.mcp.json, or the built-in demo server (needs Rust alone)
	@echo "run: building mcp-edge (a development build; some minutes the first time), then serving until Ctrl-C"
	cargo run --bin mcp-edge

test: ## Unit, real-socket, conformance and third-party client tests (Rust, Node.js >= 20, Python >= 3.11)
	@tests/setup/install.sh fixtures clients
	@tests/setup/steps.sh build rust doc http conformance clients

test-all: ## The same, and the 21 real servers of the fleet (git, ripgrep, pandoc, PostgreSQL: from Debian when root)
	@tests/setup/install.sh fixtures clients fleet
	@tests/setup/steps.sh build rust doc http conformance clients fleet

fleet: ## Install 21 real MCP servers, pinned, and serve all of them until Ctrl-C
	@tests/setup/install.sh fleet
	cargo build --bin mcp-edge
	@exec python3 tests/fleet/serve.py

lint: ## Format, clippy, licences and bans
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@tests/setup/install.sh deny
	PATH="$(CURDIR)/.tools/bin:$$PATH" cargo deny --offline check bans licenses sources

bench: ## Measure against stdio alone and two other translators; writes load-tests/RESULTS.md
	@tests/setup/install.sh bench
	@load-tests/bench.sh
