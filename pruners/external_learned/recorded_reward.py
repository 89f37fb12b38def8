"""Rewards that were recorded with imported paths: what a reward model said is ranked by, and no model is loaded."""

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
    """Reads the scores of one reward model.

    ``reward`` names it where the paths have several; ``aggregation`` makes one number of those of its steps. ``parameters`` are the
    reward model's, for FLOPs, which nobody recorded: with 0 its tokens are charged and no FLOPs.
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
        """One number per path, of what was scored of it; the tokens up to the last score are charged."""
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
    """The one reward that all paths have: of prefixes those of whole paths are none."""
    names = set(known[0]).intersection(*known[1:])
    if not names:
        raise UnavailableError("these paths have no reward in common")
    if len(names) > 1:
        raise UnavailableError(f"these paths have several rewards; name one: reward={' or '.join(sorted(names))}")
    return names.pop()


class RecordedReward(Recorded):
    """s_i = what the reward model said of the steps that lie within the prefix.

    Only scores of steps, of a grid of positions or of tokens rank prefixes. A score of the whole path knows how it ends, so a
    pool that has no other is refused; ``recorded-best-of-n`` votes with those.
    """

    pointwise = True

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        return self.of(prefixes, check)


class RecordedBestOfN(Recorded):
    """Every path finishes; the one of the highest recorded reward among those with an answer decides (best of n).

    ``rule`` "weighted" sums the rewards of each answer's paths instead, which have to be 0 or more. Ties go to the lower index.
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
