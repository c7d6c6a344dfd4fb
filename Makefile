# make serve   set everything up and serve the demonstration application on all CPUs
# make test    set everything up and run all tests
#
# Both need Python 3.11 or newer. PYTHON=python3.13 chooses one; everything goes into a virtual environment, VENV.
# TESTS=tests/wire, or other arguments for pytest, has it run a part of the tests.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
FUZZ_S ?= 300
BENCH_VENV ?= .venv-bench
AUTOBAHN_VENV ?= .venv-autobahn
PYTHON2 ?= python2.7
# Node's frameworks take part where npm is there.
NODE_SERVERS := $(if $(shell command -v npm),bench/node/node_modules/.package-lock.json)
BIN := $(VENV)/bin

.PHONY: serve test check lint format docs fuzz bench bench-quick equality autobahn browser clean help

help:
	@sed -n 's/^# \?//p' $(firstword $(MAKEFILE_LIST)) | sed -n '1,5p'
	@echo 'make lint    format check, linter, types'
	@echo 'make check   lint and test'
	@echo 'make format  format the code'
	@echo 'make fuzz    fuzz the reader of request heads for FUZZ_S seconds, from the sources, then try what it found compiled'
	@echo 'make equality  prove that the accelerator changes nothing: the suites of FastAPI and Starlette, and more'
	@echo 'make autobahn  try WebSockets with Autobahn|Testsuite, all sections, for some minutes; needs PYTHON2=python2.7'
	@echo 'make browser  try WebSockets and event streams with a headless Chromium, which must be installed'
	@echo 'make docs    build the documentation into docs/_build'
	@echo 'make bench   compare with other servers, for about an hour, and put the figures into docs/performance.md'
	@echo 'make bench-quick  the same in some minutes, with fewer servers, into build/bench.json only'
	@echo 'make clean   remove what was made'

serve: $(VENV)/demo
	$(BIN)/fastserve demo --workers auto --port $(PORT)

test: $(VENV)/development
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal $(TESTS)

lint: $(VENV)/development
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

check: lint test

format: $(VENV)/development
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/python docs/generate.py

docs: $(VENV)/docs
	$(BIN)/python docs/generate.py --check
	$(BIN)/python -m sphinx -W -b html docs docs/_build

fuzz: $(VENV)/fuzz
	FASTSERVE_PURE=1 $(BIN)/python -m tests.fuzz.head -max_total_time=$(FUZZ_S)
	$(BIN)/python -m tests.fuzz.head -runs=0

bench: $(BENCH_VENV)/bench build/baseline $(NODE_SERVERS)
	$(BENCH_VENV)/bin/python -m bench --scenarios all --json docs/performance.json
	$(BENCH_VENV)/bin/python -m bench.report docs/performance.json

bench-quick: $(BENCH_VENV)/bench build/baseline
	$(BENCH_VENV)/bin/python -m bench --scenarios all --quick --json build/bench.json

equality: $(VENV)/development
	EQUALITY_ALL=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal tests/equality
	$(BIN)/python -m tests.equality.suites
	$(BIN)/python -m tests.equality.examples
	$(BIN)/python -m tests.equality.leaks

autobahn: $(VENV)/development $(AUTOBAHN_VENV)/autobahn
	AUTOBAHN_VENV=$(AUTOBAHN_VENV) $(BIN)/python -m tests.conformance.autobahn

browser: $(VENV)/development
	BROWSER=$${BROWSER:-chromium} $(BIN)/python -m pytest -rs tests/conformance/test_browser.py

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(AUTOBAHN_VENV) .venv-ci-* build dist docs/_build *.egg-info
	find fastserve -name '*.so' -delete

# One stamp for each set of dependencies. The hot modules are compiled anew when they have changed.

HOT := $(shell find fastserve -name '*.pxd' -o -name '*.pyx')
BUILT_FROM := setup.py setup.cfg pyproject.toml $(HOT) $(wildcard $(HOT:.pxd=.py))
SAY_WHAT = @echo 'Setting up $(VENV): packages from the index, and a minute or two of compiling.'
SAY_IF_SLOW := $(BIN)/fastserve --version | grep -q compiled \
	|| echo 'The hot modules could not be compiled (is there a C compiler?): everything works, but slower.'

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "fastserve needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.13" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/demo: $(BIN)/python $(BUILT_FROM)
	$(SAY_WHAT)
	@$(BIN)/python -m pip install --quiet --editable '.[demo]'
	@$(SAY_IF_SLOW)
	@touch $@

$(VENV)/development: $(BIN)/python $(BUILT_FROM)
	$(SAY_WHAT)
	@$(BIN)/python -m pip install --quiet --editable '.[demo,yaml,test,lint]'
	@$(SAY_IF_SLOW)
	@touch $@

# What is installed already is not built again for an extra.
$(VENV)/docs: $(VENV)/development
	$(BIN)/python -m pip install --quiet 'fastserve[docs]'
	@touch $@

$(VENV)/fuzz: $(VENV)/development
	$(BIN)/python -m pip install --quiet atheris==3.0.0
	@touch $@

# Autobahn|Testsuite is for Python 2.7, whose environments the last virtualenv that knew it can make.

$(AUTOBAHN_VENV)/autobahn:
	rm -rf $(AUTOBAHN_VENV)
	$(PYTHON2) -m pip install --quiet --target $(AUTOBAHN_VENV)/virtualenv 'virtualenv<20.16'
	PYTHONPATH=$(AUTOBAHN_VENV)/virtualenv $(PYTHON2) -m virtualenv --quiet $(AUTOBAHN_VENV)
	$(AUTOBAHN_VENV)/bin/pip install --quiet autobahntestsuite==0.8.2
	@touch $@

# The peers have an environment of their own, with pinned versions.

$(BENCH_VENV)/bench: bench/requirements.txt $(BUILT_FROM)
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install --quiet --requirement bench/requirements.txt --editable .
	@touch $@

build/baseline: bench/baseline.c
	mkdir -p build
	-$(CC) -O2 -o $@ $<

bench/node/node_modules/.package-lock.json: bench/node/package.json bench/node/package-lock.json
	npm ci --prefix bench/node --no-audit --no-fund
	@touch $@
