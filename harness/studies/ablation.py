"""The contribution of each ingredient of a learned pruner: variants trained and benched on the same pool.

Every variant is one training run of one recipe. All are benched on the same test problems, so differences are paired.
Checkpoints and records are kept: an interrupted command continues, and variants shared between ablations are trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import registry, report
from harness.api import PathpruneError
from harness.learn import checkpoints
from harness.learn.labels import Labels
from harness.learn.training import train_pruner
from harness.replay.stats import Interval, bootstrap, within_auroc
from harness.report.figures.chosen import gains
from harness.runners.bench import bench, open_record
from harness.runners.run import Run
from harness.spec import Stage
from harness.store.files import writable
from harness.studies.ablation_figure import ablation_figure

ABOUT = ["label", "spec", "task", "labels", "prefix", "label_tokens", "prefixes"]
GAIN = ["gain", "low", "high"]
PAIRED = ["against", "difference", "difference_low", "difference_high", "p"]
AUROC = ["within_auroc", "auroc_low", "auroc_high"]


@dataclass(frozen=True)
class Variant:
    """One training run.

    Its labels: number of ``problems`` (0: all), ``kind`` (empty: the pruner's own), ``continuations`` (0: the label run's),
    prefix length ``trained_at`` (0: all), ``source`` (another task). It is evaluated at ``prefix`` (0: the bench's L) and
    compared with variant ``against`` (empty: the first)."""

    label: str
    spec: str = "stop"
    problems: int = 0
    kind: str = ""
    prefix: int = 0
    continuations: int = 0
    trained_at: int = 0
    source: str = ""
    against: str = ""


@dataclass(frozen=True)
class Ablation:
    """A question with its ``variants``; by default they are compared with the first. ``curve``: the column on the figure's x
    axis, for a curve instead of a list of variants."""

    question: str
    variants: Callable[[Study], Sequence[Variant]]
    curve: str = ""


def _stop(option: str, values: Sequence[int], usual: int) -> Callable[[Study], Sequence[Variant]]:
    ordered = [usual, *(v for v in values if v != usual)]
    return lambda study: [Variant(f"{option}={v}", f"stop:{option}={v}" if v != usual else "stop") for v in ordered]


def affordable(labels: Labels, budget: float, kind: str) -> int:
    """Number of problems whose labels of a kind cost ``budget`` tokens, at most all."""
    each = labels.tokens(kind) / labels.recipe.problems
    return int(max(1, min(labels.recipe.problems, budget / each)))


def _labels(study: Study) -> list[Variant]:
    """K continuations per prefix against single outcomes, both for the same prefixes and for the same label tokens.

    All variants are trained on prefixes of the bench's L. Except for those on the same prefixes, all cost as many tokens as the
    outcomes of all problems."""
    budget, length = study.labels.tokens("single"), study.run_on.spec.prefixes[0]
    every = Variant("K = 1", kind="single", trained_at=length)
    out = [every]
    for k in MANY:
        few = _affordable_at(study, k, budget)
        many = Variant(f"K = {k}, equal tokens", problems=few, continuations=k, trained_at=length)
        single = f"K = 1, the prefixes of K = {k}"
        out += [Variant(single, problems=few, kind="single", trained_at=length), replace(many, against=single)]
    return out


def _affordable_at(study: Study, k: int, budget: float) -> int:
    """Number of problems for which a label run with K continuations at the bench's L costs ``budget`` tokens."""
    cost, recipe = study.labels.cost(), study.labels.recipe
    prefixes = cost.prefixes / len(recipe.prefixes) / recipe.problems
    rest = cost.launched_tokens / cost.launched - study.run_on.spec.prefixes[0]  # tokens of a continuation
    each = cost.launched_tokens / recipe.problems + prefixes * (k - 1) * rest
    return int(max(1, min(recipe.problems, budget / each)))


def _equal(study: Study) -> list[Variant]:
    """All learned methods, each with labels for as many tokens as the outcomes of all problems cost."""
    budget = study.labels.tokens("outcome")
    names = [n for n in registry.names("pruners") if hasattr(registry.load("pruners", n)[0], "fit")]
    ordered = ["stop", *(n for n in names if n != "stop")]
    kinds = {n: registry.load("pruners", n)[0].labels for n in ordered}
    return [Variant(n, n, problems=affordable(study.labels, budget, kinds[n])) for n in ordered]


def _growing(study: Study) -> list[Variant]:
    sizes = [study.labels.recipe.problems]
    while sizes[-1] >= 128:
        sizes.append(sizes[-1] // 2)
    return [Variant(f"{size:,} problems", problems=size) for size in sizes]


def _lengths(study: Study) -> list[Variant]:
    """One training run evaluated at its own prefix lengths, between and beyond them; and one trained at the bench's L alone."""
    usual, trained = study.run_on.spec.prefixes[0], study.labels.recipe.prefixes
    lengths = sorted({*trained, *(int(usual * share) for share in SHARES)} - {usual})
    alone = Variant(f"L = {usual}, trained there alone", trained_at=usual)
    swept = [Variant(f"L = {n}" + " (not trained)" * (n not in trained), prefix=n) for n in (usual, *lengths)]
    return [*swept, alone]


def _transfer(study: Study) -> list[Variant]:
    if not study.source:
        raise PathpruneError(
            "ablation transfer needs the task to transfer from, one that the same model can do: --source TASK"
        )
    return [Variant(f"labels of {study.labels.task.name}"), Variant(f"labels of {study.source}", source=study.source)]


SHARES = (0.5, 0.75, 1.5, 3)  # fractions of the bench's L
MANY = (32, 8)  # continuations: the paper's number and an intermediate one
ABLATIONS = {
    "labels": Ablation("Do more continuations of a prefix buy more than more problems?", _labels),
    "tokens": Ablation("How many [STOP] tokens?", _stop("tokens", range(1, 10), 4)),
    "rank": Ablation("How large a LoRA?", _stop("rank", (2, 8, 16, 64), 16)),
    "seeds": Ablation("How much is the luck of one training?", _stop("seed", range(1, 6), 0)),
    "adapter": Ablation("Is a probe enough? Are [STOP] tokens without an adapter?", lambda study: [
        Variant("STOP"), Variant("no adapter", "stop:rank=0"),
        Variant("linear probe", "linear-probe"), Variant("MLP probe", "mlp-probe"),
    ]),
    "equal-budget": Ablation("Which method makes most of the same label tokens?", _equal),
    "budget": Ablation("What do more labels buy?", _growing, curve="label_tokens"),
    "prefix": Ablation("How early can one training be used?", _lengths),
    "transfer": Ablation("Does it need labels of the very task?", _transfer),
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """The setting of an ablation: ``run_on`` for its benches, ``labels`` to draw from, and ``root`` for its output."""

    name: str
    run_on: Run
    labels: Labels
    root: Path
    log: Callable[[str], None]
    progress: Callable[[int, int, str], None]

    source: str = ""  # the task to transfer from

    def labels_of(self, variant: Variant) -> Labels:
        """The label run of a variant; missing labels are made."""
        recipe = replace(self.labels.recipe, problems=variant.problems or self.labels.recipe.problems)
        if variant.continuations:
            recipe = replace(recipe, continuations=variant.continuations, prefixes=(variant.trained_at,))
        task = registry.task(variant.source) if variant.source else self.labels.task
        labels = Labels(self.labels.root, task, self.labels.engine, recipe, self.labels.group)
        labels.make(lambda done, tokens: self.progress(done, recipe.problems, f"problems labelled, {tokens:,} tokens"))
        return labels

    def run(self) -> pd.DataFrame:
        """Train and bench missing variants; write and return the data of the figure."""
        if self.name not in ABLATIONS:
            raise PathpruneError(registry.unknown("ablation", self.name, sorted(ABLATIONS)))
        wanted = ABLATIONS[self.name]
        variants = list(wanted.variants(self))
        trained = []
        for number, variant in enumerate(variants, 1):
            self.log(f"{self.name}, {number} of {len(variants)}: {variant.label}")
            trained.append(self._trained(variant))
        judged = [self._told(v, self._benched(v, c)) for v, c in zip(variants, trained, strict=True)]
        known = {v.label: gains(j, self._prefix_of(v)) for v, j in zip(variants, judged, strict=True)}
        rows = [self._row(v, c, j, known) for v, c, j in zip(variants, trained, judged, strict=True)]
        data = pd.DataFrame(rows, columns=ABOUT + GAIN + PAIRED + AUROC)
        with writable(self.root / f"{self.name}-gains.csv") as part:
            pd.DataFrame(known, index=pd.Index(judged[0].pool.problems, name="problem")).round(6).to_csv(part)
        ablation_figure(data, wanted.question, self.root / self.name, curve=wanted.curve)
        return data

    def _told(self, variant: Variant, judged: report.Method) -> report.Method:
        """Log a variant's gain at once, since the table is written only when all variants are complete; return ``judged``."""
        gain = bootstrap(gains(judged, self._prefix_of(variant)))
        self.log(f"{variant.label}: gain over random {gain.mean:+.3f} [{gain.low:.3f}, {gain.high:.3f}]")
        return judged

    def _prefix_of(self, variant: Variant) -> int:
        return variant.prefix or self.run_on.spec.prefixes[0]

    def _row(
        self, variant: Variant, checkpoint: Path, judged: report.Method, known: dict[str, np.ndarray]
    ) -> list[Any]:
        against = variant.against or next(iter(known))
        values, card = known[variant.label], checkpoints.read_card(checkpoint)
        paired = bootstrap(values - known[against])
        auroc = bootstrap(within_auroc(judged.values, judged.pool.correct))
        about = [variant.label, variant.spec, card["task"], card["labels"]["kind"], self._prefix_of(variant)]
        cost = [card["labels"]["tokens"], card["metrics"].get("prefixes")]
        difference = [against, *_numbers(paired), paired.p]
        return [*about, *cost, *_numbers(bootstrap(values)), *difference, *_numbers(auroc)]

    def _trained(self, variant: Variant) -> Path:
        labels = self.labels_of(variant)
        plugin = registry.pruner(variant.spec)
        kind = variant.kind or plugin.pruner.labels
        run = f"{labels.key}-{labels.recipe.problems}-{kind}" + f"-L{variant.trained_at}" * bool(variant.trained_at)
        out = self.root / "checkpoints" / run
        checkpoint = checkpoints.folder(out, plugin, self.run_on.engine.fingerprint)
        if (checkpoint / checkpoints.CARD).exists():
            card = checkpoints.read_card(checkpoint)
            if card["labels"]["digest"] == labels.digest(kind) and card.get("code") == plugin.code:
                return checkpoint
        engine = self.run_on.engine
        return train_pruner(plugin, engine, labels, out, self.log, self.progress, kind, variant.trained_at)

    def _benched(self, variant: Variant, checkpoint: Path) -> report.Method:
        """The variant's scores of the test prefixes; the engine keeps their KV cache between variants."""
        separator = "," if ":" in variant.spec else ":"
        plugin = registry.pruner(f"{variant.spec}{separator}checkpoint={checkpoint}")
        stage = Stage(self._prefix_of(variant), self.run_on.spec.keep)
        run = replace(self.run_on, spec=replace(self.run_on.spec, stages=(stage,)), results=self.root / "records")
        bench(run, [plugin], lambda done, note: self.progress(done, run.problems, note))
        key = open_record(run, plugin, stage.prefix).file.stem.rpartition("-")[2]
        for group in report.groups_of(run.folder, run.spec.n):
            for judged in group.judged:
                if group.prefix == stage.prefix and judged.key == key:
                    return judged
        raise PathpruneError(f"{variant.label}: no problem could be scored; see {run.folder}")


def _numbers(interval: Interval) -> list[float]:
    return [interval.mean, interval.low, interval.high]
