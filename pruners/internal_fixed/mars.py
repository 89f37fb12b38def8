"""MARS (arXiv 2606.12935; code Wenbo11/MARS): stops all paths once later changes of their answers are unlikely to
change the majority."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, logit

from harness.api import Check, Decision, Origins, Path
from pruners.internal_fixed.confidence import column
from pruners.internal_fixed.deepconf import WINDOW
from pruners.internal_fixed.probing import settled

GRID, Z, LEAST, FEWEST = np.arange(0, 11) / 10, 1.0, 0.5, 4  # calibration of gamma, values of the authors' runs
PENALTY = 0.01  # L2 penalty of the logistic regression


class MARS:
    """Stop all paths when V_L - V_k > sum_j q_j c_j holds for the leading answer L and every challenger k.

    Every ``step`` tokens each path is forced to answer. V_a is the number of paths with answer a. q_j is the
    probability that path j changes its answer before it ends. c_j is 2 gamma if path j votes for L, -1 if it votes for
    k, and gamma otherwise. An answer without votes is a challenger as well. At the first probe, paths are stopped only
    if the leader is also the majority answer of the warm-up paths.

    q_j comes from a logistic regression with Platt scaling. Its features are the token position, the mean confidence
    C_t of the last ``window`` tokens and its change, the number of changes of the answer, and the number of probes
    since the last change. Both are fitted for each problem on its first ``warmup`` paths, which always finish. Nothing
    is trained in advance.

    gamma, the weight of a change, is calibrated on the warm-up paths by default. The rule is applied to them with their
    true changes in place of q. The calibrated value is the lowest of 0, 0.1, ..., 1 down to which the rule keeps the
    answer that it has at 1, plus 1 / sqrt(number of votes), bounded to [0.5, 1].

    Adapted: the authors' simulator uses only paths with a final answer, does not count the cost of the warm-up, and
    reads C_t one token ahead. Here no path is selected by its end, warm-up paths are charged and vote, and every forced
    token is charged. As in ``parallel-probe``, finished paths with the winning answer vote. If there is none, one
    running path with that answer finishes and votes alone.

    Args:
        step: tokens between probes. The default is meant for long paths.
        window: tokens over which confidence is averaged. The default is meant for long paths.
        warmup: number of warm-up paths.
        gamma: weight of a change, from 0 to 1 (the worst case); calibrated per problem if omitted.
        suffix: text that makes the model answer, see ``consensus``.
        max_tokens: longest forced answer, in tokens.

    Raises:
        ValueError: if an option is outside its range.
    """

    quadrant = "internal-fixed"
    ranked_by = "votes"  # only paths with the winning answer vote
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
        """All paths at the probe that stops them, or at the first probe at which all have ended."""
        pool, first = Track(paths, self, check), paths[: self.warmup]
        warm = Track([p for p in first if pool.final(p) >= 0], self, check, pool)
        finals = np.array([pool.final(p) for p in warm.paths], dtype=int)
        if len(finals) < FEWEST:  # too few paths to fit the model: no answer is forced, and all paths finish
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
    """Paths at the probes so far: their answers as integers, and their confidence, both ``[n, probes]``."""

    def __init__(self, paths: Sequence[Path], rule: MARS, check: Check, like: Track | None = None) -> None:
        self.paths, self.now = paths, 0
        self._rule, self._check = rule, check
        self._names: dict[str, int] = {} if like is None else like._names
        self._drawn: dict[tuple[int, int], int] = {} if like is None else like._drawn  # by (path, length)
        self._sums = [np.concatenate([[0.0], np.cumsum(column(p, "confidence"))]) for p in paths]
        self._answers: list[np.ndarray] = []
        self._confidence: list[list[float]] = []

    @property
    def ended(self) -> bool:
        """Had all paths ended at the latest probe?"""
        return self.now > 0 and all(len(p.tokens) <= self.now for p in self.paths)

    def final(self, path: Path) -> int:
        """The answer of a path that has ended."""
        return self._number(self._check.final(path))

    def probe(self) -> np.ndarray:
        """Advance by one step, and return the answers at that length, int ``[n]``; -1 stands for no answer."""
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
        """Mean C_t over the last window; over the whole path if it has ended."""
        length = len(sums) - 1
        start = max(0, self.now - self._rule.window) if length > self.now else 0
        end = min(self.now, length)
        return float((sums[end] - sums[start]) / max(1, end - start))

    def answers(self) -> np.ndarray:
        """All answers so far, int ``[n, probes]``; -1 stands for no answer."""
        return np.stack(self._answers, axis=1)

    def features(self) -> np.ndarray:
        """Features of the switch model, ``[n, probes, 5]``."""
        positions = self._rule.step * np.arange(1, len(self._answers) + 1)
        return features(positions, np.array(self._confidence).T, self.answers())


def features(positions: np.ndarray, confidence: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Position, confidence, number of changes, probes with the current answer, and change of confidence, ``[n, probes,
    5]``."""
    changed = np.diff(answers, axis=1, prepend=answers[:, :1]) != 0
    places = np.arange(answers.shape[1])
    streaks = 1 + places - np.maximum.accumulate(np.where(changed, places, 0), axis=1)
    trend = np.diff(confidence, axis=1, prepend=confidence[:, :1])
    where = np.broadcast_to(positions, answers.shape)
    return np.stack([where, confidence, np.cumsum(changed, axis=1), streaks, trend], axis=-1).astype(float)


def switch_model(rows: np.ndarray, changed: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Fit the probability that a path changes its answer later.

    Args:
        rows: features, ``[..., 5]``.
        changed: whether the answer changed later, ``[...]``.

    Returns:
        A function from features ``[..., 5]`` to probabilities ``[...]``.
    """
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
    """Intercept and weights of a logistic regression with an L2 penalty, ``[1 + d]``."""

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        z = weights[0] + x @ weights[1:]
        rest = expit(z) - y
        value = np.logaddexp(0, z).sum() - y @ z + penalty * weights[1:] @ weights[1:]
        return float(value), np.concatenate([[rest.sum()], x.T @ rest + 2 * penalty * weights[1:]])

    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x)


def leader(ids: np.ndarray) -> int:
    """The most frequent answer. A tie goes to the answer that was seen first."""
    return int(np.bincount(ids[ids >= 0]).argmax())


def certified(ids: np.ndarray, changes: np.ndarray, gamma: float) -> bool:
    """Is the leader safe from every challenger?

    Args:
        ids: answers, int ``[n]``; -1 stands for no answer.
        changes: probability that each path changes its answer, ``[n]``.
        gamma: weight of a change.
    """
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
    """Calibrate gamma for a problem on its warm-up paths.

    Args:
        answers: answers at each probe, int ``[n, probes]``.
        finals: final answers, int ``[n]``.
    """
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
