"""Other language models that a pruner reads with: generative verifiers and judges, every token charged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from harness import registry
from harness.api import Check, Cost, Path, PathpruneError, Problem, Sampling
from harness.plugins import asked


@lru_cache(maxsize=4)
def _engine(kind: str, model: str, sampling: Sampling, options: tuple[tuple[str, Any], ...]) -> Any:
    return registry.engine(kind, model, sampling, **dict(options))


def open_reader(check: Check, model: str, sampling: Sampling, engine: str = "hf", **options: Any) -> MeteredReader:
    """The model stays loaded for later checks; the ledger and what counts as read are this check's own."""
    return MeteredReader(_engine(engine, model, sampling, tuple(sorted(options.items()))), check)


@dataclass
class MeteredReader:
    """See ``harness.api.Reader``. A prompt, and text it generated itself, are read once per check: their KV is there."""

    engine: Any
    check: Check
    known: dict[str, list[str]] = field(default_factory=dict)  # prompt -> texts written after it

    def generate(self, prompts: Sequence[str], max_tokens: int, n: int = 1) -> list[list[str]]:
        call = "check.reader().generate()"
        prompts, n = asked.texts(call, "prompts", prompts), asked.count(call, "n", n, asked.MOST_TEXTS)
        max_tokens = asked.count(call, "max_tokens", max_tokens, asked.MOST_TOKENS)
        problems = [Problem(prompt, prompt, "") for prompt in prompts]
        # Launched as paths without a token are resumed: nobody goes on from their ends, so an engine stores no KV of them.
        paths = self.engine.resume([Path(problem, i, 0) for problem in problems for i in range(n)], max_tokens)
        groups = [paths[i : i + n] for i in range(0, len(paths), n)]
        for problem, group in zip(problems, groups, strict=True):
            self._read_prompt(problem)
            start = self.engine.prompt_length(problem)
            for path in group:
                stop = start + len(path.tokens)
                self.check.charge(Cost(verifier=len(path.tokens), flops=self.engine.flops(start, stop)))
                self.known[problem.prompt].append(path.text)
        return [[p.text for p in group] for group in groups]

    def choices(self, prompts: Sequence[str], texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        call = "check.reader().choices()"
        prompts, texts, words = (
            asked.texts(call, name, given) for name, given in (("prompts", prompts), ("texts", texts), ("words", words))
        )
        if len(prompts) != len(texts):
            raise PathpruneError(f"{call}: {len(prompts)} prompts and {len(texts)} texts, of which each prompt has one")
        if not all(words):
            raise PathpruneError(f"{call}: one of the words is empty")
        first = [self.engine.encode(word)[0] for word in words]
        if len(set(first)) < len(words):
            raise PathpruneError(
                f"{', '.join(map(repr, words))} begin with the same token in this model; choose other words"
            )
        pairs = []
        for prompt, text in zip(prompts, texts, strict=True):
            problem = Problem(prompt, prompt, "")
            self._read_prompt(problem)
            pairs.append(Path(problem, 0, 0, tuple(self.engine.encode(text)), text))
            self._read_text(pairs[-1])
        return np.asarray(self.engine.next_logprobs(pairs, first), dtype=np.float64)

    def _read_prompt(self, problem: Problem) -> None:
        if problem.prompt not in self.known:
            self.known[problem.prompt] = []
            length = self.engine.prompt_length(problem)
            self.check.charge(Cost(reread=length, flops=self.engine.flops(0, length)))

    def _read_text(self, path: Path) -> None:
        known = [self.engine.encode(text) for text in self.known[path.problem.prompt]]
        shared = [_shared(path.tokens, tokens) for tokens in known]
        new = len(path.tokens) - max(shared, default=0)
        stop = self.engine.prompt_length(path.problem) + len(path.tokens)
        self.check.charge(Cost(reread=new, flops=self.engine.flops(stop - new, stop)))
        self.known[path.problem.prompt].append(path.text)


def _shared(one: Sequence[int], other: Sequence[int]) -> int:
    """Length of the common prefix."""
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
