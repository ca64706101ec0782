PY := .venv/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: setup demo run test lint audit bench chaos messages screenshots

MINUTES ?= 10

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	python3 -m venv .venv
	$(PIP) -e '.[demo]'
	touch $@

.venv/.ready-dev: .venv/.ready
	$(PIP) -e '.[dev]'
	touch $@

demo: setup
	$(PY) manage.py demo

run: setup
	$(PY) manage.py up $(ARGS)

# Two at a time, each from an end of its own: neighbours share what takes seconds to start.
PYTEST := $(PY) -m pytest -n 2 --dist worksteal

# Everything on SQLite first, then on PostgreSQL what touches a database.
test: .venv/.ready-dev
	$(PYTEST) $(ARGS)
	TEST_DATABASE=postgres $(PYTEST) -m "not once" $(ARGS)

lint: .venv/.ready-dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	$(PY) -m bandit -q -c pyproject.toml -r config billing_app files_app batches_app manage.py
	$(PY) -m mypy .
	.venv/bin/lint-imports
	$(PY) manage.py makemigrations --check --dry-run
	$(PY) manage.py check

# What is pinned against pypi.org's list of vulnerabilities; fails also where that cannot be had. Its tools are not ours.
audit: .venv/.ready
	python3 -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.1
	.venv/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --strict

# SEED=n repeats the plan of a storm that printed it.
chaos: .venv/.ready-dev
	$(PY) -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench: .venv/.ready-dev
	$(PY) -m bench $(ARGS)

# The console's texts: what is new in the source comes into config/locale, to be translated there; run it again then.
messages: .venv/.ready-dev
	$(PY) -m tests.catalogue

screenshots: .venv/.ready-dev
	$(PY) -m tests.browser.screenshots $(ARGS)
