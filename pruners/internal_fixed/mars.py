"""MARS (arXiv 2606.12935; code Wenbo11/MARS): stop all paths once later changes of mind can hardly turn the vote."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from harness.api import Check, Decision, Origins, Path
from pruners.internal_fixed.confidence import column
from pruners.internal_fixed.deepconf import WINDOW
from pruners.internal_fixed.probing import settled

GRID, Z, LEAST, FEWEST = np.arange(0, 11) / 10, 1.0, 0.5, 4  # of gamma's calibration, as the authors' runs have them
PENALTY = 0.01  # on the squared weights of the logistic model


class MARS:
    """Paths answer every ``step`` tokens; all are stopped when the leader is safe from every challenger k:

        V_L - V_k > sum over paths j of q_j c_j,   c_j = 2 gamma if j votes for L, -1 if for k, gamma if for another.

    A challenger without votes is one of them. q_j is the probability that path j changes its answer before its end:
    logistic regression on token position, mean confidence C_t of the last ``window`` tokens and its change, number of
    changes of the answer so far, and probes since the last one, then Platt scaling. Both are fitted for each problem, on
    its first ``warmup`` paths, which finish first; nothing is trained before. ``gamma`` is fixed (1: the worst case) or, by
    default, the lowest of 0, 0.1, ..., 1 down to which the warm-up paths, stopped with their true changes for q, keep their
    final majority, plus 1 / sqrt(their votes), from 0.5 to 1. The first probe stops only at the warm-up's majority.

    Adapted: the authors' simulator draws paths with a final answer only, leaves out what the warm-up costs, and reads one
    token ahead for C_t. Here no path is chosen by its end, the warm-up is paid and votes, and so is every forced token. Who
    gives the answer that was stopped at is said in ``parallel-probe``. The windows of 2,048 tokens are for long paths.
    """

    quadrant = "internal-fixed"
    ranked_by = "votes"  # only who holds the winning answer votes
    needs = frozenset({"text", "forced", "token_stats"})
    origins = Origins("adapted", "adapted")
    cost_class = "probe"

    def __init__(
        self,
        step: int = 2048,
        window: int = WINDOW,
        warmup: int = 16,
        gamma: float | None = None,
        suffix: str = "",
        max_tokens: int = 16,
    ) -> None:
        if min(step, window, max_tokens) < 1 or warmup < FEWEST:
            raise ValueError(f"step, window and max_tokens are tokens, 1 or more; warmup is {FEWEST} paths or more")
        if gamma is not None and not 0 <= gamma <= 1:
            raise ValueError("gamma is from 0 to 1; leave it out to calibrate it")
        self.step, self.window, self.warmup, self.gamma = step, window, warmup, gamma
        self.suffix, self.max_tokens = str(suffix), max_tokens

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        order = sorted(range(len(paths)), key=lambda i: paths[i].index)
        ordered = [paths[i] for i in order]
        pool = self._stopped(ordered, check)
        now = pool.answers()[:, -1]
        held = [pool.final(p) if k < self.warmup else int(now[k]) for k, p in enumerate(ordered)]
        holders = [k for k, answer in enumerate(held) if (now >= 0).any() and answer == leader(now)]
        lengths = [len(p.tokens) for p in ordered]
        spent = [n if k < self.warmup else min(n, pool.now) for k, n in enumerate(lengths)]
        decision, back = settled(ordered, spent, holders), np.argsort(order)
        return Decision(decision.spent[back], decision.weights[back])

    def _stopped(self, paths: Sequence[Path], check: Check) -> Track:
        """All paths at the probe at which they are stopped, or at the first one at which all have ended."""
        pool, first = Track(paths, self, check), paths[: self.warmup]
        warm = Track([p for p in first if pool.final(p) >= 0], self, check, pool)
        finals = np.array([pool.final(p) for p in warm.paths], dtype=int)
        if len(finals) < FEWEST:  # nothing to fit the changes on: nobody is made to answer, and all go on to their ends
            pool.now = max(len(p.tokens) for p in paths)
            pool.probe()
            return pool
        while not warm.ended:
            warm.probe()
        changes = switch_model(warm.features(), warm.answers() != finals[:, None])
        gamma = calibrated(warm.answers(), finals) if self.gamma is None else self.gamma
        while not pool.ended:
            ids = pool.probe()
            safe = certified(ids, changes(pool.features()[:, -1]), gamma)
            if safe and (pool.now > self.step or leader(ids) == leader(finals)):
                break
        return pool


class Track:
    """Paths at the probes so far: their answers as numbers, and their confidence, both ``[n, probes]``."""

    def __init__(self, paths: Sequence[Path], rule: MARS, check: Check, like: Track | None = None) -> None:
        self.paths, self.now = paths, 0
        self._rule, self._check = rule, check
        self._names: dict[str, int] = {} if like is None else like._names
        self._drawn: dict[tuple[int, int], int] = {} if like is None else like._drawn  # by path and length, once
        self._sums = [np.concatenate([[0.0], np.cumsum(column(p, "confidence"))]) for p in paths]
        self._answers: list[np.ndarray] = []
        self._confidence: list[list[float]] = []

    @property
    def ended(self) -> bool:
        """Have all paths, at a probe?"""
        return self.now > 0 and all(len(p.tokens) <= self.now for p in self.paths)

    def final(self, path: Path) -> int:
        """The answer of a path that has ended."""
        return self._number(self._check.final(path))

    def probe(self) -> np.ndarray:
        """Go on by one step; the answers there, ``[n]``."""
        self.now += self._rule.step
        running = [p for p in self.paths if len(p.tokens) > self.now and (p.index, self.now) not in self._drawn]
        if running:
            cut = [p.cut(self.now, self._check.decode) for p in running]
            texts = self._check.engine.force(cut, self._rule.suffix or self._check.closing, self._rule.max_tokens)
            for path, text in zip(running, texts, strict=True):
                self._drawn[path.index, self.now] = self._number(self._check.answer(text))
        self._answers.append(np.array([self._answer(p) for p in self.paths], dtype=int))
        self._confidence.append([self._mean(sums) for sums in self._sums])
        return self._answers[-1]

    def _answer(self, path: Path) -> int:
        return self._drawn[path.index, self.now] if len(path.tokens) > self.now else self.final(path)

    def _number(self, answer: str | None) -> int:
        return -1 if answer is None else self._names.setdefault(answer, len(self._names))

    def _mean(self, sums: np.ndarray) -> float:
        """C_t over the last window; of a path that has ended over all of it."""
        length = len(sums) - 1
        start = max(0, self.now - self._rule.window) if length > self.now else 0
        end = min(self.now, length)
        return float((sums[end] - sums[start]) / max(1, end - start))

    def answers(self) -> np.ndarray:
        """``[n, probes]``."""
        return np.stack(self._answers, axis=1)

    def features(self) -> np.ndarray:
        """Of the switch model, ``[n, probes, 5]``."""
        positions = self._rule.step * np.arange(1, len(self._answers) + 1)
        return features(positions, np.array(self._confidence).T, self.answers())


def features(positions: np.ndarray, confidence: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Position, confidence, changes of the answer, probes with the present one, change of confidence: ``[n, probes, 5]``."""
    changed = np.diff(answers, axis=1, prepend=answers[:, :1]) != 0
    places = np.arange(answers.shape[1])
    streaks = 1 + places - np.maximum.accumulate(np.where(changed, places, 0), axis=1)
    trend = np.diff(confidence, axis=1, prepend=confidence[:, :1])
    where = np.broadcast_to(positions, answers.shape)
    return np.stack([where, confidence, np.cumsum(changed, axis=1), streaks, trend], axis=-1).astype(float)


def switch_model(rows: np.ndarray, changed: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Probabilities of a later change: fitted on ``rows`` ``[..., 5]`` and whether it came, ``[...]``."""
    x, y = rows.reshape(-1, rows.shape[-1]), changed.ravel().astype(float)
    mean, deviation = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-10)
    weights = fitted((x - mean) / deviation, y, np.zeros(x.shape[1] + 1), PENALTY)

    def raw(given: np.ndarray) -> np.ndarray:
        return np.asarray(expit(weights[0] + (given - mean) / deviation @ weights[1:]))

    def odds(given: np.ndarray) -> np.ndarray:
        return np.asarray(logit(np.clip(raw(given), 1e-7, 1 - 1e-7)))

    shift, scale = fitted(odds(x)[:, None], y, np.array([0.0, 1.0]), 0.0)
    return lambda given: np.asarray(expit(shift + scale * odds(given)))


def fitted(x: np.ndarray, y: np.ndarray, start: np.ndarray, penalty: float) -> np.ndarray:
    """Intercept and weights of a logistic regression, ``[1 + d]``."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = weights[0] + x @ weights[1:]
        rest = expit(z) - y
        value = np.logaddexp(0, z).sum() - y @ z + penalty * weights[1:] @ weights[1:]
        return float(value), np.concatenate([[rest.sum()], x.T @ rest + 2 * penalty * weights[1:]])

    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x)


def leader(ids: np.ndarray) -> int:
    """The most frequent answer, a tie going to the one seen first."""
    return int(np.bincount(ids[ids >= 0]).argmax())


def certified(ids: np.ndarray, changes: np.ndarray, gamma: float) -> bool:
    """Is the leader of the answers ``ids`` ``[n]``, -1 for none, safe where path j changes with probability ``changes[j]``?"""
    voting = ids >= 0
    if not voting.any():
        return False
    ids, changes = ids[voting], changes[voting]
    votes, first = np.bincount(ids), leader(ids)
    cost = gamma * np.where(ids == first, 2.0, 1.0)
    unseen = votes[first] > changes @ cost
    rivals = [k for k in np.flatnonzero(votes) if k != first]
    return bool(unseen and all(votes[first] - votes[k] > changes @ np.where(ids == k, -1.0, cost) for k in rivals))


def calibrated(answers: np.ndarray, finals: np.ndarray) -> float:
    """The gamma of a problem from its warm-up: answers ``[n, probes]`` and final ones ``[n]``."""
    changed = (answers != finals[:, None]).astype(float)

    def stopped(gamma: float) -> tuple[int, int]:
        for probe in range(answers.shape[1]):
            if certified(answers[:, probe], changed[:, probe], gamma):
                return leader(answers[:, probe]), probe
        return leader(finals), answers.shape[1] - 1

    lowest, (reference, probe) = 1.0, stopped(1.0)
    for gamma in GRID[::-1]:
        if stopped(gamma)[0] != reference:
            break
        lowest = float(gamma)
    voters = max(1, int((answers[:, probe] >= 0).sum()))
    return round(max(min(1.0, lowest + Z / np.sqrt(voters)), LEAST), 2)
