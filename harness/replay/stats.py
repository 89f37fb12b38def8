"""Statistics for comparing methods. The unit of resampling is the problem."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, norm, rankdata
from scipy.stats import t as student

from harness.rng import generator

RESAMPLES = 10_000
RATIO_RESAMPLES = 2_000
SPREADS = 2_000  # quantiles of the sample standard deviation in the numerical integral
FEW = 50  # reports warn if there are fewer problems


@dataclass(frozen=True)
class Interval:
    """A mean over problems with its bootstrap percentile interval; ``p`` is two-sided, against zero."""

    mean: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: np.ndarray, level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Expanded percentile bootstrap over problems. ``values`` ``[Q]``; for a paired comparison pass the differences.

    The bare percentile interval is too short when problems are few (30 of them: 91 % instead of 95 %), so its tails
    are widened as Student's t widens the normal's (Hesterberg 2015, The American Statistician 69(4), sec. 4.2). The
    resamples depend on Q alone, so every method is resampled alike.
    """
    values = np.ascontiguousarray(values, dtype=float)
    return _bootstrap(values.tobytes(), level, resamples)


def bootstraps(columns: Sequence[np.ndarray], level: float = 0.95, resamples: int = RESAMPLES) -> tuple[Interval, ...]:
    """``bootstrap`` of several columns of the same problems, ``[Q]`` each, resampled in one matrix product."""
    if not len(columns) or len(columns[0]) < 2:
        return tuple(bootstrap(column, level, resamples) for column in columns)
    held = tuple(np.ascontiguousarray(column, dtype=float).tobytes() for column in columns)
    return _bootstraps(held, level, resamples)


@lru_cache(maxsize=2048)
def _bootstraps(columns: tuple[bytes, ...], level: float, resamples: int) -> tuple[Interval, ...]:
    """Cached, because a decision rule has the same row in the table of every prefix length."""
    values = [np.frombuffer(column) for column in columns]
    means = np.ascontiguousarray(resampled(np.stack(values, 1), resamples).T)
    return tuple(interval_of(float(c.mean()), m, len(c), level) for c, m in zip(values, means, strict=True))


@lru_cache(maxsize=8192)
def _bootstrap(values: bytes, level: float, resamples: int) -> Interval:
    """Cached, because tables use the same column repeatedly: the baseline in every row, a gain and its p-value."""
    column = np.frombuffer(values)
    q = len(column)
    if q < 2:
        mean = float(np.mean(column)) if q else float("nan")
        return Interval(mean, float("nan"), float("nan"), float("nan"))
    return interval_of(float(column.mean()), resampled(column, resamples), q, level)


def interval_of(mean: float, means: np.ndarray, q: int, level: float = 0.95) -> Interval:
    """The interval of any statistic from its values on resamples of q problems."""
    low, high = np.quantile(means, _tails(q, level))
    tail = (min((means <= 0).mean(), (means >= 0).mean()) * len(means) + 0.5) / (len(means) + 1)
    return Interval(mean, float(low), float(high), _p_value(min(0.5, float(tail)), q))


@lru_cache(maxsize=64)
def _tails(q: int, level: float) -> np.ndarray:
    """The quantiles of the resamples that bound an interval, wider than the nominal level if problems are few."""
    return np.asarray(norm.cdf(np.sqrt(q / (q - 1)) * student.ppf([(1 - level) / 2, (1 + level) / 2], q - 1)))


@lru_cache(maxsize=4096)
def _p_value(tail: float, q: int) -> float:
    """The two-sided p-value for a share of resamples beyond zero."""
    return min(1.0, 2 * float(student.cdf(norm.ppf(tail) / np.sqrt(q / (q - 1)), q - 1)))


def detectable(differences: np.ndarray, power: float = 0.8, level: float = 0.05) -> float | None:
    """The smallest true mean of paired differences ``[Q]`` that this number of problems detects with probability ``power``.

    It is delta such that P(|T| > t) = power, where t is the two-sided critical value of Student's t with Q - 1 degrees of freedom and T has
    the noncentral t distribution of the same, with noncentrality delta sqrt(Q) / s; s is the standard deviation of the differences (Cohen
    1988, Statistical Power Analysis for the Behavioral Sciences, ch. 2). For many problems that is (z(1 - level / 2) + z(power)) s / sqrt(Q),
    2.80 standard errors (Bloom 1995, Evaluation Review 19(5)).

    Returns:
        delta in the unit of the differences; None if their variance is unknown or zero, as with fewer than two problems.
    """
    q = len(differences)
    spread = float(np.std(differences, ddof=1)) if q > 1 else 0.0
    return None if not spread > 0 else _standardised(q, power, level) * spread


@lru_cache(maxsize=256)
def _standardised(q: int, power: float, level: float) -> float:
    """The detectable mean in standard deviations of a difference.

    The noncentral t is integrated over the sample standard deviation, which, unlike SciPy's, is stable for all Q.
    """
    critical = float(student.ppf(1 - level / 2, q - 1))
    spreads = critical * np.sqrt(chi2.ppf((np.arange(SPREADS) + 0.5) / SPREADS, q - 1) / (q - 1))

    def lacking(shift: float) -> float:
        return float((norm.cdf(shift - spreads) + norm.cdf(-shift - spreads)).mean()) - power

    return float(brentq(lacking, 0.0, 3 * critical + 3)) / float(np.sqrt(q))


def ratio(above: np.ndarray, below: np.ndarray) -> Interval:
    """sum(above) / sum(below), ``[Q]`` each, with its interval over problems. NaN if sum(below) is 0."""
    nan = float("nan")
    if not below.sum():
        return Interval(nan, nan, nan, nan)
    value = float(above.sum() / below.sum())
    if len(above) < 2:
        return Interval(value, nan, nan, nan)
    up, down = resampled(np.stack([above, below], 1), RATIO_RESAMPLES).T
    return interval_of(value, up[down > 0] / down[down > 0], len(above))


def resampled(values: np.ndarray, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of the bootstrap resamples over problems: ``values`` ``[Q, ...]`` -> ``[resamples, ...]``."""
    means = _counts(len(values), resamples) @ values.reshape(len(values), -1).astype(float) / len(values)
    return means.reshape(resamples, *values.shape[1:])


@lru_cache(maxsize=4)
def _counts(q: int, resamples: int) -> np.ndarray:
    """How often each of q problems is drawn in each resample, float64 ``[resamples, q]``."""
    rng = generator("bootstrap", q)
    rows = np.repeat(np.arange(resamples), q)
    drawn = np.concatenate([rng.integers(0, q, (1000, q)) for _ in range(-(-resamples // 1000))])[:resamples]
    return np.bincount(rows * q + drawn.ravel(), minlength=resamples * q).reshape(resamples, q).astype(float)


def holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjusted p-values, in the given order (Holm 1979)."""
    order = np.argsort(p_values)
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, p_values[i] * (len(p_values) - rank)))
        adjusted[int(i)] = running
    return adjusted


def auroc(scores: np.ndarray, correct: np.ndarray) -> float:
    """P(score of a right path > score of a wrong one), ties counted as one half; NaN if only one kind is present."""
    right = int(correct.sum())
    wrong = correct.size - right
    if not right or not wrong:
        return float("nan")
    ranks = rankdata(scores.ravel())
    return float((ranks[correct.ravel()].sum() - right * (right + 1) / 2) / (right * wrong))


def within_auroc(scores: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """AUROC of each problem with both right and wrong paths; it is not affected by differences in difficulty.

    ``scores`` and ``correct``: ``[Q, N]``.
    """
    right = correct.sum(1)
    wrong = correct.shape[1] - right
    mixed = (right > 0) & (wrong > 0)
    ranks = rankdata(scores[mixed], axis=1)
    right, wrong = right[mixed], wrong[mixed]
    return ((ranks * correct[mixed]).sum(1) - right * (right + 1) / 2) / (right * wrong)


def soft_auroc(scores: np.ndarray, success: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """(mean within groups, pooled) AUROC for success rates in [0, 1].

    Every prefix is a success with weight s and a failure with weight 1 - s; a prefix is not paired with itself. For labels 0
    and 1 it is the usual AUROC. NaN without pairs.
    """
    within = [_soft_auroc(scores[groups == g], success[groups == g]) for g in np.unique(groups)]
    told = [value for value in within if not np.isnan(value)]
    return float(np.mean(told)) if told else float("nan"), _soft_auroc(scores, success)


def _soft_auroc(scores: np.ndarray, success: np.ndarray) -> float:
    values, place = np.unique(scores, return_inverse=True)
    good = np.bincount(place, success, len(values))
    bad = np.bincount(place, 1.0 - success, len(values))
    alone = float((success * (1.0 - success)).sum())
    pairs = good.sum() * bad.sum() - alone
    if pairs < 1e-9:
        return float("nan")
    above = np.cumsum(bad) - bad
    return float(((good * (above + bad / 2)).sum() - alone / 2) / pairs)
