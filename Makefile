# Every target makes the environment it needs. On a fresh machine with Python 3.10 or newer, `make demo` is one command from nothing to textures.
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(sort $(wildcard nbs/*.ipynb nbs/*/*.ipynb))
# Two or more tests at once, one thread each, are faster than one test with two threads.
WORKERS ?= $(shell getconf _NPROCESSORS_ONLN)

# What the formatter shapes. Exported modules are linted as well; nbdev decides how they look.
SOURCES := nbs tests tools setup.py

.PHONY: demo help test test-long hostile coverage lint format types programs studio lab bench export refresh readme docs clean
.DEFAULT_GOAL := demo

.venv/ready: settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "wearable-imagenet needs Python 3.10 or newer; $(PYTHON) is older: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,docs]'
	@touch $@

demo: .venv/ready  ## textures from the embedded data, in runs/demo
	$(BIN)/wearable-imagenet demo

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-9s  %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# Tests open lessons in a browser and prints in other people's programs. Where they are missing, root on Debian gets them; everybody else gets a line, and those tests are skipped.
programs:  ## the browser and the programs for prints that tests look with
	@{ command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null && command -v exiftool >/dev/null && command -v identify >/dev/null \
	|| { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium fonts-dejavu-core libimage-exiftool-perl imagemagick >/dev/null; } \
	|| echo "not every test will run: install Chromium, exiftool and ImageMagick (Debian: apt-get install chromium libimage-exiftool-perl imagemagick)"

test: .venv/ready programs  ## every test, the notebooks' cells included
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n $(WORKERS) --dist worksteal --durations 10 $(ARGS)

TESTS ?= tests/test_harm.py tests/test_kill.py tests/test_ranks.py tests/test_site.py tests/browser/test_site.py
test-long: .venv/ready programs  ## all of the harm that tests do to runs and to ranks, and the site in a browser, some half an hour
	WEARABLE_IMAGENET_LONG=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(TESTS) -n $(WORKERS) --dist worksteal --durations 10 $(ARGS)

hostile: .venv/ready programs  ## every test once more, as on other people's machines: see tools/hostile.py
	$(BIN)/python tools/hostile.py -n $(WORKERS) --dist worksteal --durations 10 $(ARGS)

coverage: .venv/ready programs  ## which lines of the package no test runs; notebooks and commands count
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests -n $(WORKERS) --dist worksteal -p tools.cells --cov --cov-report=term $(ARGS)

lint: .venv/ready  ## say what is wrong with style, and change nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check $(SOURCES)

format: .venv/ready  ## put style right in notebooks, tests and tools; export the notebooks
	$(BIN)/ruff check --fix-only $(SOURCES)
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/nbdev_export

types: .venv/ready  ## check the types of exported modules
	$(BIN)/mypy

studio: .venv/ready  ## the makers' way on a page in the browser: photographs in, cloth out
	$(BIN)/wearable-imagenet studio $(ARGS)

lab: .venv/ready  ## JupyterLab on the lessons
	$(BIN)/jupyter lab --notebook-dir=nbs --LabApp.default_url=/lab/tree/tutorials/01_no_border.ipynb $(if $(filter 0,$(shell id -u)),--allow-root) $(ARGS)

bench: .venv/ready  ## how fast the hot path is on this machine; writes runs/bench.json
	$(BIN)/python tools/bench.py $(ARGS)

export: .venv/ready  ## nbs/ -> wearable_imagenet/
	$(BIN)/nbdev_export

refresh: .venv/ready  ## run the notebooks from top to bottom and save their outputs
	$(BIN)/python tools/refresh.py $(NOTEBOOKS)
	$(BIN)/nbdev_clean

readme: .venv/ready  ## nbs/index.ipynb -> README.md
	$(BIN)/python tools/readme.py > README.md.new && mv README.md.new README.md

docs: .venv/ready  ## the site, from notebooks as they are, in _docs/html/
	$(BIN)/python tools/website.py

clean:  ## remove what can be made again, except runs/
	rm -rf .venv _proc _docs build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage*
