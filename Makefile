# Everything is built into .venv from constraints.txt; a second run starts at once.
#   make demo      the environment and the main job: tables, and a folder of figures under runs/
#   make test      the environment and the tests           make test-all   with the slow ones
#   make check     ruff, mypy and the ways of imports      make bench      speed, as ratios
#   make docs      the lists of docs/reference             make figures    the figures of docs/
#   make lock      resolve constraints.txt anew

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1
INSTALL := $(BIN)/python -m pip install --quiet

.PHONY: demo test test-all check bench docs figures lock format clean

demo: .venv/demo.stamp
	$(BIN)/mnpo sim

# Two at a time with one thread each: most tests cannot use more.
PYTEST := env OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test: .venv/dev.stamp
	$(PYTEST) -m "not slow"

test-all: .venv/dev.stamp
	$(PYTEST)

# mypy and import-linter read the package as it is installed: only there the folders have their import names.
check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf .venv/checked
	$(INSTALL) --no-deps --target .venv/checked .
	cd .venv/checked && ../bin/mypy --config-file ../../pyproject.toml --cache-dir ../mypy -p mnpo
	cd .venv/checked && PYTHONPATH=. ../bin/lint-imports ../../pyproject.toml --no-cache

bench: .venv/dev.stamp
	$(BIN)/python -m pytest benchmarks --benchmark-columns=median,iqr,rounds --benchmark-sort=name -s

# With SUSHI=path of PrefLib's 00014-00000001.soc the figure of that file as well.
figures: .venv/demo.stamp
	rm -rf runs/figures
	mkdir -p docs/figures
	$(BIN)/mnpo sim --out runs/figures/study
	$(BIN)/mnpo sim rates random --tau 0.01 --out runs/figures/rates
	$(BIN)/mnpo sim sweep random transitive-cyclic embedding --rules td-mnpo,onpo,egpo --players 2,3,4,5 \
		--tau 0.01 --eta 0.2,0.5,1,2,5,10 --seeds 20 --steps 6000 --jobs 2 --out runs/figures/sweep
	$(BIN)/mnpo sim check --out runs/figures/check
	cp runs/figures/study/headline.png runs/figures/rates/stable-region.png runs/figures/check/verdicts.png docs/figures/
	cp runs/figures/sweep/sweep-1.png docs/figures/sweep-random.png
ifdef SUSHI
	$(BIN)/mnpo sim compare $(SUSHI) --players 2,3,4,6,10 --tau 0.05 --out runs/figures/sushi
	cp runs/figures/sushi/composition.png docs/figures/sushi-composition.png
endif

# The lists of docs/reference, from the code.
docs: .venv/dev.stamp
	$(BIN)/python docs/generate.py

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
