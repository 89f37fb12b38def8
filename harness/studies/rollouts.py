"""Does pruning help reinforcement learning? GRPO on the embedded model with pruned rollouts, reward against generated tokens.

All arms train the same model on the same prompts with the same group size; they differ in the paths that form a group. Held-out
accuracy is measured on fresh paths of the trained model on dev problems, sampled identically in every arm.
"""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from harness.api import PathpruneError, Task, UnavailableError
from harness.engines import identity
from harness.rollouts import Rollouts
from harness.store.files import writable
from harness.store.provenance import provenance

ARMS: dict[str, dict[str, Any]] = {
    "no pruning": {},
    "random": {"pruner": "random"},
    "stop": {"pruner": "stop"},
    "stop, both ends": {"pruner": "stop", "pick": "ends"},
}
PROMPTS = 50_000  # first training problem in the label split, far beyond those of the pruner's labels
Told = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Terms:
    """Settings common to all arms. Pruned arms cut ``launch`` paths at ``prefix`` tokens, and finish ``group`` of them."""

    task: str = "hands"
    group: int = 8
    launch: int = 32
    prefix: int = 22
    prompts: int = 8  # groups of a step
    steps: int = 20
    rate: float = 3e-4
    every: int = 10  # steps between two measurements
    problems: int = 100  # held-out problems
    paths: int = 4  # per held-out problem


def run(terms: Terms, arms: Sequence[str], seeds: Sequence[int], folder: Path, told: Told) -> pd.DataFrame:
    """Train every arm and seed missing from ``folder``; return all measurements as a frame.

    Raises:
        PathpruneError: an unknown arm, or TRL is not installed.
    """
    from harness.text import unknown

    if wrong := [arm for arm in arms if arm not in ARMS]:
        raise PathpruneError(unknown("arm", wrong[0], list(ARMS)))
    wanted = [(seed, arm) for seed in seeds for arm in arms]
    rows: list[dict[str, Any]] = []
    for number, (seed, arm) in enumerate(wanted):
        file = folder / f"{arm.replace(', ', '-').replace(' ', '-')}-seed{seed}.json"
        done = number * terms.steps

        def step(at: int, arm: str = arm, seed: int = seed, done: int = done) -> None:
            told(done + at, len(wanted) * terms.steps, f"{arm}, seed {seed}")

        rows += _stored(file, terms) or _trained(terms, arm, seed, file, step)
        told(done + terms.steps, len(wanted) * terms.steps, f"{arm}, seed {seed}: {rows[-1]['accuracy']:.3f}")
    return pd.DataFrame(rows)


def _stored(file: Path, terms: Terms) -> list[dict[str, Any]] | None:
    """The measurements of a finished training with the same settings."""
    if not file.exists():
        return None
    held = json.loads(file.read_text())
    if held["terms"] != asdict(terms):
        raise PathpruneError(f"{file} was trained with other settings; give another --out")
    rows: list[dict[str, Any]] = held["rows"]
    return rows


def _trained(terms: Terms, arm: str, seed: int, file: Path, step: Callable[[int], None]) -> list[dict[str, Any]]:
    rows = train(terms, arm, seed, step)
    with writable(file) as part:
        part.write_text(json.dumps({"terms": asdict(terms), **_about(), "rows": rows}, indent=1) + "\n")
    return rows


def train(terms: Terms, arm: str, seed: int, step: Callable[[int], None]) -> list[dict[str, Any]]:
    """Run one training; return one row per measurement, before, during and after it."""
    from transformers import PrinterCallback, TrainerCallback

    from harness import registry

    task = registry.task(terms.task)
    held = task.problems("dev", terms.problems)
    pruned: dict[str, Any] = {"launch": terms.launch, "prefix": terms.prefix} if ARMS[arm] else {}
    rollouts = Rollouts(model=task.defaults.model, task=task, seed=seed, **ARMS[arm], **pruned)
    rows: list[dict[str, Any]] = []

    class Measure(TrainerCallback):
        """Measures accuracy on held-out problems, and the tokens of rollouts so far."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            step(state.global_step)
            if state.global_step % terms.every == 0 or state.global_step == terms.steps:
                measure(state.global_step)

    def measure(at: int) -> None:
        correct = [task.correct(task.answer(p.text), p.problem) for p in rollouts.sample(held, terms.paths, trainer)]
        spent = rollouts.ledger
        rows.append(
            {
                "arm": arm, "seed": seed, "step": at, "accuracy": float(np.mean(correct)),
                "generated": sum(s.cost.generated for s in spent), "probed": sum(s.cost.probed for s in spent),
                "launched": sum(s.launched for s in spent), "kept": sum(s.kept for s in spent),
            }
        )  # fmt: skip

    with _quiet(), tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(terms, task, seed, rollouts, scratch)
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(Measure())
        measure(0)
        trainer.train()
    return rows


def _trainer(terms: Terms, task: Task, seed: int, rollouts: Rollouts, scratch: str) -> Any:
    try:
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer
    except ImportError as error:
        raise UnavailableError("training with rollouts needs TRL: pip install 'pathprune[rollouts]'") from error
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    where = identity.locate(task.defaults.model)
    asked = task.problems("label", terms.steps * terms.prompts, start=PROMPTS)

    def right(completions: list[str], answer: list[str], **_: Any) -> list[float]:
        return [float(task.answer(text) == gold) for text, gold in zip(completions, answer, strict=True)]

    config = GRPOConfig(
        output_dir=scratch, use_cpu=True, bf16=False, gradient_checkpointing=False, disable_tqdm=True,
        per_device_train_batch_size=terms.group * terms.prompts, num_generations=terms.group, temperature=1.0,
        max_completion_length=task.defaults.max_tokens, learning_rate=terms.rate, lr_scheduler_type="constant",
        beta=0.0, report_to=[], save_strategy="no", logging_strategy="no", max_steps=terms.steps, seed=seed,
    )  # fmt: skip
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(where, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(where),
        reward_funcs=right,
        args=config,
        train_dataset=Dataset.from_list([{"prompt": p.prompt, "answer": p.answer} for p in asked]),
        rollout_func=rollouts,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress TRL's note on experimental rollout functions, and progress bars for loading weights."""
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    before = os.environ.get("TRL_EXPERIMENTAL_SILENCE")
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if bars:
            logging.enable_progress_bar()
        if before is None:
            del os.environ["TRL_EXPERIMENTAL_SILENCE"]
        else:
            os.environ["TRL_EXPERIMENTAL_SILENCE"] = before


def _about() -> dict[str, Any]:
    """The provenance of a training, TRL's version included."""
    from importlib.metadata import version

    about = provenance()
    return about | {"versions": about["versions"] | {"trl": version("trl")}}


def table(measured: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """Per arm: accuracy before and after training, its difference to no pruning, and both at the tokens of the cheapest arm.

    Intervals are Student's t over seeds, for differences paired by seed; NaN with a single seed.
    """
    before, last = (measured.groupby(["arm", "seed"]).nth(at).set_index(["arm", "seed"]) for at in (0, -1))
    budget = float(last.generated.min())
    at_budget = {
        key: float(np.interp(budget, run.generated, run.accuracy)) for key, run in measured.groupby(["arm", "seed"])
    }
    last = last.assign(at_budget=pd.Series(at_budget))
    rows = []
    for arm in dict.fromkeys(measured.arm):
        of_arm, base = last.loc[arm], last.loc["no pruning"] if "no pruning" in measured.arm.values else None
        row: dict[str, Any] = {"arm": arm, "seeds": len(of_arm), "generated": of_arm.generated.mean()}
        row["before"] = before.loc[arm].accuracy.mean()
        for column in ("accuracy", "at_budget"):
            row |= _interval(column, of_arm[column], level)
            if base is not None and arm != "no pruning":
                row |= _interval(f"{column}_gain", of_arm[column] - base[column], level)
        rows.append(row)
    return pd.DataFrame(rows)


def _interval(name: str, values: pd.Series, level: float) -> dict[str, float]:
    values = values.dropna()
    n = len(values)
    half = student.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n) if n > 1 else float("nan")
    return {name: values.mean(), f"{name}_low": values.mean() - half, f"{name}_high": values.mean() + half}


def markdown(terms: Terms, rows: pd.DataFrame) -> str:
    """The table as Markdown, with the training settings."""
    head = (
        f"GRPO on `{terms.task}`: {terms.steps} steps of {terms.prompts} prompts, groups of {terms.group}; pruned arms launch "
        f"{terms.launch} paths per group and cut them at {terms.prefix} tokens. Accuracy on {terms.problems} held-out problems, "
        f"{terms.paths} paths of each; {rows.before.iloc[0]:.3f} before training. Intervals are 95 % over {rows.seeds.min()} seeds, "
        "differences paired by seed. `at equal tokens`: at what the cheapest arm generated."
    )
    lines = [
        "| arm | generated tokens | accuracy | gain | accuracy at equal tokens | gain at equal tokens |",
        "|---|---|---|---|---|---|",
    ]
    for _, row in rows.iterrows():
        cells = [_shown(row, name) for name in ("accuracy", "accuracy_gain", "at_budget", "at_budget_gain")]
        lines.append(f"| {row.arm} | {row.generated:,.0f} | {' | '.join(cells)} |")
    return "\n".join([head, "", *lines, ""])


def _shown(row: Any, name: str) -> str:
    if name not in row or row[name] != row[name]:
        return "-"
    form = "+.3f" if name.endswith("gain") else ".3f"
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return f"{row[name]:{form}}" + (f" [{low:{form}}, {high:{form}}]" if low == low else "")


def figure(measured: pd.DataFrame, stem: Path, venue: str = "neurips") -> None:
    """Held-out accuracy against generated tokens, the mean over seeds of each arm."""
    from harness.report.figures import style

    with style.canvas(venue, 1, 1, height=2.3) as (drawn, axes):
        axis = axes[0][0]
        for arm, of_arm in measured.groupby("arm", sort=False):
            mean = of_arm.groupby("step")[["generated", "accuracy"]].mean()
            axis.plot(mean.generated / 1e6, mean.accuracy, label=arm, marker="o", ms=3)
            for _, run_of in of_arm.groupby("seed"):
                axis.plot(run_of.generated / 1e6, run_of.accuracy, color=axis.lines[-1].get_color(), lw=0.5, alpha=0.4)
        axis.set(xlabel="generated tokens of rollouts (millions)", ylabel="held-out accuracy")
        style.legend_below(drawn, axis)
        style.save(drawn, measured, stem)
