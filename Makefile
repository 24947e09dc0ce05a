# Each target sets up what it needs by itself, in .venv. `make` alone lists them.
PYTHON ?=
PYTEST := .venv/bin/python -m pytest
WORKERS ?= 3
export HARBOR_TELEMETRY ?= off
# Bytecode is kept, wherever the machine says otherwise: each job's runner would compile Harbor anew (7 s instead of 1).
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo lab test deep check bench record docs lock clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: ## everything a developer needs, into .venv
	@PYTHON="$(PYTHON)" tools/setup test

demo: ## run real jobs here and now; ends with a table and demo/report.html
	@PYTHON="$(PYTHON)" tools/setup demo
	@.venv/bin/harbor-nb demo --output demo

lab: ## JupyterLab with the lessons
	@PYTHON="$(PYTHON)" tools/setup lab
	@.venv/bin/harbor-nb lab

test: ## the tests (5 minutes); docker and browser tests skip where these are missing
	@PYTHON="$(PYTHON)" tools/setup test
	$(PYTEST) -n $(WORKERS)

deep: ## what takes longer: big matrices, fuzzing, mutation, versions
	@PYTHON="$(PYTHON)" tools/setup deep
	$(PYTEST) -m deep --timeout 1800

check: ## formatting, lint, types, import arrows
	@PYTHON="$(PYTHON)" tools/setup test
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: ## ratios against named alternatives, printed
	@PYTHON="$(PYTHON)" tools/setup deep
	@for file in benchmarks/*.py; do echo "== $$file"; .venv/bin/python $$file || exit 1; done

record: ## make the recorded jobs anew from real runs (needs Docker)
	@PYTHON="$(PYTHON)" tools/setup test
	.venv/bin/python tools/record.py

docs: ## the docs site, into site/
	@PYTHON="$(PYTHON)" tools/setup deep
	.venv/bin/python tools/docs

lock: ## constraints.txt anew from pyproject.toml
	@PYTHON="$(PYTHON)" tools/setup test
	tools/lock

clean: ## remove what the other targets made
	rm -rf .venv demo jobs site build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis mutants
