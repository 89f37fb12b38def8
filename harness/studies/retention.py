"""The retention law: how many of the launched paths are worth finishing (STOP, arXiv 2604.16029, Eq. 7).

1 / gamma = a C^b L^c / T^d, with budget C, prefix length L and the task's mean full length T, all in units of 1,024
tokens. The law is fitted in log space to the gamma with the best vote within each budget of each cell. A cell is a prefix length
and a level of difficulty, a third of the problems by mean path length. Only budgets that every gamma can spend
count: below them small gammas cannot run, and above them a pool of N paths is exhausted, which would mimic a law.
Intervals resample problems within levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from scipy.optimize import minimize
from scipy.stats import norm

from harness.replay.stats import Interval, bootstrap, interval_of, resampled
from harness.replay.sweep import sweep
from harness.report import Group, Method
from harness.report.matched import GAMMAS, family, interpolated
from harness.rng import generator

UNIT = 1024.0  # tokens
LEVELS = 3
BUDGETS = 7
RESAMPLES = 1000
LOGS = np.log([float(1 / g) for g in GAMMAS])  # ascending
FLOOR = 0.05  # smallest residual s.d. in log gamma
DRAWS = 200
PAPER = (1.17e4, 0.46, 0.40, 4.55)  # a, b, c, d as printed


@dataclass(frozen=True, eq=False)
class Cell:
    """One prefix length at one level of difficulty: votes of its problems at every budget and gamma."""

    prefix: int
    length: float  # mean full length of its paths, tokens
    problems: tuple[str, ...]
    budgets: np.ndarray  # [B] tokens per problem
    voted: np.ndarray  # [B, G, Q]


@dataclass(frozen=True)
class Law:
    """``a, b, c, d`` of Eq. 7."""

    a: float
    b: float
    c: float
    d: float

    def gamma(self, budget: float, prefix: float, length: float) -> float:
        """The law's gamma, from numbers of tokens; above 1 it asks for more paths than are launched."""
        inverse = self.a * (budget / UNIT) ** self.b * (prefix / UNIT) ** self.c / (length / UNIT) ** self.d
        return float(1 / inverse)


def cells(groups: Sequence[tuple[Group, Method]], levels: int = LEVELS, draws: int = DRAWS) -> list[Cell]:
    """Cells of one method's records: each group (prefix length and pool) is split into levels by mean path length."""
    grid = []
    for group, method in groups:
        length = method.pool.lengths.mean(1)
        level = np.minimum(levels - 1, (np.argsort(np.argsort(length, kind="stable")) * levels) // len(length))
        settings = [s for gamma in GAMMAS for s in family(method.pool.n, gamma)]
        swept = sweep(method.pool, method.values, group.prefix, settings, method.checks, draws, shared=method.shared)
        for number in range(levels):
            inside = level == number
            curves = []
            for gamma in GAMMAS:
                rows = [swept.at(s) for s in family(method.pool.n, gamma)]
                curves.append((swept.tokens[rows][:, inside].mean(1), swept.voted[rows][:, inside]))
            low, high = max(c.min() for c, _ in curves), min(c.max() for c, _ in curves)
            if low >= high:
                continue
            budgets = np.geomspace(low, high, BUDGETS)
            voted = np.stack([interpolated(budgets, spent, values) for spent, values in curves], axis=1)
            names = tuple(p for p, member in zip(method.pool.problems, inside, strict=True) if member)
            grid.append(Cell(group.prefix, float(length[inside].mean()), names, budgets, voted))
    return grid


def best_gammas(means: np.ndarray) -> np.ndarray:
    """log(1 / gamma) of the best vote, ``[..., B]`` from mean votes ``[..., B, G]``; ties are averaged."""
    best = means >= means.max(-1, keepdims=True) - 1e-12
    return np.asarray((best * LOGS).sum(-1) / best.sum(-1))


def design(grid: Sequence[Cell]) -> np.ndarray:
    """Rows (1, log C, log L, -log T) of every cell and budget, in units of 1,024 tokens, ``[observations, 4]``."""
    rows = [(1.0, np.log(b / UNIT), np.log(c.prefix / UNIT), -np.log(c.length / UNIT)) for c in grid for b in c.budgets]
    return np.array(rows)


def fit(grid: Sequence[Cell], resamples: int = RESAMPLES) -> tuple[Law, dict[str, Interval], dict[str, float]]:
    """(law, intervals of log a, b, c and d, goodness of fit).

    The grid only brackets the best gamma between its neighbours, and leaves it open beyond its ends. The fit therefore maximises
    the likelihood of grouped data; least squares would shrink the exponents. Goodness: ``r2`` and ``residual`` s.d. of
    log(1/gamma), with the law clipped to the grid. An exponent that the cells cannot distinguish from ``a`` (one prefix
    length, one task length) stays at the least-norm solution.
    """
    matrix = design(grid)
    means = [c.voted.mean(-1) for c in grid]
    point = _grouped(matrix, *(np.concatenate(side) for side in zip(*map(bracket, means), strict=True)))
    drawn = [bracket(resampled(np.moveaxis(c.voted, -1, 0), resamples)) for c in grid]
    low, high = (np.concatenate(side, axis=1) for side in zip(*drawn, strict=True))
    spread = np.array([_grouped(matrix, a, b) for a, b in zip(low, high, strict=True)])
    fewest = min(len(c.problems) for c in grid)
    names = ("log a", "b", "c", "d")
    intervals = {n: interval_of(float(v), s, fewest) for n, v, s in zip(names, point, spread.T, strict=True)}
    observed = np.concatenate([best_gammas(m) for m in means])
    rest = observed - np.clip(matrix @ point, LOGS[0], LOGS[-1])
    total = ((observed - observed.mean()) ** 2).sum()
    goodness = {"r2": float(1 - (rest**2).sum() / total) if total else float("nan"), "residual": float(rest.std())}
    return Law(float(np.exp(point[0])), *map(float, point[1:])), intervals, goodness


def bracket(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(lower, upper) bounds of the best log(1/gamma), halfway to its neighbours on the grid, ``[..., B]`` each."""
    best = means >= means.max(-1, keepdims=True) - 1e-12
    first, last = best.argmax(-1), len(LOGS) - 1 - best[..., ::-1].argmax(-1)
    middles = (LOGS[1:] + LOGS[:-1]) / 2
    low = np.append(-np.inf, middles)[first]
    return low, np.append(middles, np.inf)[last]


def _grouped(matrix: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Coefficients of a normal regression whose outcomes are only known to lie between ``low`` and ``high``."""
    edges = np.clip([low, high], LOGS[0], LOGS[-1])
    start = np.linalg.lstsq(matrix, edges.mean(0), rcond=None)[0]

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        # The s.d. has a floor, because a perfect fit would send it to 0.
        sd = FLOOR + np.exp(theta[-1])
        a, b = ((edge - matrix @ theta[:-1]) / sd for edge in (low, high))
        inside = np.maximum(norm.cdf(b) - norm.cdf(a), 1e-12)
        fa, fb = norm.pdf(a), norm.pdf(b)
        by_mean = (fb - fa) / inside / sd
        by_sd = (np.where(np.isinf(b), 0, b) * fb - np.where(np.isinf(a), 0, a) * fa) / inside / sd
        return -float(np.log(inside).sum()), np.append(matrix.T @ by_mean, by_sd.sum() * np.exp(theta[-1]))

    fitted = minimize(
        loss, np.append(start, np.log(0.5)), jac=True, method="L-BFGS-B", bounds=[(None, None)] * 4 + [(-6, 3)]
    )
    return np.asarray(fitted.x[:-1])


def constant(grid: Sequence[Cell]) -> Fraction:
    """The constant gamma with the best vote over all cells and budgets."""
    means = np.mean([c.voted.mean((0, 2)) for c in grid], axis=0)
    return GAMMAS[int(means.argmax())]


def chosen(grid: Sequence[Cell], gammas: Sequence[Sequence[float]]) -> np.ndarray:
    """Vote of each problem, averaged over cells and budgets, if each cell and budget uses the grid's gamma nearest to the given one."""
    votes_of: dict[str, list[np.ndarray]] = {}
    for cell, wanted in zip(grid, gammas, strict=True):
        nearest = np.abs(-np.log(np.array(wanted))[:, None] - LOGS).argmin(1)
        votes = cell.voted[np.arange(len(nearest)), nearest].mean(0)
        for problem, value in zip(cell.problems, votes, strict=True):
            votes_of.setdefault(problem, []).append(value)
    return np.array([np.mean(votes_of[p]) for p in sorted(votes_of)])


def held_out(grid: Sequence[Cell], resamples: int = RESAMPLES) -> dict[str, Interval]:
    """Votes on held-out problems by two-fold cross-fitting: each half uses the fit on the other half.

    References are the best constant gamma of the fitting half, the paper's coefficients (clipped to the grid), and the best
    gamma of the evaluated problems themselves (``hindsight``, unattainable in practice). Differences are paired: law minus each.
    """
    halves = [_half(grid, side) for side in (0, 1)]
    votes: dict[str, list[np.ndarray]] = {}
    for train, test in (halves, halves[::-1]):
        law = fit(train, 1)[0]
        fixed = float(constant(train))
        paper = Law(*PAPER)
        ways = {
            "law": [[law.gamma(b, c.prefix, c.length) for b in c.budgets] for c in test],
            "constant": [[fixed] * len(c.budgets) for c in test],
            "paper": [[paper.gamma(b, c.prefix, c.length) for b in c.budgets] for c in test],
            "hindsight": [list(np.exp(-best_gammas(c.voted.mean(-1)))) for c in test],
        }
        for name, gammas in ways.items():
            votes.setdefault(name, []).append(chosen(test, gammas))
    joined = {name: np.concatenate(parts) for name, parts in votes.items()}
    out = {name: bootstrap(values) for name, values in joined.items()}
    return out | {f"law - {name}": bootstrap(joined["law"] - joined[name]) for name in joined if name != "law"}


def _half(grid: Sequence[Cell], side: int) -> list[Cell]:
    """The problems of one side of a fixed random split, in every cell."""
    names = sorted({p for c in grid for p in c.problems})
    order = generator("retention halves", len(names)).permutation(len(names))
    members = {names[i] for i in order[side::2]}
    half = []
    for cell in grid:
        rows = [i for i, p in enumerate(cell.problems) if p in members]
        kept = tuple(cell.problems[i] for i in rows)
        half.append(Cell(cell.prefix, cell.length, kept, cell.budgets, cell.voted[:, :, rows]))
    return [c for c in half if c.problems]


def plan(budget: float, prefix: int, length: float, gamma: float) -> tuple[int, int]:
    """(n, k) that spend a token budget at a gamma: n prefixes and k = gamma n finished paths, both at least 1."""
    n = max(1, int(budget / (prefix + gamma * max(0.0, length - prefix))))
    k = max(1, min(n, round(gamma * n)))
    rest = k * max(0.0, length - prefix)
    n = max(k, min(n, int((budget - rest) // prefix) + 1))
    while n > k and n * prefix + rest > budget:
        n -= 1
    return n, k
