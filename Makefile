# Everything runs inside .venv, which is made and filled from constraints.txt where it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# A second environment: the newest torch, with what torch brings, and the rest of constraints.txt; and what to test there.
NEWEST := .venv-newest
NEAR_TORCH := $(addprefix tests/,rounding quantizers losses test_metrics.py model training gpu)
OF_TORCH := ^(torch|torchaudio|triton|nvidia-.*|cuda-.*)==
# Hydra overrides for `make train`, such as ARGS="quantizer=fourier seed=1"
ARGS ?=

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@echo "installing about 6 GB into $(VENV), which takes some minutes"
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

.PHONY: install
install: $(INSTALLED) ## make .venv and install everything (about 6 GB, torch is most of it)

.PHONY: train
train: $(INSTALLED) ## train a small model on the recordings in data/ (ARGS="quantizer=fourier")
	$(BIN)/python train.py $(ARGS)

.PHONY: tensorboard
tensorboard: $(INSTALLED) ## look at the runs in logs/ (http://localhost:6006)
	@echo "side by side: http://localhost:6006/#custom_scalars&_smoothingWeight=0"
	$(BIN)/tensorboard --logdir logs

.PHONY: test
test: $(INSTALLED) ## run the tests, slow ones included
	$(BIN)/pytest --numprocesses auto --dist worksteal

$(NEWEST)/.installed: pyproject.toml constraints.txt
	@test -d $(NEWEST) || $(PYTHON) -m venv $(NEWEST)
	grep --extended-regexp --invert-match '$(OF_TORCH)' constraints.txt > $(NEWEST)/constraints.txt
	$(NEWEST)/bin/pip install --quiet --disable-pip-version-check --no-compile --upgrade \
		--constraint $(NEWEST)/constraints.txt --editable ".[dev]"
	@touch $@

.PHONY: install-newest
install-newest: $(NEWEST)/.installed ## make .venv-newest: the newest torch, all else as in .venv

.PHONY: test-newest
test-newest: $(NEWEST)/.installed ## run the fast tests of what is nearest to torch, with the newest
	$(NEWEST)/bin/python -c 'import torch, torchaudio; print("torch", torch.__version__, "torchaudio", torchaudio.__version__)'
	$(NEWEST)/bin/pytest -m "not slow" --numprocesses auto --dist worksteal $(NEAR_TORCH)

.PHONY: gpu-check
gpu-check: $(INSTALLED) ## two minutes: does the GPU do everything, and how fast
	$(BIN)/python benchmarks/gpu.py --out logs/gpu-check --minutes 2 \
		--only environment --only training --only compiled --only coding --only ddp

.PHONY: check
check: $(INSTALLED) ## lint, format and type check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: docs
docs: $(INSTALLED) ## build the documentation as a site in site/
	$(BIN)/mkdocs build --strict

# python benchmarks/remake.py --help describes the arguments
.PHONY: benchmarks
benchmarks: $(INSTALLED) ## measure anew what was measured at an older release: many hours (ARGS="--corpus corpus")
	$(BIN)/python benchmarks/remake.py $(ARGS)

.PHONY: pictures
pictures: $(INSTALLED) ## draw the pictures of README and docs/ anew; trains five small runs the first time
	$(BIN)/python docs/draw_roundings.py
	$(BIN)/python docs/draw_spectrograms.py
	$(BIN)/python docs/draw_screens.py

.PHONY: clean
clean: ## remove .venv, .venv-newest and caches; runs in logs/ stay
	rm -rf $(VENV) $(NEWEST) .pytest_cache .ruff_cache .mypy_cache
