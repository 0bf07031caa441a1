# `make` alone lists what there is. Each target does its own set-up.

PYTHON ?= python3
BIN := .venv/bin
PIPENV := 2026.10.3
# pipenv installs into .venv, whatever environment is active around it, and without a word of advice.
export PIPENV_VERBOSITY := -1
export VIRTUAL_ENV := $(CURDIR)/.venv

# A failure before a pipe counts.
SHELL := bash
.SHELLFLAGS := -o pipefail -c

.DEFAULT_GOAL := help
.PHONY: help run test test-compose test-docs prove prove-compose settings-page docs lint format lock audit shell logs screenshots clean bench load

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/ready .env ## The site on http://127.0.0.1:8000/ with Redis, workers, beat and Flower (PORT, FLOWER_PORT)
	@$(BIN)/python scripts/run.py

test: .venv/ready ## All tests (ARGS="-k export" for some)
	@$(BIN)/python -m pytest $(ARGS)

test-compose: .venv/ready ## The tests of the containers: needs Docker, takes minutes
	@COMPOSE_TESTS=1 $(BIN)/python -m pytest tests/compose -n 2 --durations=8 $(ARGS)

prove: .venv/ready ## Take each line of configuration out, and see its proof fail (ONLY, JOBS, ARGS="--again")
	@$(BIN)/python -m tests.proofs --only "$(ONLY)" --jobs $(or $(JOBS),6) $(ARGS)

prove-compose: .venv/ready ## The same for the lines of the Compose files: needs Docker
	@$(BIN)/python -m tests.proofs --compose --only "$(ONLY)" --jobs $(or $(JOBS),2) $(ARGS)

settings-page: .venv/ready ## Write docs/settings.md anew, without proving anything
	@$(BIN)/python -m tests.proofs.settings_doc

bench: .venv/ready ## Measure against stock Celery, side by side (ARGS="results calls admin backends" for some)
	@$(BIN)/python -m benchmarks $(ARGS)

load: .venv/load/ready ## The site in containers under load, with 1, 2 and 4 worker hosts: needs Docker
	@$(BIN)/python -m benchmarks.load

test-docs: .venv/ready ## Play the guide's chapters as written, and say what was executed
	@$(BIN)/python -m pytest tests/docs -n 2 -rP $(ARGS)

docs: .venv/ready ## The guide as a site, in var/docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Wrote var/docs/. To read it: $(BIN)/python -m http.server --directory var/docs"

lint: .venv/ready ## Check the code with ruff
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: .venv/ready ## Put the code into its standard form
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

lock: .venv/ready ## Pin the newest versions that Pipfile allows
	@$(BIN)/python scripts/lock.py

# --strict: what the service does not know counts as a failure. By default it is skipped, and all is well.
audit: .venv/ready ## Ask PyPI for known vulnerabilities of the packages in Pipfile.lock
	@$(BIN)/pipenv requirements --categories load --hash > .venv/requirements-load.txt
	@$(BIN)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
	  -r .venv/requirements.txt -r .venv/requirements-load.txt || { \
	  echo "make: not all is well. Either a package has a vulnerability, which is listed above, or the service could not be asked: then nothing is known."; exit 1; }

shell: .venv/ready .env ## Django's shell, with the models loaded
	@$(BIN)/python manage.py shell

logs: ## Follow the logs of `make run`
	@tail -n 20 -F var/log/*.log

screenshots: .venv/ready ## Make the pictures of the README anew
	@$(BIN)/python scripts/screenshots.py

clean: ## Remove the environment and everything the site wrote (not .env)
	@git clean -ffdXq .venv var .pytest_cache .ruff_cache
	@echo "Removed .venv and the contents of var/."

.env:
	@cp .env.example .env
	@echo "Wrote .env with the settings for development."

.venv/ready: Pipfile.lock
	@command -v $(PYTHON) >/dev/null || { echo "make: there is no $(PYTHON). Install Python 3.11 or newer, or name one: make PYTHON=python3.13 …"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or newer is needed, and $(PYTHON) is $$($(PYTHON) -V 2>&1). Name another: make PYTHON=python3.13 …"; exit 1; }
	@echo "Creating .venv with $$($(PYTHON) -V) …"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check pipenv==$(PIPENV)
	@echo "Installing the packages of Pipfile.lock …"
	@$(BIN)/pipenv requirements --dev --hash > .venv/requirements.txt
	@$(BIN)/python -m pip install --disable-pip-version-check -r .venv/requirements.txt | \
	  sed -un 's/^Collecting \([^ ;]*\).*/  \1/p; s/^Installing collected packages.*/  all downloaded, unpacking …/p'
	@touch $@

# Locust, and what comes with it, stays out of the environment of everything else.
.venv/load/ready: .venv/ready
	@$(BIN)/python -m venv .venv/load
	@$(BIN)/pipenv requirements --categories load --hash > .venv/load/requirements.txt
	@.venv/load/bin/python -m pip install --quiet --disable-pip-version-check -r .venv/load/requirements.txt
	@touch $@
