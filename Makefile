# Everything is built into .venv from constraints.txt; a second run starts at once.
#   make demo      the environment and the main job: tables, and a folder of figures under runs/
#   make test      the environment and the tests           make test-all   with the slow ones
#   make check     ruff and mypy                           make bench      speed, as ratios
#   make figures   the README's figures                    make lock       resolve constraints.txt anew

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
INSTALL := $(BIN)/python -m pip install --quiet

.PHONY: demo test test-all check bench figures lock format clean

demo: .venv/demo.stamp
	$(BIN)/mnpo sim

test: .venv/dev.stamp
	$(BIN)/python -m pytest -m "not slow"

test-all: .venv/dev.stamp
	$(BIN)/python -m pytest

# mypy reads the package as it is installed, since only there the folders have their import names.
check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .venv/checked
	$(INSTALL) --no-deps --target .venv/checked .
	cd .venv/checked && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../mypy -p mnpo

bench: .venv/dev.stamp
	$(BIN)/python -m pytest benchmarks --benchmark-columns=median,iqr,rounds --benchmark-sort=name -s

figures: .venv/demo.stamp
	rm -rf runs/figures
	$(BIN)/mnpo sim --out runs/figures
	mkdir -p docs/figures
	cp runs/figures/composition.png runs/figures/gap.png docs/figures/

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/demo.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --editable .
	touch $@

.venv/dev.stamp: .venv/demo.stamp
	$(INSTALL) --editable ".[dev]"
	touch $@

# torch comes first and pinned: left to itself pip takes a build with gigabytes of CUDA.
lock:
	rm -rf .venv/lock
	$(PYTHON) -m venv .venv/lock
	env -u PIP_CONSTRAINT .venv/lock/bin/python -m pip install --quiet torch==2.13.0
	env -u PIP_CONSTRAINT .venv/lock/bin/python -m pip install --quiet ".[all,dev]" setuptools
	.venv/lock/bin/python -m pip freeze --all | grep -v -e '^mnpo' -e '^pip=' | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
