# Signalbox. `make run` starts everything, `make test` checks everything; both set themselves up.

UV_VERSION := 0.13.9
export UV_PYTHON_DOWNLOADS := never

# Overridable: make run ARGS=--no-demo PORT=8001, make drill NAME=worker-killed TRIALS=20
ARGS ?=
NAME ?=
TRIALS ?= 3
WORLDS ?= 2000
PYTHONS ?= 3.11 3.13

.PHONY: help run test bench nightly test-pythons format drill setup setup-dev clean

help:
	@echo "make run      start Signalbox in this terminal (ARGS=--no-demo, PORT=8001)"
	@echo "make test     every check: lint, types, boundaries, templates, tests"
	@echo "make nightly  what takes long: 2,000 random worlds where tests make them up, pages in every look, 20 trials of every failure"
	@echo "make test-pythons   the tests that need no engine, on the oldest and the newest Python"
	@echo "make bench    every measurement of docs/speed.md, taken again; wants a machine with nothing else to do"
	@echo "make drill    the five failures against a stack of its own (NAME=..., TRIALS=20)"
	@echo "make format   format Python and templates"
	@echo "make clean    remove what was installed and cached; the state in .signalbox stays"

run: setup
	@exec .venv/bin/python manage.py up $(ARGS)

test: setup-dev
	@exec tests/run $(ARGS)

# All, whatever becomes of the first. WORLDS=100 for less.
nightly: setup-dev
	@failed=0; \
	.venv/bin/python -m pytest -n 2 -m made_up --histories $(WORLDS) $(ARGS) || failed=1; \
	.venv/bin/python -m pytest -m browser --every-look $(ARGS) || failed=1; \
	.venv/bin/python manage.py drill --trials 20 || failed=1; \
	.venv/bin/python manage.py drill refresh-killed --trials 20 || failed=1; \
	exit $$failed

# Each in an environment of its own; one that is not on the PATH is skipped, and said so.
test-pythons: .uv/bin/uv
	@for version in $(PYTHONS); do \
	  if ! python$$version -c '' 2>/dev/null; then echo "  There is no Python $$version here: skipped"; continue; fi; \
	  echo "  Python $$version"; \
	  export UV_PROJECT_ENVIRONMENT=.uv/python$$version; \
	  .uv/bin/uv sync --frozen --quiet --python "python$$version" || exit 1; \
	  $$UV_PROJECT_ENVIRONMENT/bin/python -m pytest -m "not engines and not browser and not drill" $(ARGS) || exit 1; \
	done

bench: setup-dev
	@exec .venv/bin/python -m bench

drill: setup
	@exec .venv/bin/python manage.py drill $(NAME) --trials $(TRIALS) $(ARGS)

format: setup-dev
	@.venv/bin/python -m ruff check --fix .
	@.venv/bin/python -m ruff format .
	@find templates -name '*.html' -print0 | xargs -0 .venv/bin/djade --target-version 5.2

setup: .uv/bin/uv
	@began=$$(date +%s); \
	.uv/bin/uv sync --frozen --quiet --no-dev --inexact || exit 1; \
	echo "  Set up in $$(( $$(date +%s) - began )) s"

setup-dev: .uv/bin/uv
	@began=$$(date +%s); \
	.uv/bin/uv sync --frozen --quiet || exit 1; \
	echo "  Set up in $$(( $$(date +%s) - began )) s"

# uv, in an environment of its own, with the first suitable Python that really runs.
.uv/bin/uv: Makefile
	@if [ "$$(.uv/bin/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" ]; then \
	  touch .uv/bin/uv; exit 0; \
	fi; \
	for python in python3.12 python3.13 python3.11 python3 python; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then \
	    found=$$python; break; \
	  fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "Signalbox needs Python 3.11, 3.12 or 3.13, and none of them is on the PATH." >&2; \
	  if python3 -c 'import sys; sys.exit(sys.version_info < (3, 14))' 2>/dev/null; then \
	    echo "There is $$(python3 --version). For that there is no wheel yet of wordllama, which makes the vectors" \
	      "that agents search the data by. Put another Python beside it: apt-get install python3.13," \
	      "brew install python@3.13, or pyenv install 3.13." >&2; \
	  fi; \
	  exit 1; \
	fi; \
	echo "  Setting up with $$($$found --version); the first time takes about a minute"; \
	rm -rf .uv; \
	$$found -m venv .uv || { \
	  echo "This Python cannot make environments. On Debian and Ubuntu: apt-get install python3-venv" >&2; \
	  exit 1; \
	}; \
	.uv/bin/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"

clean:
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
