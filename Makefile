# `make demo` and `make test` are all a newcomer needs: each makes the environment itself when it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DATA ?=
# Three processes, since one of them always waits for a server; a file in one of them, the long files first.
SHARED := --numprocesses 3 --dist loadfile --no-loadscope-reorder
SLOW_UNITS := bundle_models evaluate evaluate_value evaluate_waiting examples hazard lease lightgbm_c plots shop tracking
QUICK := $(filter-out $(SLOW_UNITS:%=tests/unit/test_%.py),$(wildcard tests/unit/test_*.py)) tests/spec/test_views.py tests/spec/test_log.py \
  $(patsubst %,tests/contract/test_%.py,scores vector equality audiences audience_rules journeys ledger headers)
# A process computes on one core: with more threads in each they would mostly wait for each other.
test test-quick test-long: export OMP_NUM_THREADS = 1
test test-quick test-long: export OPENBLAS_NUM_THREADS = 1
# Nor compile all of it anew in each of hundreds of processes, where the environment says that nothing compiled is to be kept.
demo test test-quick test-long: export PYTHONDONTWRITEBYTECODE =

.PHONY: install demo test test-quick test-long check format bench bench-models bench-large bench-service scan docs pictures site lock clean

install: $(INSTALLED)  ## the environment alone, for a shop of one's own

demo: $(INSTALLED)  ## raw data -> models -> a live service; ONCE=1 ends by itself
	$(BIN)/encore demo --workspace workspace $(if $(ONCE),--once)

test: $(INSTALLED)  ## the whole suite, 12 minutes on 2 cores
	$(BIN)/python -m pytest -m "not long" $(SHARED) tests/e2e tests/docs tests/faults tests/evidence tests/property tests/contract tests/spec tests/unit

test-quick: $(INSTALLED)  ## the part that takes under a minute: units, what each feature is, what the API promises of scores and audiences
	$(BIN)/python -m pytest -m "not long" -x $(SHARED) $(QUICK)

test-long: $(INSTALLED)  ## floods, soaks, hundreds of repetitions
	$(BIN)/python -m pytest -m long --timeout 3600

check: $(INSTALLED)  ## what CI checks besides the tests: style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

scan: $(INSTALLED)  ## known vulnerabilities of the dependencies, secrets in the tree; says NOT AUDITED where advisories cannot be had
	.ci/scan

format: $(INSTALLED)
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(INSTALLED)  ## measurements, written to bench/RESULTS.md
	$(BIN)/python bench/run.py $(if $(DATA),--data $(DATA))

bench-models: $(INSTALLED)  ## accuracy on real data, written to bench/MODELS.md; DATA=DIR, ONLY="row ..." runs some
	$(BIN)/python bench/models.py --data $(DATA) $(if $(ONLY),--only $(ONLY))

bench-large: $(INSTALLED)  ## retraining a shop of two million users, written to bench/LARGE.md; DATA=DIR is where its log goes
	$(BIN)/python bench/large.py $(DATA)

bench-service: $(INSTALLED)  ## speed and weight of the service (needs wrk), written to bench/SERVING.md; PEERS=1 beside other servers
	$(BIN)/python bench/service.py $(if $(PEERS),--peers)

docs: $(INSTALLED)  ## the feature dictionary of the demo's shop, from the catalogue itself
	$(BIN)/python docs/dictionary.py

pictures: $(INSTALLED)  ## the docs' pictures of the console, from the pages that the long browser test checks (needs chromium)
	PICTURES=docs/pictures $(BIN)/python -m pytest -m long -x tests/e2e/test_console_kinds.py

site: $(INSTALLED)  ## the docs, into site/: every link and anchor checked, nothing loaded from outside
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

lock: $(INSTALLED)  ## pin the dependencies anew, with hashes and without addresses
	for extra in "serve --extra postgres" train dev; do $(BIN)/uv pip compile --quiet --upgrade --python-version 3.11 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" --extra $$extra pyproject.toml -o requirements/$${extra%% *}.txt; done
	echo uv | $(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url --constraint requirements/dev.txt \
	  --custom-compile-command "make lock" - -o requirements/uv.txt

clean:
	rm -rf .venv workspace dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(INSTALLED): requirements/dev.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Encore needs Python 3.11 or newer; found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/uv.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --requirement requirements/dev.txt \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt  # which reads pip.conf
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $(INSTALLED)
