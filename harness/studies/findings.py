"""The claims of STOP's paper (arXiv 2604.16029, sec. 4 and 5), tested against our own intervals.

A claim is a difference with a sign. It is confirmed if the 95 % interval lies on the claimed side of 0, not confirmed
if it lies on the other side, and undecided otherwise. Nothing is chosen by hand: rivals are the best of their
type on the same problems, which favours them. For a comparison of two training runs, the interval covers the variance over problems
and over training seeds, which the seeds ablation measures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import t as student

from harness import advice
from harness.api import PathpruneError
from harness.replay.pool import ended_inside, no_pruning
from harness.replay.stats import Interval, bootstrap
from harness.report import Group, Method, groups_of, matched
from harness.report.figures.chosen import gains, methods
from harness.report.matched import Curve
from harness.report.rows import chance, judge
from harness.report.tables import line, shown, write_part
from harness.spec import Ended
from harness.store import records
from harness.store.blame import damaged, unreadable

TYPES = {"I": "external-fixed", "II": "external-learned", "III": "internal-fixed"}
BUDGETS = (1 / 8, 1 / 4)
AGAIN = "move it away and run its ablation again: pathprune ablation NAME"
HEADS = ("finding", "the paper", "here: difference of gains", "interval", "ended bypass", "verdict")


@dataclass(frozen=True)
class Claim:
    """A claim of the paper that the difference ``value``, described by ``measured``, is positive. ``testbed``: where it was measured.

    ``bypassed`` is the difference under the official code's rule, by which paths that end before L vote in addition to the k; None
    without such paths, for differences of training runs, and at equal tokens."""

    text: str
    paper: str
    measured: str
    value: Interval
    testbed: str = ""
    bypassed: Interval | None = None

    @property
    def verdict(self) -> str:
        """ "confirmed", "not confirmed", "undecided" or "not tried", with the testbed."""
        if isnan(self.value.mean):
            return "not tried"
        word = "confirmed" if self.value.low > 0 else "not confirmed" if self.value.high < 0 else "undecided"
        return f"{word} on {self.testbed}" if self.testbed else word


def claims(ablations: Path, group: Group, frontier: Path | None = None) -> list[Claim]:
    """All claims: the trade-off from a group's records, the others from the output of ``pathprune ablation`` and ``pathprune frontier``."""
    on = testbed(group)
    stopped = [replace(claim, testbed=on.partition(", L")[0]) for claim in against_stopping(group, frontier)]
    return [*(replace(claim, testbed=on) for claim in _trade_off(group)), *stopped, *_ablated(ablations)]


PAIRS = (  # pairs of lanes in a frontier
    ("Pruning beats stopping in time", "stop - asc"),
    ("Pruning still pays when sampling stops in time", "stop+asc - asc"),
    ("Stopping in time adds to pruning", "stop+asc - stop"),
    ("A second cut adds to one", "stop, two cuts - stop"),
)


TOOLS = {24: "39 to 42 of 50 (AIMO3, one run)", 16: "39 to 43 of 50 (AIMO3, one run)"}  # by launched paths
FINISHED = 8  # finished paths, as in the paper


def with_tools(root: Path, scorer: str = "stop") -> Iterator[Claim]:
    """STOP's gain on paths that run code, as in the paper's AIMO3 runs, on every pool with tools in a results folder."""
    folders = [f for f in records.pools(root) if "tools" in records.pool_of(f).header["spec"]["engine"]]
    for group in (group for folder in folders for group in groups_of(folder)):
        for method in (m for m in methods(group) if m.name == scorer and group.pool.n in TOOLS):
            n, every = group.pool.n, no_pruning(method.pool).voted
            voted, drawn = judge(method, group, FINISHED).result.voted, chance(group, FINISHED, method.pool).voted
            for rival, reached in ((f"random, cons@{FINISHED}\\|{n}", drawn), (f"all paths, cons@{n}", every)):
                measured, value = f"{scorer}, cons@{FINISHED}\\|{n} - {rival}", bootstrap(voted - reached)
                yield Claim("STOP's gain survives tools", TOOLS[n], measured, value, testbed(group))


def against_stopping(group: Group, file: Path | None) -> Iterator[Claim]:
    """A comparison that STOP's paper omits: pruning against a stopping rule, on the same paths at equal tokens."""
    if file is None or not file.exists():
        return
    table = _differences(file)
    here = table[table.pool == group.folder.name]
    for text, pair in PAIRS:
        for row in here[here.lane == pair].sort_values("share").to_dict("records"):
            value = Interval(row["cons"], row["cons_low"], row["cons_high"], float("nan"))
            measured = f"{pair}, cons within {100 * row['share']:g}% of the tokens"
            yield Claim(text, "not compared", measured, value)


def testbed(group: Group) -> str:
    """Task, model and prefix length, in a few words."""
    task, model = group.spec["task"], group.spec["engine"]["model"]
    return f"{task}{'' if model == task else f' by {model}'}, L {group.prefix}"


def _trade_off(group: Group) -> Iterator[Claim]:
    """STOP against the best method of each other type: at equal paths, and within equal tokens."""
    every = {m.name: m for m in methods(group)}
    if "stop" not in every:
        raise PathpruneError(
            f"{group.folder} has no record of stop at L = {group.prefix}; run: {advice.command('bench', pruner='stop')}"
        )
    stop, whole = every["stop"], [m for m in every.values() if m.pool.problems == group.pool.problems]
    text, keep = "Type IV has the best trade-off", group.pool.n // 8
    quoted = {"I": "37.9 against 26.3", "II": "37.9 against 32.5", "III": "37.9 against 32.9"}
    best = {}
    for kind, quadrant in TYPES.items():
        ranked = [m for m in whole if m.quadrant == quadrant]
        if ranked:
            best[kind] = rival = max(ranked, key=lambda m: float(gains(m, group.prefix).mean()))
            value, bypassed = (_gap(stop, rival, group, ended) for ended in ("count", "bypass"))
            measured = f"stop - {rival.name} (best Type {kind}), avg@{keep}\\|{group.pool.n}"
            some = bool(ended_inside(group.pool, group.prefix).any())
            yield Claim(text, f"{quoted[kind]} (1.5B, AIME24)", measured, value, bypassed=bypassed if some else None)
    drawn = {c.name: c for c in matched.curves(_only(group, [stop, *best.values()]))}
    full = float(drawn["no pruning"].costs("tokens").max())
    for rival in best.values():
        for share in BUDGETS:
            value = _within(drawn["stop"], drawn[rival.name], share * full)
            yield Claim(
                text, "fewest tokens of the four", f"stop - {rival.name}, cons within {share:.0%} of the tokens", value
            )


def _gap(one: Method, other: Method, group: Group, ended: Ended) -> Interval:
    return bootstrap(gains(one, group.prefix, ended) - gains(other, group.prefix, ended))


def _within(one: Curve, other: Curve, budget: float) -> Interval:
    """Paired difference of cons at a budget of tokens, each curve with its own cross-fitted gamma."""
    return bootstrap(one.crossfitted(budget, "tokens", "voted") - other.crossfitted(budget, "tokens", "voted"))


def _only(group: Group, judged: list[Method]) -> Group:
    return Group(group.folder, group.spec, group.pool, group.prefix, judged)


ROWS = (
    # finding, the paper, ablation, minuend and subtrahend: labels of its variants
    ("Several [STOP] tokens beat one", "4 tokens 36.9, 1 token 30.1 (avg@32\\|256)", "tokens", "tokens=4", "tokens=1"),
    ("Too many [STOP] tokens hurt", "6 tokens 37.7, 9 tokens 33.7", "tokens", "tokens=6", "tokens=9"),
    ("The LoRA needs rank", "r = 128 36.7, r = 32 32.5 (of width 1,536)", "rank", "rank=16", "rank=2"),
    ("More rank than enough does not help", "r = 128 36.7, r = 256 35.8", "rank", "rank=16", "rank=64"),
    ("Monte-Carlo labels beat final correctness", "K = 32 36.7, K = 1 35.4; same prefixes", "labels", "K = 32, equal tokens", "K = 1, the prefixes of K = 32"),
    ("", "not compared", "labels", "K = 8, equal tokens", "K = 1, the prefixes of K = 8"),
    ("... also for the same label tokens", "not compared", "labels", "K = 32, equal tokens", "K = 1"),
    ("", "not compared", "labels", "K = 8, equal tokens", "K = 1"),
    ("The adapter is needed", "with 36.7, without 31.7", "adapter", "STOP", "no adapter"),
)  # fmt: skip


def _ablated(root: Path) -> Iterator[Claim]:
    """Claims on ingredients; those whose ablation was not run have no value."""
    return iter(ablated(root))


def ablated(root: Path) -> dict[Claim, tuple[str, str, str]]:
    """Claims by ablation, each with the ablation's name, minuend and subtrahend; those not run have no value."""
    text, spread, told = "", luck(root), {}
    for finding, paper, name, one, other in ROWS:
        text = finding or text
        file = root / f"{name}-gains.csv"
        value = _difference(file, one, other, spread) if file.exists() else Interval(*[float("nan")] * 4)
        told[Claim(text, paper, f"{one} - {other}", value, _trained_on(root / f"{name}.csv"))] = (name, one, other)
    return told


def _differences(file: Path) -> pd.DataFrame:
    """The paired differences of a frontier, checked to be finite."""
    again = "move it away and run: pathprune frontier"
    try:
        table = pd.read_csv(file)
        table = table[table.kind == "difference"]
        numbers = table[["share", "cons", "cons_low", "cons_high"]].astype(float)
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, KeyError, AttributeError, RecursionError) as error:
        raise damaged(file, " ".join(str(error).split())[:120], again) from error
    if not np.isfinite(numbers.to_numpy()).all():
        raise damaged(file, "a difference is not finite", again)
    return table


def _trained_on(file: Path) -> str:
    """The task and L of an ablation, from its table; "" without one."""
    if not file.exists():
        return ""
    try:
        first = pd.read_csv(file).iloc[0]
        return f"{first['task']}, L {int(first['prefix'])}"
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise damaged(file, " ".join(str(error).split())[:120], AGAIN) from error


def _difference(file: Path, one: str, other: str, spread: float) -> Interval:
    """Gain of a variant minus that of another; the interval covers problems and training seeds."""
    table = _gains(file)
    for variant in (one, other):
        if variant not in table:
            raise damaged(file, f"it has no column {variant!r}", AGAIN)
    gap = bootstrap((table[one] - table[other]).to_numpy())
    low, high = (float(np.hypot(end - gap.mean, spread)) for end in (gap.low, gap.high))
    return Interval(gap.mean, gap.mean - low, gap.mean + high, gap.p)


def _gains(file: Path) -> pd.DataFrame:
    """Gains of an ablation's variants by problem, checked to be finite."""
    try:
        table = pd.read_csv(file, index_col=0)
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, RecursionError) as error:  # pandas' own errors are among them
        raise damaged(file, " ".join(str(error).split())[:120], AGAIN) from error
    numbers = table.select_dtypes("number")
    if table.empty or len(numbers.columns) < len(table.columns) or not (numbers.abs() < float("inf")).all(axis=None):
        raise damaged(file, "a gain is not finite", AGAIN)
    return table


def luck(root: Path) -> float:
    """Half-width of the 95 % interval for the difference of two training runs, from their seeds alone (Student's t)."""
    file = root / "seeds-gains.csv"
    if not file.exists():
        raise PathpruneError(f"no table at {file}; run: {advice.command('ablation', name='seeds')}")
    means = _gains(file).mean()
    return float(student.ppf(0.975, len(means) - 1) * np.sqrt(2) * means.std(ddof=1))


def _note(root: Path) -> str:
    means = _gains(root / "seeds-gains.csv").mean()
    return (
        f"Each variant was trained once. {len(means)} trainings that differ in nothing but the seed gain {means.min():+.3f} to "
        f"{means.max():+.3f} over random; that luck, +-{luck(root):.3f} for a difference, is part of the intervals between trainings."
    )


def write(tried: list[Claim], ablations: Path, file: Path, across: str = "") -> None:
    """Write a table and a note to a Markdown file, or between a README's markers; ``across``: the table over all pools."""
    rows = [(c.text, c.paper, c.measured, shown(c.value, "+.3f"), shown(c.bypassed, "+.3f"), c.verdict) for c in tried]
    lines = [line(HEADS), "|" + "---|" * len(HEADS), *("| " + " | ".join(row) + " |" for row in rows)]
    more = ["## Every model and task", "", across] if across else []
    text = "\n".join([*lines, "", _note(ablations), "", *more])
    write_part(file, "findings", "# Findings of the STOP paper, tried here\n\n", text)
