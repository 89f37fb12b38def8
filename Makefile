# Every verb sets itself up: the .venv stamp is rebuilt when pyproject.toml or constraints.txt change.
PYTHON ?= python3
PRUNER ?= stop
TASK ?= hands
ENGINE ?= hf
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WHERE = --task $(TASK) --engine $(ENGINE) $(if $(MODEL),--model $(MODEL)) $(if $(L),--prefix $(L)) $(if $(SEED),--seed $(SEED)) \
        $(if $(SAMPLING),--sampling $(SAMPLING))
RUN = $(if $(RESULTS),--results $(RESULTS)) $(if $(N),--n $(N)) $(if $(PROBLEMS),--problems $(PROBLEMS))

.PHONY: install bench train label oracle leaderboard plots published second-seed check list model test test-all perf lint format clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

bench: $(STAMP)  ## make bench PRUNER=stop,jaccard [TASK= MODEL= ENGINE= L= N= KEEP= PROBLEMS= SEED= LIVE=1]
	$(BIN)/pathprune bench $(WHERE) $(RUN) --pruner '$(PRUNER)' $(if $(KEEP),--keep $(KEEP)) $(if $(filter-out 0,$(LIVE)),--live)

train: $(STAMP)  ## make train PRUNER=stop [TASK= MODEL= L= PROBLEMS=]
	$(BIN)/pathprune train '$(PRUNER)' $(WHERE) $(if $(PROBLEMS),--problems $(PROBLEMS)) $(if $(OUT),--out $(OUT))

label: $(STAMP)
	$(BIN)/pathprune label $(WHERE) $(if $(PROBLEMS),--problems $(PROBLEMS))

oracle: $(STAMP)
	$(BIN)/pathprune oracle $(WHERE) $(RUN)

leaderboard: $(STAMP)
	$(BIN)/pathprune leaderboard $(if $(RESULTS),--results $(RESULTS))
	$(BIN)/pathprune leaderboard $(if $(RESULTS),--results $(RESULTS)) --out README.md

plots: $(STAMP)
	$(BIN)/pathprune plot $(if $(RESULTS),--results $(RESULTS))

VARIANTS = all-registered,deepconf-lowest:window=8,jaccard:keep=central
REFERENCE = $(BIN)/pathprune bench --results results/published

# Everything under results/published: all methods, both operating points, the oracle. About 15 minutes on two cores.
published: $(STAMP)
	for L in 22 43; do $(REFERENCE) --prefix $$L --pruner $(VARIANTS) || exit 1; done
	for L in 22 43; do $(BIN)/pathprune oracle --results results/published --problems 50 --prefix $$L || exit 1; done

# Does the ranking survive another seed of model, labels and adapter? About an hour on two cores.
second-seed: $(STAMP)
	test -f results/models/hands-seed1/model.safetensors || $(MAKE) model SEED=1 OUT=results/models/hands-seed1
	$(BIN)/pathprune train stop:seed=1 --model results/models/hands-seed1 --problems 512
	for L in 22 43; do $(REFERENCE) --prefix $$L --model results/models/hands-seed1 --pruner stop:seed=1,logprob,deepconf,jaccard || exit 1; done

check: $(STAMP)
	$(BIN)/pathprune check '$(PRUNER)' $(WHERE)

list: $(STAMP)
	$(BIN)/pathprune list

model: $(STAMP)  ## make model [MODEL=hands|slips]: train the embedded model again, from nothing, into results/models
	$(BIN)/python -m tasks.embedded.pretrain $(or $(MODEL),hands) --out $(or $(OUT),results/models/$(or $(MODEL),hands)) \
	    $(if $(SEED),--seed $(SEED)) --threads 2

test: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

test-all: $(STAMP)
	$(BIN)/pytest -m ''

perf: $(STAMP)
	$(BIN)/python -m tests.benchmarks.perf

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) *.egg-info
