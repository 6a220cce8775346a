# Every target creates what it needs. Python packages live in .venv, made from the lock files in requirements/.
.DEFAULT_GOAL := help
.PHONY: help venv demo check test coverage conformance lab lab-shell lint format bench docs release lock clean
BIN := .venv/bin
# Where a login lacks them, as that of su does.
export PATH := $(PATH):/usr/sbin:/sbin
TESTS ?= tests/unit tests/simulators tests/functional tests/integration tests/conformance
CHECKED := $(wildcard _utils _modules _states _runners _engines saltext setup.py demo tests tools docs/conf.py docs/_ext)

help:  ## Show this text
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-11s %s\n", $$1, $$2}'

venv:  ## Make .venv with everything for development
	@tools/venv.sh dev

demo:  ## Watch a volume live from creation to deletion, with a real master and two minions (as root)
	@if [ "$$(id -u)" != 0 ]; then echo "make demo attaches and mounts block devices, so it needs root: sudo make demo"; else \
	tools/packages.sh --demo && tools/venv.sh demo && $(BIN)/python demo/demo.py; fi

check: lint  ## Lint, types, prose, and the quick tests, which need neither root nor daemons, in about a minute; TESTS=… and K=… choose
	$(BIN)/python -m pytest -q -n 3 --dist worksteal --quick $(if $(K),-k "$(K)") $(or $(filter-out tests/simulators tests/functional tests/integration tests/conformance,$(wildcard $(TESTS))),$(error make check has no tests in "$(TESTS)"; make test may))

test: lint  ## Lint, then all tests but the lab's, and coverage; TESTS=tests/unit/bus chooses folders or files, K=expression tests by name
	@if [ "$$(id -u)" = 0 ]; then tools/packages.sh --tests; fi
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder --durations=15 --cov=saltstorage --cov-report= $(if $(K),-k "$(K)") $(wildcard $(TESTS))
	@echo "Coverage of the package, without the processes that tests start: $$($(BIN)/coverage report --format=total) %; make coverage shows the lines"

coverage: venv  ## The lines that the last make test did not reach, in build/coverage
	$(BIN)/coverage html --quiet --skip-covered --directory=build/coverage && echo build/coverage/index.html

conformance: venv  ## The tests that every provider must pass; BACKEND=acme.yaml is a backend's options, BACKEND=acme1 one of the master
	@if [ "$$(id -u)" = 0 ] && [ -z "$(BACKEND)" ]; then tools/packages.sh --tests; fi
	$(BIN)/python -m pytest -q --tb=short tests/conformance --thorough $(if $(BACKEND),--backend="$(BACKEND)") $(if $(MASTER),--master-config="$(MASTER)")

lab:  ## Real kernels, real protocols, in virtual machines (as root); SCENARIO=multipath runs one scenario, LONG=yes all, RECORD=yes for docs/verified.rst
	@if [ "$$(id -u)" != 0 ]; then echo "make lab makes network namespaces and mounts, so it needs root: sudo make lab"; exit 1; fi; \
	tools/packages.sh --lab && tools/venv.sh dev && export LAB_RECORD=$(filter yes,$(RECORD)) && \
	if [ -z "$(SCENARIO)" ]; then LAB_LONG=$(filter yes,$(LONG)) tests/lab/run.sh --all; \
	elif [ -e "tests/lab/test_$(SCENARIO).py" ]; then tests/lab/run.sh "tests/lab/test_$(SCENARIO).py"; \
	else echo "No such scenario; there are:" $(patsubst tests/lab/test_%.py,%,$(wildcard tests/lab/test_*.py)); exit 1; fi

lab-shell:  ## A running lab with a prompt on each host: a SAN on a laptop (as root)
	@if [ "$$(id -u)" != 0 ]; then echo "make lab-shell makes network namespaces and mounts, so it needs root: sudo make lab-shell"; exit 1; fi; \
	tools/packages.sh --lab && tools/venv.sh dev && tests/lab/run.sh --shell

lint: venv  ## Ruff (rules and format), mypy, and the prose of docs, docstrings and comments
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/python tools/prose.py

format: venv  ## Format the code and mend what Ruff can mend
	$(BIN)/ruff format $(CHECKED)
	$(BIN)/ruff check --fix $(CHECKED)

bench:  ## Measure speed and memory side by side with bare Salt, cinderlib and os-brick (as root)
	@if [ "$$(id -u)" != 0 ]; then echo "make bench attaches block devices, so it needs root: sudo make bench"; else \
	tools/packages.sh --tests && tools/venv.sh dev && $(BIN)/python tests/bench; fi

docs: venv  ## Build the documentation into docs/_build/html; warnings are errors
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

release: venv  ## Build the formula's archive, the wheel and their checksums from the commit, in build/release; DIRTY=yes takes uncommitted changes
	$(BIN)/python tools/release.py $(if $(filter yes,$(DIRTY)),--dirty)

lock: venv  ## Compile the lock files again; UPGRADE=--upgrade takes the newest versions
	requirements/compile.sh ../$(BIN)/uv $(UPGRADE)

clean:  ## Remove what the other targets made
	rm -rf .venv docs/_build build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
