"""What is published under ``results/``, made again: ``make publish STEP=rows,tables``, or ``python results/publish.py rows tables``.

Every step is a list of commands that a reader can type. Paths, rows and labels that are there are not made again.
``--dry-run`` prints the commands.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PUBLISHED = "results/published"
HANDS = "task=hands,model=hands,engine=hf"
README_TABLE = f"{HANDS},prefix=22"
BRIEF = f"{README_TABLE}|task=reasoning_gym-chain_sum,model=qwen2.5-coder-0.5b,prefix=26"

# Every method that the embedded engine serves, and those whose published windows are too long for its paths.
METHODS = ",".join(
    (
        "all-registered",
        "jaccard:keep=central",
        *(f"deepconf-{kind}:window=8" for kind in ("lowest", "bottom", "tail", "online")),
        *(f"deepconf-online:{eta}window=0.17" for eta in ("", "eta=50,", "eta=90,")),
        "deepconf-offline:top=0.1",
        "slimsc:min_tokens=8",
        *(f"slimsc-online:min_tokens=8,threshold={t}" for t in (0.9, 0.8)),
    )
)
SCHEDULED = "stop,otv,step,linear-probe,verifier,logprob,deepconf"  # also at two more lengths, for schedules of cuts
CONTRAST = (
    "asc,esc,stop,linear-probe,mlp-probe,step,clue,st-bon,consensus,logprob,entropy,deepconf,self-certainty,"
    "deepconf-offline,jaccard,central,shortest"
)
TIMED = "all,random,logprob,jaccard,slimsc,verifier,linear-probe,step,stop"  # one method of each kind


@dataclass(frozen=True)
class Real:
    """A pretrained model on a task: what its pool, labels, trainings and rows are made with.

    Task, sampling and lengths are chosen on problems of another seed, by how often the model is right and before any pruner runs.
    ``get``: the command that puts ``model`` there; ``untrained``, ``trained``: pruners; ``schedules``: of several cuts, by ``logprob``.
    """

    pool: str
    get: str
    model: str
    licence: str
    task: str
    sampling: str
    limit: int
    prefixes: tuple[int, ...]
    problems: int
    n: int
    keep: int
    labels: str
    untrained: str
    schedules: tuple[str, ...]
    trained: tuple[str, ...]
    engine: str = "hf:packed=true,rows=256"

    @property
    def where(self) -> str:
        """The options that say on what a command works, but for prefix lengths."""
        return f"--task {self.task} --model {self.model} --engine {self.engine} --sampling {self.sampling} --max-tokens {self.limit}"

    @property
    def commands(self) -> tuple[str, ...]:
        """Each goes on where it was interrupted, and does nothing where all is there."""
        lengths = ",".join(map(str, self.prefixes))
        size = f"--problems {self.problems} --n {self.n}"
        bench = f"pathprune bench --results {PUBLISHED} {self.where} {size}"
        rows = f"{bench} --prefix {lengths} --keep {self.keep} --pruner"
        scheduled = (f"{bench} --stages {stages} --pruner logprob" for stages in self.schedules)
        trainings = (
            command
            for pruner in self.trained
            for command in (
                f"pathprune train {pruner} {self.where} --prefixes {lengths} {self.labels} --make-labels",
                f"{rows} {pruner}",
            )
        )
        ship = f"pathprune export-pool --ship --results {PUBLISHED} {self.where} --prefix {self.prefixes[0]} {size} --licence {self.licence}"
        pool = f"results/pools/{self.pool}"
        restored = (f"pathprune restore {pool}",) if (ROOT / pool / "pool.json").is_file() else ()
        return (
            self.get,
            *restored,
            f"{rows} {self.untrained}",
            *scheduled,
            *trainings,
            PACK,
            f"{ship} --out {pool}",
        )


# Calls' paths are short: rules that look every few hundred tokens would not look at them.
CALLS = "--task calls --keep 8 --problems 200"
CALLED = "random,logprob,deepconf,self-certainty,entropy,jaccard,repetition,shortest,linear-probe,stop,asc,deepconf-online:window=8"
LAUNCHED = (24, 16)  # the first of the same paths; 24 -> 8 and 16 -> 8 as STOP's authors ran AIMO3

PACK = f"pathprune pack {PUBLISHED}"
REAL = (
    Real(
        pool="coder-sums",
        get="make coder",
        model="qwen2.5-coder-0.5b",
        licence="Apache-2.0",
        task="reasoning_gym:chain_sum,max_digits=2,max_terms=3,min_digits=2,min_terms=3,seed=1",
        sampling="temperature=0.7,top_p=0.95,top_k=40",
        limit=256,
        prefixes=(26, 51),
        problems=100,
        n=32,
        keep=8,
        labels="--problems 256 --n 4 --continuations 1",
        untrained="random,logprob,deepconf,deepconf-lowest:window=8,deepconf-tail:window=8,deepconf-offline:top=0.1,self-certainty,entropy,"
        "jaccard,central,slimsc:min_tokens=8,repetition,shortest,asc,esc",
        schedules=("26:16,51:8",),
        trained=("linear-probe", "stop"),
    ),
)
SEED1 = "results/models/hands-seed1"


def at(lengths: tuple[int, ...], command: str) -> tuple[str, ...]:
    """A ``pathprune`` command at several prefix lengths."""
    return tuple(f"pathprune {command} --prefix {length}" for length in lengths)


def rows(lengths: tuple[int, ...], pruners: str, task: str = "hands", more: str = "") -> tuple[str, ...]:
    """Published rows of some pruners at several prefix lengths."""
    return at(lengths, f"bench --results {PUBLISHED} --task {task} --pruner {pruners} {more}".rstrip())


@dataclass(frozen=True)
class Step:
    """Some commands, and what they make."""

    makes: str
    takes: str
    commands: tuple[str, ...]


def readme(part: str, command: str) -> tuple[str, ...]:
    """The command that writes a part of README.md, where README.md has markers for it."""
    held = f"<!-- {part}:begin -->" in (ROOT / "README.md").read_text()
    return (f"pathprune {command} --out README.md",) if held else ()


TABLES = (
    *readme("brief", f"leaderboard --brief --only '{BRIEF}'"),
    f"pathprune budgets --only '{HANDS}'",
    "pathprune frontier --only 'engine=hf'",
    "pathprune findings",
    "pathprune leaderboard "
    + " ".join(
        f"--out results/leaderboard.{form}" for form in ("md", "tex", "csv", "html")
    ),  # its page holds the findings
)

STEPS = {
    "rows": Step(
        "every method's rows, on both embedded tasks",
        "an hour",
        (
            *rows((22, 43), METHODS),
            *rows((11, 65), SCHEDULED),
            *rows((17, 34), CONTRAST, "slips"),
            *rows((8, 51), "stop,linear-probe,logprob", "slips"),
            PACK,
        ),
    ),
    "oracle": Step(
        "the ceiling: fresh continuations of test prefixes",
        "half an hour",
        (
            *at((22, 43), f"oracle --results {PUBLISHED} --problems 200"),
            *at((17, 34), f"oracle --results {PUBLISHED} --task slips --problems 50"),
            PACK,
        ),
    ),
    "overhead": Step(
        "seconds of Launch, Check and Resume, for one method of each kind",
        "minutes",
        (f"pathprune bench --results {PUBLISHED} --problems 30 --live --pruner {TIMED}", PACK),
    ),
    "real": Step(
        "pools, labels, trainings and rows of pretrained models, with the pools that ship",
        "hours",
        tuple(command for real in REAL for command in real.commands),
    ),
    "tools": Step(
        "rows of paths that run Python, and their figures",
        "two hours",
        (
            *(f"pathprune train {p} --task calls --problems 128 --make-labels" for p in ("linear-probe", "stop")),
            *(f"pathprune bench --results {PUBLISHED} {CALLS} --n {n} --pruner {CALLED}" for n in LAUNCHED),
            PACK,
            *(f"pathprune plot --only task=calls,n={n}" for n in LAUNCHED),
        ),
    ),
    "second-seed": Step(
        "rows of a second seed of the embedded model, its labels and its adapter",
        "an hour",
        (
            f"test -f {SEED1}/model.safetensors || make model SEED=1 OUT={SEED1}",
            f"pathprune train stop:seed=1 --model {SEED1} --problems 512 --make-labels",
            *rows((22, 43), "stop:seed=1,logprob,deepconf,jaccard", more=f"--model {SEED1}"),
            PACK,
        ),
    ),
    "ablations": Step(
        "results/ablations; fewer labels where many variants are trained",
        "three hours",
        (
            "pathprune ablation budget",
            *(f"pathprune ablation {name} --problems 2048" for name in ("tokens", "rank", "seeds", "adapter")),
            *(f"pathprune ablation {name} --problems 1024" for name in ("labels", "prefix")),
            "pathprune ablation equal-budget --problems 512",
            "pathprune ablation transfer --problems 512 --source hands:shortest=5,longest=7",
        ),
    ),
    "law": Step(
        "the retention law, from 256 paths per problem at six prefix lengths",
        "20 minutes",
        (
            *at((11, 16, 22, 33, 43, 65), "bench --results results/law --n 256 --keep 32 --pruner stop"),
            "pathprune law fit",
        ),
    ),
    "attention": Step("what the [STOP] tokens attend to", "a minute", ("pathprune attention --prefix 22",)),
    "tables": Step("every table of results/, and those of README.md", "minutes", TABLES),
    "figures": Step(
        "results/figures; every kind for the table of README.md",
        "minutes",
        ("pathprune plot", f"pathprune plot --only '{README_TABLE}' --kind all"),
    ),
}


def chosen(names: list[str]) -> Iterator[tuple[str, Step]]:
    """Steps by name, comma-separated names too; ``all`` is every step in order."""
    asked = [name for given in names for name in given.split(",") if name]
    for name in STEPS if "all" in asked else asked:
        if name not in STEPS:
            raise SystemExit(f"error: unknown step {name!r}; known: all, {', '.join(STEPS)}")
        yield name, STEPS[name]


def run(command: str) -> None:
    """Run one command with this environment's ``pathprune``; its failure ends the script with its exit code."""
    print(f"$ {command}", flush=True)
    program = command.replace("pathprune ", f"{shlex.quote(sys.executable)} -m pathprune ", 1)
    done = subprocess.run(program if command.startswith("pathprune ") else command, shell=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(done.returncode)


def main() -> None:
    """List the steps, print their commands, or run them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("steps", nargs="*", metavar="STEP", help="a step, several, or all; none lists them")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    given = parser.parse_args()
    if not given.steps:
        for name, step in STEPS.items():
            print(f"{name:12} {step.makes} ({step.takes} on two cores)")
    for _, step in list(chosen(given.steps)):
        for command in step.commands:
            if given.dry_run:
                print(command)
            else:
                run(command)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
