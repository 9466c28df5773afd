# What one does here. `make help` lists it.
#
# Every target makes .venv first if a lock has changed since (scripts/setup); nothing else needs to be installed but Python 3.11.

BIN := .venv/bin
.DEFAULT_GOAL := help
.PHONY: help setup run demo test check soak bench migrate fmt

help: ## Say what can be done here
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv from the locks (every other target does it by itself)
	@scripts/setup

run: setup ## Start the whole gateway here, with a mail drop behind it, in observe mode
	@exec $(BIN)/gatepost run

demo: setup ## Send thirty messages of all kinds and show what became of each
	@$(BIN)/python -m scripts.demo

test: setup ## Run all everyday tests (two at a time, some minutes)
	$(BIN)/pytest -n 2 --dist loadfile

check: setup ## Run the static checks: style, types, layers, sizes, docs, templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check_sizes.py
	$(BIN)/python scripts/check_patterns.py
	$(BIN)/python scripts/check_docs.py
	$(BIN)/python scripts/check_templates.py

soak: setup ## Load the gateway for a long time, with faults, and look for leaks and losses
	@scripts/setup requirements/heavy.txt
	$(BIN)/pytest tests/soak tests/flows/test_real_mail.py -m soak --timeout 0 -rs --durations 0

bench: setup ## Measure speed against what mail servers cost
	$(BIN)/python -m bench --profile

migrate: setup ## Bring the database to the newest schema
	@$(BIN)/gatepost migrate

fmt: setup ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
