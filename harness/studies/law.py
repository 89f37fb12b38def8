"""The retention law as a file: fitted to a folder of records, and read to recommend a plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite, log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness import advice, registry, report
from harness.api import PathpruneError
from harness.replay.stats import Interval, bootstrap
from harness.report import Group, Method
from harness.report.matched import GAMMAS, comparable
from harness.store.blame import damaged, other_format, unreadable
from harness.store.files import writable
from harness.store.provenance import provenance
from harness.studies import retention
from harness.studies.retention import Cell, Law

FORMAT = "pathprune-law/1"
FEWEST_PREFIXES = 4
MOST = 10**12  # tokens
AGAIN = "move it away and fit it again: pathprune law fit"


def collect(results: Path, pruner: str, only: str = "*") -> list[tuple[Group, Method]]:
    """The groups in which a method has scored every problem, as (group, method); ``only`` as in ``harness.report.selected``."""
    judged, names = [], set()
    for group in report.selected(results, only):
        methods = [m for m in group.judged if comparable(m, group)]
        names |= {m.name for m in methods}
        judged += [(group, m) for m in methods if m.name == pruner]
    if not names:
        raise PathpruneError(
            f"no records of a pruner under {results}; run: " + advice.command("bench", pruner=pruner, results=results)
        )
    if not judged:
        raise PathpruneError(registry.unknown(f"pruner with records under {results}", pruner, sorted(names)))
    prefixes = {g.prefix for g, _ in judged}
    if len(prefixes) < FEWEST_PREFIXES:
        raise PathpruneError(
            f"a law needs {FEWEST_PREFIXES} prefix lengths or more; {pruner} has records only at L = "
            f"{', '.join(map(str, sorted(prefixes)))}. Add some: "
            + advice.command("bench", pruner=pruner, prefix="...", results=results)
        )
    return judged


def write(
    results: Path, pruner: str, out: Path, only: str = "*", resamples: int = retention.RESAMPLES
) -> dict[str, Any]:
    """Fit the law, evaluate it on held-out problems, and write ``out`` (JSON) and the observations (CSV); return the JSON data."""
    judged = collect(results, pruner, only)
    cells = retention.cells(judged)
    if not cells:
        raise PathpruneError(
            f"no budget can be spent at every gamma from 1/2 to 1/{GAMMAS[-1].denominator} with n = {judged[0][0].pool.n} "
            "paths; sample more with N="
        )
    law, intervals, goodness = retention.fit(cells, resamples)
    fitted = {
        "format": FORMAT,
        "pruner": pruner,
        "pools": sorted({f"{g.spec['task']}-{g.folder.name}" for g, _ in judged}),
        "n": judged[0][0].pool.n,
        "law": asdict(law),
        "intervals": {name: [round(v.low, 4), round(v.high, 4)] for name, v in intervals.items()},
        "goodness": {name: round(value, 4) for name, value in goodness.items()},
        "paper": dict(zip("abcd", retention.PAPER, strict=True)),
        "constant": float(retention.constant(cells)),
        "held_out": {name: _triple(v) for name, v in retention.held_out(cells, resamples).items()},
        "cells": [_cell(cell) for cell in cells],
        "provenance": provenance(),
    }
    with writable(out) as part:
        part.write_text(json.dumps(fitted, indent=1) + "\n")
    with writable(out.with_suffix(".csv")) as part:
        observations(cells, law).round(5).to_csv(part, index=False)
    return fitted


def _triple(value: Interval) -> list[float]:
    return [round(v, 5) for v in (value.mean, value.low, value.high)]


def _cell(cell: Cell) -> dict[str, Any]:
    """The data of a cell for ``recommend``: votes with intervals at every budget and gamma."""
    return {
        "prefix": cell.prefix,
        "length": round(cell.length, 2),
        "problems": len(cell.problems),
        "budgets": [round(float(b), 2) for b in cell.budgets],
        "gammas": [float(g) for g in GAMMAS],
        "voted": [[_triple(bootstrap(v, resamples=retention.RESAMPLES)) for v in row] for row in cell.voted],
    }


def observations(cells: Sequence[Cell], law: Law) -> pd.DataFrame:
    """One row per cell and budget: the best 1/gamma, the law's, and the vote at every gamma."""
    rows = []
    for cell in cells:
        best = np.exp(retention.best_gammas(cell.voted.mean(-1)))
        for i, budget in enumerate(cell.budgets):
            gamma = law.gamma(float(budget), cell.prefix, cell.length)
            votes = {f"cons at 1/{g.denominator}": cell.voted[i, j].mean() for j, g in enumerate(GAMMAS)}
            where = {"prefix": cell.prefix, "length": cell.length, "budget": budget}
            rows.append(where | {"best 1/gamma": best[i], "law 1/gamma": 1 / gamma} | votes)
    return pd.DataFrame(rows)


def summary(fitted: dict[str, Any]) -> list[str]:
    """Markdown lines with the law, its goodness of fit, and its gain on held-out problems; readable as plain text."""
    law, paper = fitted["law"], fitted["paper"]
    exponents = [
        f"{name} = {law[name]:.2f} [{low:.2f}, {high:.2f}] (the paper: {paper[name]:.2f})"
        for name, (low, high) in fitted["intervals"].items()
        if name in law
    ]
    held = fitted["held_out"]
    against = {
        "constant": f"the best constant gamma, 1/{1 / fitted['constant']:g} on all problems",
        "paper": "the paper's coefficients",
        "hindsight": "the best gamma of those very problems, which nobody knows",
    }
    paired = ["{} {:+.4f} [{:.4f}, {:.4f}]".format(text, *held[f"law - {name}"]) for name, text in against.items()]
    return [
        f"* {fitted['pruner']}: 1/gamma = {law['a']:.3g} C^{law['b']:.2f} L^{law['c']:.2f} / T^{law['d']:.2f}, C, L and T in 1,024 tokens.",
        f"* 95 % intervals: {'; '.join(exponents)}. R2 {fitted['goodness']['r2']:.2f} over {len(fitted['cells'])} cells x "
        f"{len(fitted['cells'][0]['budgets'])} budgets.",
        f"* On held-out problems it votes right on {held['law'][0]:.4f}. Paired difference to {'; to '.join(paired)}.",
    ]


@dataclass(frozen=True)
class Recommendation:
    """A plan for a budget: launch n prefixes, finish k; ``expected``: cons with its interval in the nearest cell."""

    gamma: float
    n: int
    k: int
    spent: float
    expected: Interval | None
    warnings: tuple[str, ...]


def read(file: Path) -> dict[str, Any]:
    """A fitted law from its file, as JSON."""
    try:
        fitted = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise PathpruneError(f"no law at {file}; fit one: pathprune law fit") from error
    except OSError as error:
        raise unreadable(file, error) from error
    except (ValueError, RecursionError) as error:
        raise damaged(file, " ".join(str(error).split()), AGAIN) from error
    if not isinstance(fitted, dict) or fitted.get("format") != FORMAT:
        raise other_format(file, fitted.get("format") if isinstance(fitted, dict) else None, FORMAT)
    if flaw := _flaw(fitted):
        raise damaged(file, flaw, AGAIN)
    return fitted


def _flaw(fitted: dict[str, Any]) -> str:
    """The part of a law that differs from what ``write`` writes, as a message; "" if none does."""
    letters, pairs = ["a", "b", "c", "d"], fitted.get("intervals")
    held = ["law", *(f"law - {other}" for other in ("constant", "paper", "hindsight"))]
    right = {
        "pruner": isinstance(fitted.get("pruner"), str),
        "n": type(fitted.get("n")) is int and fitted["n"] >= 1,
        "law": _amounts(fitted.get("law"), letters) and len(fitted["law"]) == 4 and fitted["law"]["a"] > 0,
        "paper": _amounts(fitted.get("paper"), letters),
        "intervals": isinstance(pairs, dict) and all(_numbers(pair, 2) for pair in pairs.values()),
        "goodness": isinstance(fitted.get("goodness"), dict) and type(fitted["goodness"].get("r2")) is float,
        "constant": _numbers([fitted.get("constant")]) and fitted["constant"] > 0,
        "held_out": isinstance(fitted.get("held_out"), dict)
        and all(_numbers(fitted["held_out"].get(k), 3) for k in held),
        "cells": isinstance(fitted.get("cells"), list)
        and bool(fitted["cells"])
        and all(map(_is_cell, fitted["cells"])),
    }
    wrong = [name for name, holds in right.items() if not holds]
    return f"its {wrong[0]} is not what a fit writes" if wrong else ""


def _numbers(values: Any, count: int | None = None) -> bool:
    listed = isinstance(values, list) and (count is None or len(values) == count)
    return listed and all(type(v) in (int, float) and isfinite(v) for v in values)


def _amounts(holder: Any, names: Sequence[str]) -> bool:
    return isinstance(holder, dict) and _numbers([holder.get(name) for name in names])


def _is_cell(cell: Any) -> bool:
    """Votes at every budget and gamma, as ``_cell`` writes them."""
    if not _amounts(cell, ["prefix", "length"]) or min(cell["prefix"], cell["length"]) <= 0:
        return False
    budgets, gammas, votes = (cell.get(name) for name in ("budgets", "gammas", "voted"))
    if not all(_numbers(axis) and axis and min(axis) > 0 for axis in (budgets, gammas)):
        return False
    rows = isinstance(votes, list) and len(votes) == len(budgets) and all(isinstance(row, list) for row in votes)
    return rows and all(len(row) == len(gammas) and all(_numbers(vote, 3) for vote in row) for row in votes)


def recommend(fitted: dict[str, Any], budget: float, prefix: int, length: float) -> Recommendation:
    """Compute gamma, n and k for a budget, with warnings outside the fitted range.

    Args:
        fitted: a law from ``read``.
        budget: tokens per problem.
        prefix: prefix length L in tokens.
        length: mean length of a whole path in tokens.

    Raises:
        PathpruneError: invalid numbers.
    """
    if not (0 < budget <= MOST and 1 <= prefix < length <= MOST):
        raise PathpruneError(
            f"--budget must be above 0, --prefix at least 1, and --length larger than --prefix; all at most {MOST:,} tokens"
        )
    raw = Law(**fitted["law"]).gamma(budget, prefix, length)
    gamma = min(1.0, max(1 / 2 ** len(GAMMAS), raw))
    warnings = [
        _outside(name, value, fitted) for name, value in (("budget", budget), ("prefix", prefix), ("length", length))
    ]
    if raw > 1:
        warnings.append(f"the law asks for gamma = {raw:.2f}, more paths than are launched; 1 is used: do not prune")
    elif raw != gamma:
        warnings.append(f"the law asks for gamma = {raw:.4f}, below the smallest fitted one; {gamma:.4f} is used")
    n, k = retention.plan(budget, prefix, length, gamma)
    if n > fitted["n"]:
        warnings.append(f"n = {n} is more than the {fitted['n']} paths that the law was fitted with")
    spent = n * prefix + k * (length - prefix)
    if spent > budget:
        warnings.append(f"not even one path fits the budget: it takes {spent:,.0f} tokens")
    nearest = _expected(fitted, budget, prefix, length, gamma) if not any(warnings) else None
    return Recommendation(gamma, n, k, spent, nearest, tuple(w for w in warnings if w))


def _outside(name: str, value: float, fitted: dict[str, Any]) -> str:
    seen = (
        [b for c in fitted["cells"] for b in c["budgets"]] if name == "budget" else [c[name] for c in fitted["cells"]]
    )
    low, high = min(seen), max(seen)
    return (
        ""
        if low <= value <= high
        else f"{name} {value:,.0f} is outside the fitted range of {low:,.0f} to {high:,.0f}: extrapolated"
    )


def _expected(fitted: dict[str, Any], budget: float, prefix: int, length: float, gamma: float) -> Interval:
    """cons of the grid's cell, budget and gamma that are nearest on a logarithmic scale."""

    def distance(cell: dict[str, Any], b: float) -> float:
        return abs(log(cell["prefix"] / prefix)) + abs(log(cell["length"] / length)) + abs(log(b / budget))

    cell, i = min(
        ((c, i) for c in fitted["cells"] for i in range(len(c["budgets"]))),
        key=lambda p: distance(p[0], p[0]["budgets"][p[1]]),
    )
    j = min(range(len(cell["gammas"])), key=lambda g: abs(log(cell["gammas"][g] / gamma)))
    mean, low, high = cell["voted"][i][j]
    return Interval(mean, low, high, float("nan"))
