"""Other language models that a pruner uses: generative verifiers and judges. Every token is charged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from harness import registry
from harness.api import Check, Cost, Heads, Path, PathpruneError, Problem, Sampling
from harness.engines import load_now
from harness.engines.heads import shared
from harness.plugins import asked
from harness.plugins.sampled import without

Ids = tuple[int, ...]


@lru_cache(maxsize=4)
def _engine(kind: str, model: str, sampling: Sampling, options: tuple[tuple[str, Any], ...]) -> Any:
    return without(registry.engine(kind, model, sampling, **dict(options)))


def open_reader(check: Check, model: str, sampling: Sampling, engine: str = "hf", **options: Any) -> MeteredReader:
    """Open a reader. The model stays loaded for later checks; its ledger and cache are those of this problem."""
    opened = (engine, model, sampling, tuple(sorted(options.items())))
    known = check.known.setdefault(("reader", opened), Known())
    return MeteredReader(_engine(*opened), check, known)


@dataclass
class Known:
    """Token ids that a reader has computed for a problem."""

    heads: list[Ids] = field(default_factory=list)  # common prefixes of prompts
    texts: dict[str, list[Ids]] = field(default_factory=dict)  # by prompt, the texts that follow it


@dataclass
class MeteredReader:
    """See ``harness.api.Reader``. Common prefixes of prompts, prompts, and texts after them are encoded once per problem.

    Every token is charged when it is encoded or sampled, and again if it has to be encoded again: generated texts are
    not cached unless ``then_read`` is set. The last token of a sampled text is fed only if the text is continued.
    """

    engine: Any
    check: Check
    known: Known = field(default_factory=Known)

    def load(self) -> None:
        """Load the model now instead of at first use."""
        load_now(self.engine)

    def generate(self, prompts: Sequence[str], max_tokens: int, n: int = 1, then_read: bool = False) -> list[list[str]]:
        call = "check.reader().generate()"
        prompts, n = asked.texts(call, "prompts", prompts), asked.count(call, "n", n, asked.MOST_TEXTS)
        max_tokens = asked.count(call, "max_tokens", max_tokens, asked.MOST_TOKENS)
        problems = [Problem(prompt, prompt, "") for prompt in prompts]
        new = self._read_prompts(problems)
        groups = self._written(problems, max_tokens, n, then_read)
        for problem, group in zip(problems, groups, strict=True):
            start = self.engine.prompt_length(problem)
            for path in group:
                drawn = len(path.tokens)
                flops = self.engine.flops(start, start + drawn)
                self.check.charge(Cost(verifier=drawn, flops=flops), cold=start + drawn)
                if then_read:
                    self.known.texts[problem.prompt].append(path.tokens)
        for prompt in () if then_read else new:
            del self.known.texts[prompt]
        return [[p.text for p in group] for group in groups]

    def _written(self, problems: Sequence[Problem], max_tokens: int, n: int, keep: bool) -> list[list[Path]]:
        """Sample texts for each prompt; ``keep`` stores their KV."""
        if keep:
            launched: list[list[Path]] = self.engine.launch(problems, n, max_tokens, seed=0)
            return launched
        # An engine stores no KV of paths that are started by resume.
        paths = self.engine.resume([Path(problem, i, 0) for problem in problems for i in range(n)], max_tokens)
        return [paths[i : i + n] for i in range(0, len(paths), n)]

    def choices(self, prompts: Sequence[str], texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        call = "check.reader().choices()"
        prompts, texts, words = (
            asked.texts(call, name, given) for name, given in (("prompts", prompts), ("texts", texts), ("words", words))
        )
        if len(prompts) != len(texts):
            raise PathpruneError(f"{call}: {len(prompts)} prompts but {len(texts)} texts; give one text per prompt")
        if not all(words):
            raise PathpruneError(f"{call}: one of the words is empty")
        first = [self.engine.encode(word)[0] for word in words]
        if len(set(first)) < len(words):
            raise PathpruneError(
                f"two of {', '.join(map(repr, words))} start with the same token in this model; choose other words"
            )
        problems = [Problem(prompt, prompt, "") for prompt in prompts]
        new = self._read_prompts(problems)
        pairs = []
        for problem, text in zip(problems, texts, strict=True):
            pairs.append(Path(problem, 0, 0, tuple(self.engine.encode(text)), text))
            self._read_text(pairs[-1], problem.prompt in new)
            new.discard(problem.prompt)
        return np.asarray(self.engine.next_logprobs(pairs, first), dtype=np.float64)

    def _read_prompts(self, problems: Sequence[Problem]) -> set[str]:
        """Charge new prompts and their common prefixes, which are computed here. Returns the new prompts."""
        new = {p.prompt: p for p in problems if p.prompt not in self.known.texts}
        if not new:
            return set()
        share = getattr(self.engine, "share", None)
        heads: Heads = share([*new.values()], self.known.heads) if share else Heads(of=((),) * len(new))
        for ids, covered in heads.new:
            self._charge(covered, len(ids))
        self.known.heads += [ids for ids, _ in heads.new]
        for problem, head in zip(new.values(), heads.of, strict=True):
            self._charge(len(head), self.engine.prompt_length(problem))
            self.known.texts[problem.prompt] = []
        return {*new}

    def _read_text(self, path: Path, prompt_is_new: bool) -> None:
        known = self.known.texts[path.problem.prompt]
        new = len(path.tokens) - max((shared(path.tokens, tokens) for tokens in known), default=0)
        stop = self.engine.prompt_length(path.problem) + len(path.tokens)
        # A text that is cached in full still needs its last token fed again.
        self._charge(stop - (new or int(not prompt_is_new)), stop, cold=stop)
        known.append(path.tokens)

    def _charge(self, start: int, stop: int, cold: int = 0) -> None:
        self.check.charge(Cost(reread=stop - start, flops=self.engine.flops(start, stop)), cold=cold)
