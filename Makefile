# Every verb works on a fresh machine: it makes .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
.PHONY: demo demo-images test lint docs bench format clean

# The tests start dozens of processes that import the package: each would compile it anew.
unexport PYTHONDONTWRITEBYTECODE

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/pip install --quiet -c constraints.txt -e ".[images,medical]"
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt --group test --group lint
	touch $@

demo: .venv/installed   ## tables and sensors, on data of installed packages; writes report.html
	$(BIN)/keyhole demo

demo-images: .venv/installed  ## denoising and new digits; writes denoised.html and digits.html
	$(BIN)/keyhole demo images

# Otherwise all workers compile these libraries, each of them for itself.
.venv/compiled: .venv/tested
	$(BIN)/python -c "import pandas, polars, pyarrow.parquet, scipy.stats, sklearn.mixture, torch._dynamo"
	touch $@

# A worker that takes a stretch of tests makes the fixtures of their modules once.
test: .venv/compiled    ## run the tests
	$(BIN)/python -m pytest -n auto --dist worksteal

lint: .venv/tested      ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/python .ci/measure_docs

format: .venv/tested
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.venv/benched: .venv/tested
	$(BIN)/pip install --quiet -c constraints.txt --group bench
	touch $@

bench: .venv/benched    ## every benchmark, beside its peers, into docs/benchmarks.md
	$(BIN)/python -m benchmarks

.venv/documented: .venv/installed
	$(BIN)/pip install --quiet -c constraints.txt --group docs
	touch $@

# A warning, or a link between pages that leads nowhere, is an error. GALLERY=0 does not run the
# examples again, which is most of the time.
GALLERY := 1
docs: .venv/documented  ## the site: build/docs/index.html
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -W --keep-going -q -D plot_gallery=$(GALLERY) docs build/docs
	@echo "wrote     build/docs/index.html"

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache docs/auto_gallery docs/generated docs/sg_execution_times.rst
