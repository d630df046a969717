# `make` lists what there is to do. CARGO_TARGET_DIR is honoured: cargo reads it itself.

VENV := target/venv
PYTHON := $(CURDIR)/$(VENV)/bin/python
REQUIREMENTS := tests/clients/requirements.txt benches/requirements.txt
BENCH_ROWS := 1000000
BENCH_PROFILE := dist
ROUNDS := 1000
REQUESTS := 100000
STATEMENTS := 100000
SLT :=
BENCH_DATA := target/bench-data/1m
FUZZ_SECONDS := 60
BUILT := $(or $(CARGO_TARGET_DIR),target)/debug/wattlake

.DEFAULT_GOAL := help
.PHONY: help demo build test fuzz crash canary hostile slt lint fmt bench clean tools

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s  %s\n", $$1, $$2 }' Makefile

demo: tools ## build Wattlake, load three invented projects and serve them on 127.0.0.1
	@test -x '$(BUILT)' || printf '%s\n' \
		'The first build takes about 10 to 25 minutes on two cores: it downloads and compiles Wattlake and the libraries that it' \
		'stands on (DataFusion, Delta Lake, SQLite) into one program, and needs about 4 GB of disk. The next start takes seconds.'
	cargo run --locked -- demo

build: tools ## build the program for daily use, into target/release/wattlake
	cargo build --locked --release

test: tools $(VENV)/installed ## run every test, also those that read the lake with DuckDB and deltalake (Python, in target/venv)
	python3 data/demo/make_demo.py --check >/dev/null
	CLIENTS_PYTHON='$(PYTHON)' cargo test --locked

fuzz: tools ## run each fuzz target for a minute (FUZZ_SECONDS=60), as many at once as there are cores
	FUZZ_SECONDS='$(FUZZ_SECONDS)' cargo test --locked --lib fuzz_ -- --nocapture

lint: tools ## check the format, and let no warning of the compiler or clippy pass
	cargo fmt --check
	cargo clippy --locked --all-targets -- --deny warnings

fmt: tools ## format the code
	cargo fmt

crash: tools ## kill the server, cut its power and damage its files, ROUNDS times each (as root, for the power cuts)
	CRASH_ROUNDS=$(ROUNDS) POWER_CUT_ROUNDS=$(ROUNDS) BIT_FLIPS=$(ROUNDS) \
		cargo test --locked --test it -- crash:: power_cut:: bit_flips:: disk_faults:: failpoints::

canary: tools ## look for texts of other tenants in the answers to REQUESTS requests of each other
	CANARY_REQUESTS=$(REQUESTS) cargo test --locked --test it -- canary::

hostile: tools ## make STATEMENTS of hostile SQL by chance, for the guard and the planner alone and for a server
	SQL_STATEMENTS=$(STATEMENTS) cargo test --locked --lib -- generated_statements --nocapture
	SQL_STATEMENTS=$(STATEMENTS) cargo test --locked --test it -- hostile_sql:: --nocapture

slt: tools $(VENV)/installed ## ask a server the queries of the .slt files in a folder (SLT=folder), such as the engine's own tests
	@test -d '$(SLT)' || { echo 'make slt SLT=folder: a folder of .slt files, such as datafusion/sqllogictest/test_files of its repository' >&2; exit 1; }
	cargo build --locked
	$(PYTHON) tests/clients/run_slt.py '$(BUILT)' '$(SLT)'

bench: tools $(BENCH_DATA)/manifest.json ## measure upload and every metric on a million rows, as packages are built (BENCH_PROFILE=dist)
	cargo bench --locked --profile $(BENCH_PROFILE)

clean: ## remove what was built and the demo's data, never your own data folder
	cargo clean
	rm -rf target wattlake-demo

tools:
	@command -v cargo >/dev/null || { echo 'Rust is missing: install it from https://rustup.rs, open a new shell and try again.' >&2; exit 1; }
	@command -v cc >/dev/null || { echo 'A C compiler is missing (SQLite and zstd are compiled with it). Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc; macOS: xcode-select --install.' >&2; exit 1; }

# The stamp is newer than the requirements when they are installed.
$(VENV)/installed: $(REQUIREMENTS)
	@echo 'Installing the Python readers of the tests into $(VENV) (about 400 MB, once)'
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'The tests need Python 3.11 or later as python3.' >&2; exit 1; }
	@python3 -m venv $(VENV) || { echo 'python3 cannot make a virtual environment. Debian, Ubuntu: apt-get install python3-venv.' >&2; exit 1; }
	$(PYTHON) -m pip install --quiet --disable-pip-version-check $(addprefix --requirement ,$(REQUIREMENTS))
	@touch $@

# The manifest is written last, so a set that was cut short is made again.
$(BENCH_DATA)/manifest.json: benches/gen_payments.py $(VENV)/installed
	$(PYTHON) benches/gen_payments.py --out $(BENCH_DATA) --rows $(BENCH_ROWS)
