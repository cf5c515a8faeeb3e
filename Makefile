# Each target sets up what it needs by itself, from locks/ and nothing else; a second call finds it done.
# ARGS goes on to the command: make test ARGS='tests/core -x'

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.SUFFIXES:
SHELL := /bin/bash
PYTHON := .venv/bin/python

# A stamp says that its step is done; it is older than what it was made from exactly when the step is due again.
# They live in the environment: one that is gone takes its stamps with it.
STAMPS := .venv/.made
INSTALLER := $(STAMPS)/installer
HUB := $(STAMPS)/hub
DEV := $(STAMPS)/dev
TALLY := $(STAMPS)/tallystick
KFP_SDK := .venv-kfp/.made
TORCH := $(STAMPS)/torch

# An environment knows its own path, and its interpreter: moved with the checkout, or left by an upgrade, it is dead.
define drop_if_dead
test ! -e $(1)/$(2) || { test "$$(cat $(1)/$(2))" = '$(CURDIR)' && $(1)/bin/python -c ''; } 2>/dev/null || \
	{ rm -rf $(1) && echo 'tally setup: $(1) was made elsewhere or lost its Python: making it anew'; }
endef
DROPPED := $(shell $(call drop_if_dead,.venv,.made/installer))
DROPPED_SDK := $(shell $(call drop_if_dead,.venv-kfp,.made))
$(if $(DROPPED),$(info $(DROPPED)))
$(if $(DROPPED_SDK),$(info $(DROPPED_SDK)))

##@ Use
demo: $(HUB) $(TALLY) bwrap ## start the hub and live through the whole life of a model, on this machine
	@$(PYTHON) -m compileall -q src
	@.venv/bin/tally demo $(ARGS)

##@ Work on it
COVERED :=
test: $(DEV) $(TALLY) $(KFP_SDK) $(TORCH) bwrap chromium postgresql ## every test, side by side
	@$(PYTHON) -m compileall -q src
	@$(PYTHON) -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(COVERED) $(ARGS)

# Apart from `test`: to be traced costs a process that runs Python half as much again and more.
coverage: COVERED := --cov --cov-report=term
coverage: test ## the same tests, and which lines they and the processes that they start cover: it takes far longer

conformance-s3: $(DEV) $(TALLY) ceph ## artifacts in S3, against Ceph's own gateway started for it
	@TALLY_CEPH=1 $(PYTHON) -m pytest tests/slow -m ceph $(ARGS)

check: $(DEV) $(TALLY) ## lint, format, types, floors (who may import whom) and sizes
	@failed=0; \
	for check in 'ruff check' 'ruff format --check' 'mypy' 'lint-imports --no-logo' 'python tools/ratchet.py --against HEAD'; do \
		printf '\n== %s\n' "$$check"; \
		.venv/bin/$$check || failed=1; \
	done; \
	exit $$failed

format: $(DEV) ## put imports and layout in order, and mend what ruff can mend safely
	@.venv/bin/ruff check --fix-only
	@.venv/bin/ruff format

bench: $(DEV) $(TALLY) $(TORCH) bwrap ## every benchmark in turn; each prints its ratio to a peer
	@failed=0; \
	for bench in $(sort $(filter-out bench/_%,$(wildcard bench/*.py))); do \
		printf '\n== %s\n' "$$bench"; \
		$(PYTHON) "$$bench" $(ARGS) || failed=1; \
	done; \
	exit $$failed

conformance-mlflow: $(DEV) $(TALLY) ## MLflow's own REST tests, stock and hub; MLFLOW_SRC is a source tree of MLflow
	@test -n '$(MLFLOW_SRC)' || { echo 'say where a source tree of MLflow is: make $@ MLFLOW_SRC=DIR' >&2; exit 2; }
	@$(PYTHON) tests/conformance/run.py '$(MLFLOW_SRC)' $(ARGS)

conformance-kfp: $(DEV) $(TALLY) bwrap ## Kubeflow's own golden pipelines; KFP_SRC is a source tree of kubeflow/pipelines
	@test -n '$(KFP_SRC)' || { echo 'say where a source tree of kubeflow/pipelines is: make $@ KFP_SRC=DIR' >&2; exit 2; }
	@$(PYTHON) -m tests.conformance.kfp.run '$(KFP_SRC)' $(ARGS)

lock: $(DEV) ## write locks/ from pyproject.toml; ARGS=--upgrade takes the newest of everything
	@UV=.venv/bin/uv tools/lock.sh $(ARGS)

##@ Tidy up
clean: ## remove what tests, checks and builds left behind
	@rm -rf build dist htmlcov .coverage .coverage.* .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@find src tests tools bench examples -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

distclean: clean ## remove the environments too
	@rm -rf .venv .venv-kfp

help: ## say what there is
	@awk 'BEGIN { FS = ":.*## " } /^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z][a-z0-9-]*:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# ------------------------------------------------------------------------------------------------------------- set-up

$(INSTALLER): locks/installer.txt
	@tools/setup.sh python
	@mkdir -p $(STAMPS) && printf %s '$(CURDIR)' > $@

$(HUB): locks/hub.txt locks/kfp-runtime.txt | $(INSTALLER)
	@tools/setup.sh packages hub
	@touch $@

# dev.txt holds all of hub.txt, pin for pin.
$(DEV): locks/dev.txt locks/hub.txt locks/kfp-runtime.txt | $(INSTALLER)
	@tools/setup.sh packages dev
	@touch $@ $(HUB)

# A later package, as it is in no other lock; a machine without it is set up all the same.
$(TORCH): locks/torch.txt $(DEV)
	@tools/setup.sh torch
	@touch $@

# After whichever of the two is there: its build backend is in both.
$(TALLY): pyproject.toml | $(INSTALLER)
	@tools/setup.sh tallystick
	@touch $@

$(KFP_SDK): locks/kfp-sdk.txt locks/installer.txt
	@tools/setup.sh kfp-sdk
	@printf %s '$(CURDIR)' > $@

bwrap chromium postgresql ceph:
	@tools/setup.sh system $@

.PHONY: demo test coverage check format bench conformance-mlflow conformance-kfp lock clean distclean help conformance-s3 bwrap chromium postgresql ceph
