"""Rewards recorded with imported paths: recorded scores of a reward model rank the paths, and no model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from harness.api import Check, Cost, CostClass, Decision, Origins, Path, PathpruneError, Reward, UnavailableError

AGGREGATIONS: dict[str, Callable[[np.ndarray], float]] = {
    "last": lambda scores: float(scores[-1]),
    "min": lambda scores: float(scores.min()),
    "mean": lambda scores: float(scores.mean()),
    "max": lambda scores: float(scores.max()),
}


class Recorded:
    """Reads the recorded scores of one reward model.

    Args:
        reward: name of the reward, if the paths have several.
        aggregation: how the scores of a path are combined: "last", "min", "mean" or "max".
        parameters: number of parameters of the reward model, from which FLOPs follow. With 0, its tokens are charged
            without FLOPs.

    Raises:
        ValueError: if an option is outside its range.
    """

    quadrant = "external-learned"
    needs = frozenset({"rewards"})
    origins = Origins()
    cost_class: CostClass = "re-read"

    def __init__(self, reward: str = "", aggregation: str = "last", parameters: float = 0.0) -> None:
        if aggregation not in AGGREGATIONS:
            raise ValueError(f"aggregation is one of {', '.join(AGGREGATIONS)}")
        if not 0 <= parameters <= 1e15:
            raise ValueError("parameters is from 0 to 1e15")
        self.reward, self.aggregation, self.parameters = str(reward), aggregation, float(parameters)

    def of(self, paths: Sequence[Path], check: Check) -> np.ndarray:
        """One score per path, ``[n]``. The tokens up to its last recorded score are charged.

        Raises:
            UnavailableError: if a path has no such reward, or ``reward`` is not named and the paths have none or
                several in common.
        """
        known = [check.rewards(path) for path in paths]
        name = self.reward or _only(known)
        scores = []
        for path, rewards in zip(paths, known, strict=True):
            if not rewards.get(name):
                raise UnavailableError(
                    f"no reward {name!r} was recorded so far; there is {', '.join(sorted(rewards)) or 'none'}"
                )
            read = rewards[name][-1].position
            check.charge(Cost(reread=read, flops=2 * self.parameters * read), path, cold=read)
            scores.append(AGGREGATIONS[self.aggregation](np.array([reward.score for reward in rewards[name]])))
        return np.array(scores)


def _only(known: Sequence[Mapping[str, Sequence[Reward]]]) -> str:
    """The only reward that all paths have. Rewards of whole paths do not count as rewards of prefixes."""
    names = set(known[0]).intersection(*known[1:])
    if not names:
        raise UnavailableError("these paths have no reward in common")
    if len(names) > 1:
        raise UnavailableError(f"these paths have several rewards; name one: reward={' or '.join(sorted(names))}")
    return names.pop()


class RecordedReward(Recorded):
    """s_i = recorded score of the steps that lie within the prefix

    Scores of steps, of a grid of positions or of tokens can rank prefixes. A score of the whole path depends on how the
    path ends. A pool with only such scores is therefore refused, and ``recorded-best-of-n`` votes with them.
    """

    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self.of(prefixes, check)


class RecordedBestOfN(Recorded):
    """Finish every path, and take the answer of the path with the highest recorded reward (best of n).

    Only paths with an answer count. A tie goes to the lower index.

    Args:
        reward: name of the reward, if the paths have several.
        aggregation: how the scores of a path are combined: "last", "min", "mean" or "max".
        rule: "best", or "weighted" for a vote weighted by rewards, which must be 0 or more.
        parameters: number of parameters of the reward model, from which FLOPs follow. With 0, its tokens are charged
            without FLOPs.

    Raises:
        ValueError: if an option is outside its range.
        PathpruneError: if ``rule`` is "weighted" and a reward is negative.
    """

    needs = frozenset({"rewards", "text"})
    vote = "weighted"
    warmup = 0

    def __init__(
        self, reward: str = "", aggregation: str = "last", rule: str = "best", parameters: float = 0.0
    ) -> None:
        super().__init__(reward, aggregation, parameters)
        if rule not in ("best", "weighted"):
            raise ValueError("rule is best or weighted")
        self.rule = rule

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        lengths = np.array([len(p.tokens) for p in paths])
        rewards = self.of(paths, check)
        votes = np.array([check.final(p) is not None for p in paths], dtype=bool)
        if self.rule == "weighted":
            if (rewards < 0).any():
                raise PathpruneError(
                    f"rewards go down to {rewards.min():g}, and a vote's weight is 0 or more; use rule=best"
                )
            return Decision(lengths, np.where(votes, rewards, 0.0))
        weights = np.zeros(len(paths))
        if votes.any():
            order = np.lexsort((np.array([p.index for p in paths]), -rewards, ~votes))
            weights[order[0]] = 1.0
        return Decision(lengths, weights)
