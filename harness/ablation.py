"""What each ingredient of a learned pruner buys: variants trained and benched on the same pool, compared in pairs.

Every variant is one training of one recipe; all are benched on the same test problems, so differences are paired.
Checkpoints and records are kept, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import checkpoints, registry, report
from harness.api import PathpruneError
from harness.bench import Settings, bench, open_record
from harness.figures.ablation import ablation_figure
from harness.figures.chosen import gains
from harness.stats import bootstrap, within_auroc
from harness.supervision import Labels
from harness.training import train_pruner

COLUMNS = ["label", "spec", "labels", "prefix", "label_tokens", "prefixes", "gain", "low", "high"]
PAIRED = ["difference", "difference_low", "difference_high", "p", "within_auroc", "auroc_low", "auroc_high"]


@dataclass(frozen=True)
class Variant:
    """``problems`` of the label run, 0 for all; ``kind`` of labels, empty for the pruner's own; L, 0 for the bench's."""

    label: str
    spec: str
    problems: int = 0
    kind: str = ""
    prefix: int = 0


@dataclass(frozen=True)
class Ablation:
    """``variants`` of a made label run; the first is what the others are compared with."""

    question: str
    variants: Callable[[Labels], Sequence[Variant]]


def _stop(option: str, values: Sequence[int], usual: int) -> Callable[[Labels], Sequence[Variant]]:
    ordered = [usual, *(v for v in values if v != usual)]
    return lambda labels: [Variant(f"{option}={v}", f"stop:{option}={v}" if v != usual else "stop") for v in ordered]


def _affordable(labels: Labels, budget: float, kind: str) -> int:
    """Problems whose labels of a kind cost ``budget`` tokens, at most those there are."""
    each = labels.tokens(kind) / labels.recipe.problems
    return int(max(1, min(labels.recipe.problems, budget / each)))


def _labels(labels: Labels) -> list[Variant]:
    """K continuations of a part of the problems, against the paths' own endings of as many and of as much."""
    k = labels.recipe.continuations
    share = labels.tokens("single") / labels.tokens("monte-carlo")
    few = max(1, int(labels.recipe.problems * share))
    return [
        Variant(f"K = {k}", "stop", problems=few),
        Variant("K = 1, equal prefixes", "stop", problems=few, kind="single"),
        Variant("K = 1, equal label tokens", "stop", kind="single"),
    ]


def _equal(labels: Labels) -> list[Variant]:
    """All that learn, for the tokens that the outcomes of all problems cost."""
    budget = labels.tokens("outcome")
    names = [n for n in registry.names("pruners") if hasattr(registry.load("pruners", n)[0], "fit")]
    ordered = ["stop", *(n for n in names if n != "stop")]
    return [Variant(n, n, problems=_affordable(labels, budget, registry.load("pruners", n)[0].labels)) for n in ordered]


def _growing(labels: Labels) -> list[Variant]:
    sizes = [labels.recipe.problems]
    while sizes[-1] >= 128:
        sizes.append(sizes[-1] // 2)
    return [Variant(f"{size:,} problems", "stop", problems=size) for size in sizes]


def _lengths(labels: Labels) -> list[Variant]:
    lengths = labels.recipe.prefixes
    return [Variant(f"L = {length}", "stop", prefix=length) for length in lengths]


ABLATIONS = {
    "labels": Ablation("Do more continuations of a prefix buy more than more problems?", _labels),
    "tokens": Ablation("How many [STOP] tokens?", _stop("tokens", range(1, 10), 4)),
    "rank": Ablation("How large a LoRA?", _stop("rank", (4, 8, 16, 32, 64), 16)),
    "adapter": Ablation("Is a probe enough? Are [STOP] tokens without an adapter?", lambda labels: [
        Variant("STOP", "stop"), Variant("no adapter", "stop:rank=0"),
        Variant("linear probe", "linear-probe"), Variant("MLP probe", "mlp-probe"),
    ]),
    "equal-budget": Ablation("Which method makes most of the same label tokens?", _equal),
    "budget": Ablation("What do more labels buy?", _growing),
    "prefix": Ablation("How early can one training be used?", _lengths),
}  # fmt: skip


@dataclass(frozen=True)
class Study:
    """Where an ablation runs: ``settings`` of its benches, ``labels`` that it may use, ``root`` for all it writes."""

    name: str
    settings: Settings
    labels: Labels
    root: Path
    log: Callable[[str], None]
    progress: Callable[[int, int, str], None]

    @property
    def folder(self) -> Path:
        return self.root / self.name

    def labels_of(self, variant: Variant) -> Labels:
        recipe = replace(self.labels.recipe, problems=variant.problems or self.labels.recipe.problems)
        return Labels(self.labels.folder.parent, self.labels.task, self.labels.engine, recipe, self.labels.group)

    def run(self) -> pd.DataFrame:
        """Train and bench what is missing; writes and returns the table behind the figure."""
        if self.name not in ABLATIONS:
            raise PathpruneError(registry.unknown("ablation", self.name, sorted(ABLATIONS)))
        wanted = ABLATIONS[self.name]
        rows: list[list[Any]] = []
        first: np.ndarray | None = None
        for variant in wanted.variants(self.labels):
            self.log(f"{self.name}: {variant.label}")
            labels = self.labels_of(variant)
            place = self._trained(variant, labels)
            judged = self._benched(variant, place)
            values = gains(judged, variant.prefix or self.settings.prefix)
            first = values if first is None else first
            card = checkpoints.read_card(place)
            mean, paired = bootstrap(values), bootstrap(values - first)
            auroc = bootstrap(within_auroc(judged.values, judged.pool.correct))
            about = [variant.label, variant.spec, card["labels"]["kind"], variant.prefix or self.settings.prefix]
            cost = [card["labels"]["tokens"], card["metrics"].get("prefixes")]
            difference = [paired.mean, paired.low, paired.high, paired.p]
            rows.append([*about, *cost, mean.mean, mean.low, mean.high, *difference, auroc.mean, auroc.low, auroc.high])
        data = pd.DataFrame(rows, columns=COLUMNS + PAIRED)
        ablation_figure(data, wanted.question, self.folder)
        return data

    def _trained(self, variant: Variant, labels: Labels) -> Path:
        plugin = registry.pruner(variant.spec)
        kind = variant.kind or plugin.pruner.labels  # type: ignore[attr-defined]
        out = self.folder / "checkpoints" / f"{labels.recipe.problems}-{kind}"
        place = checkpoints.folder(out, plugin, self.settings.engine.fingerprint)
        if (place / checkpoints.CARD).exists():
            known = checkpoints.read_card(place)["labels"]
            if known["digest"] == labels.digest(kind):
                return place
        return train_pruner(plugin, self.settings.engine, labels, out, self.log, self.progress, kind)

    def _benched(self, variant: Variant, place: Path) -> report.Judged:
        separator = "," if ":" in variant.spec else ":"
        plugin = registry.pruner(f"{variant.spec}{separator}checkpoint={place}")
        settings = replace(
            self.settings, prefix=variant.prefix or self.settings.prefix, results=self.folder / "records"
        )
        bench(settings, [plugin], lambda done, note: self.progress(done, settings.problems, note))
        key = open_record(settings, plugin).file.stem.rpartition("-")[2]
        for group in report.groups_of(settings.folder, settings.n):
            for judged in group.judged:
                if group.prefix == settings.prefix and judged.key == key:
                    return judged
        raise PathpruneError(f"{variant.label}: no problem could be scored; see {settings.folder}")
