"""Parallel-Probe with its published decision rule (arXiv 2602.03845; code zhengkid/Parallel-Probe): probes all paths at
regular lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count

from harness.api import Check, Decision, Origins, Path, PathpruneError
from pruners.internal_fixed.probing import settled

UNKNOWN = object()  # the leading answer before the first probe


@dataclass(eq=False)
class Branch:
    """A path as the controller sees it.

    ``answer`` is the latest answer, and ``final`` tells whether it is the answer of the finished path. ``strayed`` is
    the number of consecutive probes at which the path differed from the majority.
    """

    path: Path
    spent: int
    answer: str | None = None
    final: bool = False
    strayed: int = 0
    pruned: bool = False

    def ended(self, now: int) -> bool:
        """Is the path finished at token ``now``?"""
        return len(self.path.tokens) <= now


class ParallelProbe:
    """Every ``step`` tokens, force each running path to answer, drop paths that stay off the majority, and stop when it
    is stable.

    All paths run at once. A finished path keeps its answer. At each probe from the second on, the majority is taken
    over the paths that are not pruned:

    * From probe ``delay`` + 2 on, a running path is pruned if it differed from the majority at ``patience`` consecutive
      probes.
    * If the majority equals that of the previous probe ``stable`` times in a row, all running paths are stopped.

    The defaults are those of the authors' main table (class ParallelESTPruningBurstMajorityOnActiveBranches), for paths
    of about 15,000 tokens. Their limit of 102 probes is omitted. As in their code, "no answer" counts as an answer and
    can lead, and a tie goes to the lower index. The rule never uses the answers of the first probe, so they are not
    generated.

    Adapted: the paper reports the majority answer, which running paths may have given only because they were forced.
    Here the finished paths with that answer vote. If there is none, the running path of the lowest index with that
    answer finishes and votes alone. Every forced token is charged, whereas the paper does not count them. ``consensus``
    ranks paths by the same signal at one L.

    Args:
        step: tokens between probes.
        stable: consecutive unchanged majorities that stop all paths.
        patience: consecutive probes off the majority that prune a path.
        delay: probes before a path can be pruned.
        suffix: text that makes the model answer, see ``consensus``.
        max_tokens: longest forced answer, in tokens.

    Raises:
        ValueError: if an option is outside its range.
        PathpruneError: if no probe of a problem gives an answer.
    """

    quadrant = "internal-fixed"
    ranked_by = "votes"  # only paths with the winning answer vote
    needs = frozenset({"text", "forced"})
    origins = Origins("paper", "adapted")
    cost_class = "probe"
    warmup = 0

    def __init__(
        self,
        step: int = 500,
        stable: int = 40,
        patience: int = 7,
        delay: int = 15,
        suffix: str = "",
        max_tokens: int = 16,
    ) -> None:
        if min(step, stable, patience, max_tokens) < 1 or delay < 0:
            raise ValueError(
                "step and max_tokens are in tokens, stable and patience in probes, all 1 or more; delay is 0 or more"
            )
        self.step, self.stable, self.patience, self.delay = step, stable, patience, delay
        self.suffix, self.max_tokens = str(suffix), max_tokens

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        branches = [Branch(p, len(p.tokens)) for p in paths]
        by_index = sorted(range(len(paths)), key=lambda i: paths[i].index)
        answer, end = self._controlled([branches[i] for i in by_index], check)
        spent = [b.spent if b.pruned else min(b.spent, end) for b in branches]
        holders = [
            i for i in by_index if answer is not None and branches[i].answer == answer and not branches[i].pruned
        ]
        return settled(paths, spent, holders)

    def _controlled(self, branches: Sequence[Branch], check: Check) -> tuple[str | None, int]:
        """The majority answer, and the token at which all paths have ended or are stopped."""
        drawn: list[str | None] = []
        leading: object = UNKNOWN
        same = 0
        for probe in count():
            now = (probe + 2) * self.step
            drawn += self._probe(branches, now, check)
            before, answer = leading, majority(branches)
            if probe >= self.delay:
                self._prune(branches, answer, now)
                answer = majority(branches)
            leading, same = answer, same + 1 if answer == before else 0
            if same >= self.stable or all(b.pruned or b.ended(now) for b in branches):
                break
        if len(drawn) >= len(branches) and not any(a is not None for a in drawn):
            raise PathpruneError(
                f"none of {len(drawn)} probes gives an answer behind {self._closing(check)!r}: give suffix= as this model ends its "
                f"thinking, or more than max_tokens={self.max_tokens}"
            )
        return answer, now

    def _probe(self, branches: Sequence[Branch], now: int, check: Check) -> list[str | None]:
        """Update the answers of all paths that are not pruned to token ``now``, and return the forced answers."""
        running = [b for b in branches if not (b.pruned or b.ended(now))]
        texts: list[str] = []
        if running:
            cut = [b.path.cut(now, check.decode) for b in running]
            texts = check.engine.force(cut, self._closing(check), self.max_tokens)
        for branch, text in zip(running, texts, strict=True):
            branch.answer = check.answer(text)
        for branch in branches:
            if not branch.pruned and branch.ended(now) and not branch.final:
                branch.answer, branch.final = check.final(branch.path), True
        return [b.answer for b in running]

    def _closing(self, check: Check) -> str:
        return self.suffix or check.closing

    def _prune(self, branches: Sequence[Branch], answer: str | None, now: int) -> None:
        """Prune running paths that differed from the majority for too long."""
        for branch in branches:
            if branch.pruned or branch.ended(now):
                continue
            branch.strayed = branch.strayed + 1 if branch.answer != answer else 0
            if branch.strayed >= self.patience:
                branch.pruned, branch.spent = True, now


def majority(branches: Sequence[Branch]) -> str | None:
    """The most frequent answer of the paths that are not pruned, "no answer" included. A tie goes to the lower index."""
    return Counter(b.answer for b in branches if not b.pruned).most_common(1)[0][0]
