# `make help` lists what there is.
.DEFAULT_GOAL := help
SIM_FLAGS := --config "build.rustflags=['--cfg','madsim']" --target-dir target/sim
# Seeds of the bounded fuzz that is part of `make test`.
FUZZ_SEEDS ?= 0..200

.PHONY: help setup demo test test-real test-sim fuzz lab lint fmt clippy-real clippy-sim docs deny bench bench-cluster bench-shards bench-porcupine release mutants

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: ## install what the build needs, or say what to install
	@scripts/setup

demo: setup ## find a planted bug in the simulator, then run a real cluster through a crash
	@scripts/demo

test: setup ## all tests of both worlds, and a bounded fuzz with determinism check
	@scripts/timed "tests, real" scripts/cargo-tests real
	@scripts/timed "tests, simulated" scripts/cargo-tests sim
	@scripts/timed "fuzz, determinism" $(MAKE) --no-print-directory fuzz

fuzz: ## the swarm campaign, bounded
	cargo sim fuzz scenarios/swarm/kv.toml --seeds $(FUZZ_SEEDS) --check-determinism 20
	cargo sim fuzz scenarios/swarm/raft.toml scenarios/swarm/disk.toml scenarios/swarm/snapshot.toml --seeds 0..50 --check-determinism 10
	cargo sim fuzz scenarios/swarm/deposed.toml --seeds 0..10
	cargo sim fuzz scenarios/swarm/ctrler.toml --seeds 0..100 --check-determinism 10
	cargo sim fuzz scenarios/swarm/shardkv.toml --seeds 0..100 --check-determinism 10
	cargo sim core --seconds 20
	cargo sim core --machine shard --seconds 20
	cargo sim mutants --check
	cargo sim corpus run
	cargo sim model --distinct-min 2000000
	@scripts/same-digests kv=0..20 ctrler=0..6 shardkv=0..6
	@scripts/no-mutants

lab: setup ## eRaft's suites, ported: each scenario over 50 seeds, Figure 8 over 500
	cargo sim fuzz scenarios/lab/*.toml --seeds 0..50 --keep-going
	cargo sim fuzz scenarios/lab/TestFigure8*.toml --seeds 0..500 --keep-going

lint: setup ## formatting, clippy in both builds, documentation, dependencies
	@scripts/timed "fmt" $(MAKE) --no-print-directory fmt
	@scripts/timed "clippy, real" $(MAKE) --no-print-directory clippy-real
	@scripts/timed "clippy, simulated" $(MAKE) --no-print-directory clippy-sim
	@scripts/timed "docs" $(MAKE) --no-print-directory docs
	@scripts/timed "deny" $(MAKE) --no-print-directory deny

fmt:
	cargo fmt --all --check

clippy-real:
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p eraft --all-targets -- -D warnings

clippy-sim:
	cargo clippy $(SIM_FLAGS) --workspace --all-targets -- -D warnings

docs:
	cargo rustdoc -p eraft --lib -- -D warnings
	cargo rustdoc -p eraft-sim --lib -- -D warnings
	cargo rustdoc -p eraft-checker --lib -- -D warnings

deny:
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	else echo "cargo-deny is not installed: skipped (cargo install cargo-deny)"; fi

bench: setup ## throughput, latency and simulator speed, printed
	@scripts/bench

bench-cluster: setup ## what a dead follower, a million keys and nobody at all cost a real cluster
	@scripts/bench-cluster

bench-shards: setup ## two groups against one, and how long 100 MB of shards are on their way
	@scripts/bench-shards

bench-porcupine: ## the checker beside porcupine: GO=/path/to/go PORCUPINE=/path/to/its/source make bench-porcupine
	@cargo bench -p eraft-checker --bench porcupine

release: setup ## the release binary, without planted bugs: target/release/eraft
	cargo build --release -p eraft

mutants: setup ## how soon each planted bug is found, at every layer
	cargo sim mutants
