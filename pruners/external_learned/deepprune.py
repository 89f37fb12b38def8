"""DeepPrune (arXiv 2510.08483; code THU-KEG/DeepPrune): finishes only one of several paths that will give the same
answer."""

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
    """s_i = -r_i + g_i / (N + 1), with r_i the rank of path i in its group of g_i paths

    Paths are grouped by predicted answer. g_i is the size of the group of path i, and r_i the number of its members
    with a lower index. The first member of each group therefore ranks before all second members, and larger groups rank
    first. A tie goes to the lower index.

    Groups are formed greedily by index. A path joins the oldest group with P(same answer) > ``threshold`` for its first
    member, or else starts a new group. A judge reads the problem and both prefixes, that of the first member first, and
    P = P(yes) / (P(yes) + P(no)). N paths take O(N x groups) readings of about 2 L tokens, all of which are charged.

    Adapted: the paper stops redundant paths while they are generated, and the survivors vote. Here the groups rank
    paths for top k at L. The threshold, the wording, the label words and the number of tokens read could not be
    verified, so they are options. The number of groups is not limited.

    Args:
        model: folder or hub id of the judge; by default the published one.
        threshold: probability above which two paths belong to one group.
        tokens: tokens of each prefix that the judge reads; 0 for all.
        yes: word for the same answer; told apart from ``no`` by its first token.
        no: word for different answers.
        prompt: file with another wording, with ``{problem}``, ``{first}`` and ``{second}``.
        engine: engine that runs the judge.
        dtype: precision of the judge's weights.
        device: device of the judge.

    Raises:
        ValueError: if an option is outside its range.
        PathpruneError: if ``prompt`` cannot be read or lacks a place, or if ``yes`` and ``no`` share their first token.
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
        """The groups of ``paths``, which are sorted by index.

        Each new representative is compared at once with all remaining paths. The pairs are the same as in a pass path
        by path.
        """
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
