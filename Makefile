# make run | dev | test | check | bench | setup — each sets up what it needs on a fresh machine.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

UV_VERSION := 0.13.8
PIP_AUDIT_VERSION := 2.10.1
UV := $(shell command -v uv || echo .tools/bin/uv)
# The distribution's own Python first: it is patched with the system, and optimised by a profile, which one that was
# built from source seldom is: that takes 1.4 times the processor time for the same work.
PYTHON ?= $(shell for p in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
WITH_PIP = $(shell for p in "$(PYTHON)" python3; do "$$p" -m pip --version >/dev/null 2>&1 && { echo "$$p"; break; }; done)
PORT ?= 8000
HOST ?=
LIBRARY ?=
MINUTES ?= $(if $(CLUSTER),20,60)
# Tests wait for media at real time more than they compute: five of them share a processor.
WORKERS ?= $(shell n=$$(nproc); echo $$((n < 2 ? 4 * n : 10)))
BIN := .venv/bin

export SYSTEM
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := $(CURDIR)/.venv
# Images that forbid Python to keep what it compiled let each of a thousand processes compile it all again.
export PYTHONDONTWRITEBYTECODE :=
# The build hook lies in the root, where what Python compiles of it once has no place.
SYNC = PYTHONDONTWRITEBYTECODE=1 .ci/retry "Is the package index reachable? Behind a proxy set HTTPS_PROXY. Then run make again." \
	$(UV) sync --frozen --quiet

# What `make dev` starts again when a file of these folders changes; PYTHONPATH lets it run the code that it watches.
CODE := media packager origin player

# The image's name, and what it is built for; with PUSH=1 it goes to the registry that the name begins with.
IMAGE ?= headwater
PLATFORMS ?= linux/amd64,linux/arm64
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.PHONY: help setup run dev test test-all test-turn quick coverage clauses docs check format bench audit soak fuzz dist image clean

help:
	@echo "make run                  set up, make demo media, serve it on port $(PORT)"
	@echo "make run LIBRARY=DIR      the same with your own files"
	@echo "make run HOST=0.0.0.0     the same for the local network: shows its address and a QR code for phones"
	@echo "make dev                  the same with debug log, started again when a file of the code changes (ARGS='--config FILE')"
	@echo "make test                 set up and run the tests, real browser included: each promise once"
	@echo "make test SYSTEM=no       the same with the programs that are here: only ffmpeg is installed"
	@echo "make test-all             and what repeats them over every combination (TURN=5: an eighth of that)"
	@echo "make quick                the tests that start no process and wait for nothing (ARGS=origin/radio: of one folder)"
	@echo "make coverage             the same, and which lines and branches they run: twice the processor time"
	@echo "make clauses              which test shows which clause of a standard"
	@echo "make docs                 write the table of docs/configuration.md from the code"
	@echo "make check                lint, format and type checks"
	@echo "make bench                measure beside the peers"
	@echo "make audit                ask for known holes in what uv.lock pins"
	@echo "make fuzz                 a minute of damaged input for each reader (ARGS='rtmp flv --seconds 600 --seed 2')"
	@echo "make soak                 an hour of live channels and a station (MINUTES=60)"
	@echo "make dist                 a wheel and a source distribution in dist/"
	@echo "make image                a container image for amd64 and arm64 in dist/ (IMAGE=NAME PUSH=1: to a registry)"
	@echo "make soak CLUSTER=1       twenty minutes of a cluster of which one part after the other fails"

.tools/bin/uv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: install it (Debian: apt-get install python3 python3-pip)" >&2; exit 1; }
	@test -n "$(WITH_PIP)" || .ci/system-packages pip
	.ci/retry "Is the package index reachable? Or install uv by yourself, then run make again." \
		"$(or $(WITH_PIP),$(PYTHON))" -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .tools "uv==$(UV_VERSION)"

# One stamp per kind of set-up; make compares it with what it was made from.
.venv/.setup: pyproject.toml uv.lock hatch_build.py player/package-lock.json | $(filter .tools/%,$(UV))
	$(SYNC) --python "$(PYTHON)" $$(.ci/system-packages ffmpeg)
	@touch $@

# The build hook lays the page's libraries there; a newer lock file names others.
player/vendor/integrity.txt: player/package-lock.json .venv/.setup
	@test $@ -nt $< || $(SYNC) --reinstall-package headwater --inexact
	@touch $@

setup: .venv/.setup player/vendor/integrity.txt

# With SYSTEM=no the stamp is another one: what is left out then is installed later without it.
SETUP_TEST = .venv/.setup-test$(if $(filter no,$(SYSTEM)),-without-system)
$(SETUP_TEST): .venv/.setup .ci/system-packages | $(filter .tools/%,$(UV))
	.ci/system-packages chromium
	.ci/system-packages test-programs
	$(SYNC) --inexact --group validators --group token-sources --group s3-server --python "$(PYTHON)"
	$(BIN)/python -m tests.demo_media
	@touch $@

run: setup
	@exec $(BIN)/headwater serve --demo --port $(PORT) $(if $(HOST),--host "$(HOST)") $(if $(LIBRARY),--library "$(LIBRARY)")

dev: setup
	@PYTHONPATH="$(CURDIR)" exec $(BIN)/watchfiles \
		"$(BIN)/headwater serve --verbose --port $(PORT) $(or $(ARGS),--demo)" $(CODE)

PARALLEL = --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# What fails beside others is asked again alone: see tests/run_tests.py. Which tests are of which tier: tests/tiers.py.
RUN_TESTS = $(BIN)/python -m tests.run_tests $(PARALLEL) --max-worker-restart 100
test: setup $(SETUP_TEST)
	$(RUN_TESTS) --tier=first $(ARGS)

test-all: setup $(SETUP_TEST)
	$(RUN_TESTS) $(if $(TURN),--tier=second --turn=$(TURN) $(if $(ROOMS),--rooms=$(ROOMS))) $(ARGS)

# The part of the second tier that CI runs for the newest commits.
test-turn: setup $(SETUP_TEST)
	$(RUN_TESTS) $$($(BIN)/python -m tests.tiers) $(ARGS)

coverage: setup $(SETUP_TEST)
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term --cov-report=xml $(ARGS)

# What ARGS names below tests/ is run alone, as in ARGS="origin/radio -x".
quick: setup
	$(BIN)/pytest --quick --numprocesses 2 --dist loadfile $(foreach word,$(ARGS),$(if $(wildcard tests/$(word)),tests/$(word),$(word)))

clauses: setup
	@$(BIN)/python -m tests.clauses $(ARGS)

# The table of all keys, from the options' own docstrings.
docs: setup
	$(BIN)/python -m tests.configuration_reference

# On a busy machine mypy doesn't wait for its workers long enough, which is status 2; faults are 1.
check: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --num-workers 2 || { test $$? -eq 2 && $(BIN)/mypy; }

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: setup
	$(SYNC) --inexact --group benchmarks --group s3-server
	$(BIN)/python -m tests.benchmarks $(ARGS)

# A network is needed, and nothing of it is installed: the tool runs in an environment of its own.
audit: setup
	@list=$$(mktemp) && trap 'rm -f "$$list"' EXIT && \
		$(UV) export --frozen --quiet --all-groups --all-extras --no-emit-project --output-file "$$list" && \
		$(UV) tool run "pip-audit==$(PIP_AUDIT_VERSION)" --strict --disable-pip --require-hashes --requirement "$$list"

soak: setup $(if $(CLUSTER),$(SETUP_TEST))
	$(BIN)/python -m tests.benchmarks.$(if $(CLUSTER),cluster_soak,soak) $(MINUTES) $(ARGS)

fuzz: setup
	@$(BIN)/python -m tests.fuzzing $(ARGS)

# The wheel is built from the source distribution alone: what that lacks shows.
dist: setup
	rm -f dist/headwater-$(VERSION)*.whl dist/headwater-$(VERSION).tar.gz
	.ci/retry "Is the package index reachable? Behind a proxy set HTTPS_PROXY. Then run make again." \
		$(UV) build --quiet --out-dir dist --python "$(PYTHON)"
	@ls dist/headwater-$(VERSION)*.whl dist/headwater-$(VERSION).tar.gz

# For both processors it is an archive (OCI), since Docker's own store of images takes a single one.
image:
	@command -v docker >/dev/null || { echo "Docker with buildx is needed: https://docs.docker.com/engine/install" >&2; exit 1; }
	@mkdir -p dist
	docker buildx build --platform "$(PLATFORMS)" --file deploy/docker/Dockerfile --tag "$(IMAGE):$(VERSION)" --tag "$(IMAGE):latest" \
		$(if $(PUSH),--push,--output "type=oci,dest=dist/headwater-$(VERSION)-image.tar") .

clean:
	rm -rf dist .venv .tools player/vendor artifacts .coverage* coverage.xml .mypy_cache .ruff_cache .pytest_cache
