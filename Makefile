# Everything a contributor runs. `make setup` needs Python 3.11 or later and a working pip, nothing else.
SHELL := /bin/bash
PYTHON ?= python3
UV := $(shell command -v uv 2>/dev/null || echo .uv/bin/uv)
RUN := $(UV) run --locked --no-sync
DEMO := .demo
# One worker more than processors: tests wait for servers, browsers and clocks.
WORKERS := $(shell $(PYTHON) -c "import os; print((os.cpu_count() or 1) + 1)")
PYTEST := -n $(WORKERS) --dist worksteal --hypothesis-profile=same
export UV_PYTHON_DOWNLOADS := never
export UV_COMPILE_BYTECODE := 1
export DAGSTER_DISABLE_TELEMETRY := yes
unexport PYTHONDONTWRITEBYTECODE  # tests start many processes, and each would compile all modules again

.DEFAULT_GOAL := help
.PHONY: help setup setup-all packages iceberg-spark ministack demo dev test exhaustive ends environments ends-lock check format infra templates docs trust soak follow-soak audit bench clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

.uv/bin/uv:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv --require-hashes -r .ci/uv.txt

.venv/.locked: uv.lock pyproject.toml .ci/build_kernel.py ddb_lake/engine/native/record_kernel.c | $(UV)
	$(UV) sync --locked --quiet --inexact --reinstall-package ddb-lake
	@touch $@

setup: .venv/.locked  ## the environment in .venv, with .venv/bin/ddb-lake

.venv/.all: uv.lock pyproject.toml | $(UV)
	$(UV) sync --locked --quiet --group all
	@touch $@

setup-all: setup .venv/.all  ## the same with dbt, Spark, CDK and the documentation, which only tests need

build/iceberg-spark/.installed: .ci/iceberg-spark.txt | .venv/.all
	$(UV) venv --quiet --clear --python .venv/bin/python build/iceberg-spark
	$(UV) pip install --quiet --python build/iceberg-spark --require-hashes --build-constraints .ci/iceberg-spark.txt -r .ci/iceberg-spark.txt
	@touch $@

iceberg-spark: setup-all build/iceberg-spark/.installed  ## Spark 3.5 in build/iceberg-spark, which runs Iceberg's jar in exhaustive tests

build/ministack/.installed: .ci/ministack.txt | .venv/.all
	$(UV) venv --quiet --clear --python .venv/bin/python build/ministack
	$(UV) pip install --quiet --python build/ministack --require-hashes -r .ci/ministack.txt
	@touch $@

ministack: setup-all build/ministack/.installed  ## MiniStack in build/ministack, an AWS emulator of others that tests need

demo: setup  ## the whole path on the embedded AWS emulator, under two minutes
	$(RUN) ddb-lake demo --folder $(DEMO)

dev: setup  ## the Dagster UI on the demo lake, with the table still alive; FOLLOW=1 runs a follower beside it
	$(RUN) python -m ddb_lake.orchestration.dev --folder $(DEMO) $(if $(FOLLOW),--follow)

packages: setup-all  ## the system packages that tests need: MariaDB, PostgreSQL, Chromium and Java, by apt-get if it is permitted
	@$(RUN) python -m ddb_lake_tests.support.system_packages

test: setup-all packages ministack  ## the tests, with the same examples each time
	$(RUN) pytest $(PYTEST) ddb_lake_tests

exhaustive: setup-all packages iceberg-spark ministack  ## the tests that `make test` leaves out because they take long, and property tests with many examples
	$(RUN) pytest $(PYTEST) --effort exhaustive ddb_lake_tests

# `make ends SIZE=small`, which CI runs, leaves out the slow folders; the rest calls each function of pyiceberg and DuckDB that we call.
ENDS := $(addprefix ddb_lake_tests/,engine lake test_requirements.py \
  orchestration/test_component.py orchestration/test_definitions.py orchestration/test_yaml_attributes.py \
  $(if $(filter small,$(SIZE)),,core pipeline/load pipeline/apply pipeline/merge pipeline/read))

ENDS_PYTHON := $(shell $(PYTHON) -c "import sys; print('%d.%d' % sys.version_info[:2])")
NEWEST := build/ends/$(ENDS_PYTHON)/newest
# The oldest dependencies have wheels for Python 3.11 only.
OLDEST := $(if $(filter 3.11,$(ENDS_PYTHON)),build/ends/3.11/oldest)

$(NEWEST)/.installed $(OLDEST:%=%/.installed): build/ends/$(ENDS_PYTHON)/%/.installed: .ci/%.txt | $(UV)
	$(UV) venv --quiet --clear --python $(PYTHON) $(@D)
	$(UV) pip install --quiet --python $(@D) --require-hashes -r $<
	@touch $@

ends: $(NEWEST)/.installed $(OLDEST:%=%/.installed)  ## chosen tests with the oldest dependencies that the ranges allow, and with the newest ones
	$(NEWEST)/bin/python -m pytest $(PYTEST) -m "not duckdb_wheels" $(ENDS)
	$(if $(OLDEST),$(OLDEST)/bin/python -m pytest $(PYTEST) $(ENDS),@echo "the oldest dependencies have no wheels for this Python: they are tested with 3.11")

environments: iceberg-spark ministack $(NEWEST)/.installed $(OLDEST:%=%/.installed)  ## every environment in build that tests need

LOCK_END = $(UV) pip compile pyproject.toml --quiet --upgrade --python-version 3.11 --generate-hashes --no-annotate --no-header \
  --extra sandbox --extra aurora --extra lambdas --group ends

ends-lock: $(UV)  ## write .ci/oldest.txt and .ci/newest.txt anew from the ranges of pyproject.toml and the index
	$(LOCK_END) --extra s3 --extra launch --group readers --resolution lowest-direct --only-binary :all: --output-file .ci/oldest.txt
	$(LOCK_END) --universal --output-file .ci/newest.txt

check: setup-all  ## format, lint, types, import rules, definitions
	$(RUN) ruff format --check ddb_lake ddb_lake_tests
	$(RUN) ruff check ddb_lake ddb_lake_tests
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) dg check defs

format: setup  ## mend what ruff can
	$(RUN) ruff check --fix --quiet ddb_lake ddb_lake_tests || true
	$(RUN) ruff format ddb_lake ddb_lake_tests

infra: setup-all  ## synthesise every stack; cdk-nag, cfn-lint, checkov
	rm -rf build/infra
	$(RUN) python -m ddb_lake.infra check --out build/infra
	$(UV) venv --quiet --clear build/checkov
	$(UV) pip install --quiet --python build/checkov --require-hashes -r .ci/checkov.txt
	build/checkov/bin/checkov --framework cloudformation --skip-download --compact \
	  --soft-fail -o json -d build/infra/agnostic > build/infra/checkov.json
	$(RUN) python -m ddb_lake.infra checkov build/infra/checkov.json build/infra/agnostic

templates: setup-all  ## plain CloudFormation templates and Lambda packages in dist/templates
	$(RUN) python -m ddb_lake.infra templates --out dist/templates

docs: setup-all  ## the documentation in site/, warnings as errors
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build --strict --config-file ddb_lake/docs/mkdocs.yml

trust: setup-all packages iceberg-spark ministack  ## exhaustive tests, faults, histories, fuzzing and a soak, with figures; writes the table of faults
	$(RUN) python -m ddb_lake_tests.trust --write

soak: setup-all packages  ## histories with faults at random; MINUTES=60
	$(RUN) python -m ddb_lake_tests.trust soak --minutes $(or $(MINUTES),60)

follow-soak: setup-all  ## two followers in real time with faults at random; MINUTES=60
	$(RUN) python -m ddb_lake_tests.trust follow-soak --minutes $(or $(MINUTES),60)

audit: setup  ## known vulnerabilities of what is locked; needs the registry's advisories
	@mkdir -p build
	$(UV) export --locked --quiet --all-groups --all-extras --no-emit-project --output-file build/audit.txt > /dev/null
	$(UV) venv --quiet --clear build/pip-audit
	$(UV) pip install --quiet --python build/pip-audit --require-hashes -r .ci/pip-audit.txt
	build/pip-audit/bin/pip-audit --strict --disable-pip --require-hashes -r build/audit.txt

bench: setup-all packages  ## benchmarks against peers; SIZE=small for a quick pass, ARGS='--only apply' for a part
	$(RUN) python -m ddb_lake_tests.benchmarks $(if $(SIZE),--size $(SIZE)) $(ARGS)

clean:  ## remove what make made
	rm -rf .venv .uv $(DEMO)
