# Everything a fresh machine needs is made here, from Python and make alone.
PYTHON ?= python3
LITELLM_VERSIONS := 1.106.2 1.109.3 1.110.2
BIN := .venv/bin
# Processes that run tests; most of them wait for servers, so there may be more than cores.
TEST_WORKERS ?= 3
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes

.PHONY: install litellm jars demo screenshots test coverage mutants faults secure faults-gateway soak bench lint docs site images versions release lock clean
.DELETE_ON_ERROR:

install: .venv/.installed

.venv/.installed: requirements/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# One environment for each LiteLLM version, with this package's base install beside it.
litellm: $(LITELLM_VERSIONS:%=.venvs/litellm-%/.installed)

.venvs/litellm-%/.installed: requirements/litellm-%.txt pyproject.toml
	$(PYTHON) -m venv .venvs/litellm-$*
	.venvs/litellm-$*/bin/python $(PIP_INSTALL) --no-compile -r requirements/litellm-$*.txt
	.venvs/litellm-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The servers of the tests; the demo and `pipeline local up` fetch what they need by themselves.
jars: install
	$(BIN)/python -m llmlog_local.jars fetch

# The whole way on real servers, against the newest LiteLLM; KEEP=1 leaves the servers up, SECURE=1 is
# over TLS, with logins and access rights.
demo: install .venvs/litellm-$(lastword $(LITELLM_VERSIONS))/$(if $(SECURE),.registry,.installed)
	$(BIN)/python deploy/demo/demo.py $(if $(KEEP),--keep) $(if $(SECURE),--secure)

# What a gateway needs beside that to use a Schema Registry.
.venvs/litellm-%/.registry: .venvs/litellm-%/.installed requirements/registry.txt
	.venvs/litellm-$*/bin/python $(PIP_INSTALL) -r requirements/registry.txt
	touch $@

# Pictures of the console for the documentation, and axe on each page; needs Chromium.
screenshots: install
	$(BIN)/python -m pytest tests/acceptance/console -m screens

# Everything but the long faults, in several processes at once; docs/testing.md has the parts.
# The servers live for minutes: what Java's optimising compiler costs, they never earn.
test:
	$(MAKE) --jobs=3 install litellm jars .venvs/site/.installed
	$(MAKE) lint
	JAVA_TOOL_OPTIONS=-XX:TieredStopAtLevel=1 $(BIN)/python -m pytest -n $(TEST_WORKERS) \
		-m "not long and not soak and not gateway and not screens"

# The same tests, and which lines they run, in child processes too: slower by half.
coverage: install litellm
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(TEST_WORKERS) -m "not long and not soak and not gateway and not screens"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Changes policy and engine line by line and counts what no unit test sees: ONLY=verify make mutants
mutants: .venvs/mutants/.installed
	.venvs/mutants/bin/python tests/mutation/run.py $(ONLY)

.venvs/mutants/.installed: requirements/dev.txt requirements/mutants.txt
	$(PYTHON) -m venv .venvs/mutants
	.venvs/mutants/bin/python $(PIP_INSTALL) -r requirements/dev.txt -r requirements/mutants.txt
	touch $@

# Every fault, on real servers, with a full count after each: FAULT_RECORDS=3000 FAULT_SEED=1 make faults
# make faults ONLY=partial|short|long|extremes|comparison runs one part.
faults: install
	$(BIN)/python -m pytest $(if $(ONLY),tests/faults/test_$(ONLY)*.py,tests/faults) \
		-m "not soak and not gateway"

# Every user, right, secret and wrong way to connect, on servers that ask who one is.
secure: install .venvs/litellm-$(lastword $(LITELLM_VERSIONS))/.installed
	$(BIN)/python -m pytest tests/integration -m long

# Proxies under load whose Kafka or whose process goes away; FAULT_EVENTS=100000 for less.
faults-gateway: install .venvs/litellm-$(lastword $(LITELLM_VERSIONS))/.installed
	$(BIN)/python -m pytest tests/faults -m gateway -s

# Two million events and random faults for half an hour: SOAK_RECORDS=100000 SOAK_MINUTES=5 make soak
soak: install
	$(BIN)/python -m pytest tests/faults -m soak -s

# Figures and goals, measured here, written to bench.json:
# make bench ONLY=consumer|isolation|memory|producer|dlq|index|profiles|freshness|derived|sizing|console|members|peers,
# BENCH_ROUNDS=1, BENCH_KINDS=prompts, BENCH_MEMORY_RECORDS=10000000, BENCH_SECONDS=5 (of each load on a proxy)
bench: install .venvs/litellm-$(lastword $(LITELLM_VERSIONS))/.installed
	$(BIN)/python tests/benchmarks/run.py $(ONLY)

lint: install
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Draws the screens in the documentation anew.
docs: install
	PYTHONPATH=tests $(BIN)/python -m support.screens
	PYTHONPATH=tests $(BIN)/python -m support.metrics_page
	PYTHONPATH=tests $(BIN)/python -m support.wire_page
	$(BIN)/python deploy/grafana/build.py
	$(BIN)/python deploy/kibana/build.py
	$(BIN)/python tests/support/licences_page.py

# Builds the images with buildah, and runs them without a container engine; as root, with IMAGE_BASE=NAME
# of a base that buildah has (STORAGE_ROOT, STORAGE_RUN: its storage; IMAGES_BUILT=1: take what is built).
images: install
	$(BIN)/python -m pytest tests/packaging/test_images_run.py -m long -s

# Unit and contract tests, and the wheel in empty environments, on other Pythons: PYTHONS="3.12 3.13".
PYTHONS ?= 3.12 3.13 3.14
versions: install $(PYTHONS:%=.venvs/python-%/.installed)
	sh deploy/release/build.sh
	for version in $(PYTHONS); do \
		.venvs/python-$$version/bin/python -m pytest -n 2 tests/unit tests/contract || exit 1; \
		for extra in gateway consumer console; do \
			PYTHON=python$$version sh deploy/release/smoke.sh $$extra || exit 1; \
		done; \
	done

.venvs/python-%/.installed: requirements/dev.txt pyproject.toml
	python$* -m venv .venvs/python-$*
	.venvs/python-$*/bin/python $(PIP_INSTALL) -r requirements/dev.txt
	.venvs/python-$*/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# The documentation as a site, in build/site; SITE_REPOSITORY=https://…/blob/main/ leads its links to the code.
site: .venvs/site/.installed
	NO_MKDOCS_2_WARNING=1 .venvs/site/bin/mkdocs build --strict
	.venvs/site/bin/lychee --offline --no-progress --include-fragments --root-dir $(CURDIR)/build/site build/site

.venvs/site/.installed: requirements/site.txt
	$(PYTHON) -m venv .venvs/site
	.venvs/site/bin/python $(PIP_INSTALL) -r requirements/site.txt
	touch $@

# What a release consists of, in dist: wheel and sdist, built twice and compared; checksums; bills of
# material; the dependencies held against known vulnerabilities. The tag's workflow runs it.
release: install .venvs/release/.installed
	sh deploy/release/build.sh
	for set in consumer console image-gateway; do \
		.venvs/release/bin/cyclonedx-py requirements --output-reproducible --pyproject pyproject.toml \
			--output-file dist/sbom-$$set.json requirements/$$set.txt || exit 1; \
		.venvs/release/bin/pip-audit --strict --disable-pip --no-deps --require-hashes \
			--requirement requirements/$$set.txt || exit 1; \
	done

.venvs/release/.installed: requirements/release.txt
	$(PYTHON) -m venv .venvs/release
	.venvs/release/bin/python $(PIP_INSTALL) -r requirements/release.txt
	touch $@

# A maintainer's command: resolves every pinned file anew (needs uv).
lock:
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --extra dev --output-file requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --extra consumer --extra registry --constraint requirements/dev.txt \
		--output-file requirements/consumer.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		pyproject.toml --extra console --extra registry --constraint requirements/dev.txt \
		--output-file requirements/console.txt
	echo 'mutmut>=3.8' | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate - --constraint requirements/dev.txt --output-file requirements/mutants.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/site.in --output-file requirements/site.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		requirements/release.in --output-file requirements/release.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-deps \
		requirements/registry.in --constraint requirements/dev.txt --output-file requirements/registry.txt
	echo hatchling | uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-annotate - --constraint requirements/dev.txt --output-file requirements/build.txt
	for version in $(LITELLM_VERSIONS); do \
		uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
			--override requirements/overrides-$$version.txt \
			requirements/litellm-$$version.in --output-file requirements/litellm-$$version.txt || exit 1; \
	done
	# The gateway's image: LiteLLM in one layer, what our callback needs beside it in another.
	newest=$(lastword $(LITELLM_VERSIONS)) && \
	sed 's/^-r gateway.in/prometheus-client/' requirements/litellm-$$newest.in | uv pip compile --quiet --universal \
		--python-version 3.11 --generate-hashes --no-header --no-annotate - \
		--override requirements/overrides-$$newest.txt --constraint requirements/litellm-$$newest.txt \
		--output-file requirements/image-litellm.txt && \
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-deps \
		requirements/image-gateway.in --constraint requirements/litellm-$$newest.txt \
		--output-file requirements/image-gateway.txt

clean:
	rm -rf .venv .venvs .mutants .llmlog-local .llmlog-demo dist build
