"""DeepPrune (arXiv 2510.08483; code THU-KEG/DeepPrune): paths that will end in the same answer are finished once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, CostClass, Origins, Path, Sampling
from pruners.external_learned.judge import Judge, share, wording

PUBLISHED = "THU-KEG/DeepPrune-Judge-4B"
WORDING = """Two unfinished solutions of one problem follow.

[Problem]

{problem}

[First solution]

{first}

[Second solution]

{second}

Will both arrive at the same final answer? Reply yes or no."""


class DeepPrune:
    """s_i = -r_i + g_i / (N + 1): r_i paths precede i in its group of g_i, of N paths; lower ``index`` comes first.

    So the first of every group ranks before any second, larger groups first; equal scores fall to the lower index.
    Groups are greedy and online: a path joins the oldest group whose first path it matches, P(same answer) >
    ``threshold``, else it founds one. P = P(yes) / (P(yes) + P(no)) of a judge that reads problem and both prefixes,
    the representative's first: O(N x groups) pairs, each charged in full, about 2 L tokens.

    Adapted: published are stopping repeats while they are generated and a vote of the survivors; here the groups
    become an order for top-k at L. Not verifiable, so parameters with defaults of ours: ``threshold``, the wording
    (``prompt`` names a file with {problem}, {first} and {second}), the label words ``yes`` and ``no``, told apart by
    their first token, and ``tokens`` read of each prefix (0: all). The number of groups is not capped.
    """

    quadrant = "external-learned"
    needs = frozenset({"text"})
    origins = Origins("adapted", "adapted")
    ranked_by = "votes"
    cost_class: CostClass = "re-read"

    def __init__(
        self,
        model: str = "",
        threshold: float = 0.5,
        tokens: int = 0,
        yes: str = "yes",
        no: str = "no",
        prompt: str = "",
        engine: str = "hf",
        dtype: str = "",
        device: str = "",
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError("threshold is a probability")
        if tokens < 0:
            raise ValueError("tokens is 0 (all) or more")
        self.on_request = "" if model else f"reads with {PUBLISHED}: name it, or a folder, with model="
        self.judge = Judge(model or PUBLISHED, wording(prompt, WORDING), Sampling(), engine, dtype, device)
        self.threshold, self.tokens, self.words = threshold, tokens, (yes, no)

    def prepare(self, check: Check) -> None:
        self.judge.open(check).load()

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        groups = self.groups(sorted(prefixes, key=lambda p: p.index), check)
        standings = {p.index: (rank, len(group)) for group in groups for rank, p in enumerate(group)}
        rank_and_size = np.array([standings[p.index] for p in prefixes], dtype=float)
        return rank_and_size[:, 1] / (len(prefixes) + 1) - rank_and_size[:, 0]

    def groups(self, paths: Sequence[Path], check: Check) -> list[list[Path]]:
        """One representative at a time against all that no earlier one took: the same pairs as path by path."""
        reader = self.judge.open(check)
        texts = {p.index: check.decode(p.tokens[: self.tokens]) if self.tokens else p.text for p in paths}
        groups, rest = [], list(paths)
        while rest:
            head, *rest = rest
            groups.append([head])
            if not rest:
                break
            prompts = [
                self.judge.ask(problem=p.problem.prompt, first=texts[head.index], second=texts[p.index]) for p in rest
            ]
            same = share(reader, prompts, [""] * len(rest), self.words) > self.threshold
            groups[-1] += [p for p, alike in zip(rest, same, strict=True) if alike]
            rest = [p for p, alike in zip(rest, same, strict=True) if not alike]
        return groups

    def identity(self) -> dict[str, Any]:
        return self.judge.identity()
