# make run · test · check · bench. Each does its own set-up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
MAKEFLAGS += --no-print-directory

.PHONY: help run test check bench faults lock audit clean

help:
	@echo "make run    start the sandbox service on http://127.0.0.1:8080 and show a sample card"
	@echo "make test   set up and run everything that CI runs"
	@echo "make check  check the knowledge pack and hunt for mutants that no case notices"
	@echo "make bench  measure a decision against a floor in the same run"
	@echo "make faults kill -9 under load, 10,000 calls against a faulty FHIR server, slow callers, restarts (half an hour)"
	@echo "make lock   renew the hash-locked requirements, their bill of materials and licences"
	@echo "make audit  known vulnerabilities of what is locked (ADVISORIES=all.zip where none can be reached)"

$(VENV)/.run: setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make run PYTHON=python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run setup.cfg tests/units/package.json tests/deployment/package.json tests/client/package-lock.json tests/oidc/package-lock.json
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e '.[test]'
	@cd tests/units && npm install --silent --no-audit --no-fund
	@cd tests/deployment && npm install --silent --no-audit --no-fund
	@cd tests/client && npm ci --silent --no-audit --no-fund
	@cd tests/oidc && npm ci --silent --no-audit --no-fund
	@touch $@

run: $(VENV)/.run
	@$(BIN)/cds-service serve

test: $(VENV)/.test
	@command -v postgres /usr/lib/postgresql/*/bin/postgres >/dev/null || echo "PostgreSQL is missing, its tests are skipped: apt-get install -y postgresql"
	@command -v chromium >/dev/null || echo "Chromium is missing, its tests are skipped: apt-get install -y chromium"
	$(BIN)/ruff check cds_service tests
	$(BIN)/ruff format --check cds_service tests
	$(BIN)/mypy
	$(BIN)/cds-service check
	$(BIN)/cds-service mutate
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.test
	$(BIN)/cds-service check
	$(BIN)/cds-service mutate

bench: $(VENV)/.test
	$(BIN)/python tests/bench_service.py
	$(BIN)/python tests/bench_rules.py
	$(BIN)/python tests/bench_store.py
	$(BIN)/python tests/bench_operations.py
	$(BIN)/python tests/bench_desk.py
	$(BIN)/python tests/bench_pages.py
	$(BIN)/python tests/bench_audit.py --patients 2000 20000
	$(BIN)/python tests/bench_spark.py --patients 2000 20000

faults: $(VENV)/.test
	$(BIN)/python tests/kill9.py --kills 60
	$(BIN)/python tests/faults_fhir.py
	$(BIN)/python tests/serving.py

COMPILE := $(BIN)/python -m piptools compile --quiet --generate-hashes --strip-extras --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links --no-header --allow-unsafe

lock: $(VENV)/.test
	$(BIN)/python -m pip install -qq --disable-pip-version-check pip-tools
	$(COMPILE) --output-file requirements.lock setup.cfg
	echo 'setuptools>=77' | $(COMPILE) --no-annotate --output-file docs/deploy/build.lock -
	rm -rf build/locked && $(PYTHON) -m venv build/locked
	build/locked/bin/python -m pip install -qq --disable-pip-version-check --require-hashes --only-binary :all: -r requirements.lock
	$(BIN)/python tests/supply_chain.py build/locked/bin/python

audit: $(VENV)/.test
	$(BIN)/python tests/audit.py $(if $(ADVISORIES),--advisories $(ADVISORIES))

clean:
	rm -rf $(VENV) build dist *.egg-info tests/units/node_modules tests/deployment/node_modules tests/client/node_modules tests/oidc/node_modules
