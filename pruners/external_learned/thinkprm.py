"""ThinkPRM (arXiv 2504.16828; code mukhal/ThinkPRM): a verifier that reasons before it judges a solution."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, CostClass, Origins, Path, Sampling
from pruners.external_learned.judge import Judge, share, wording

PUBLISHED = "launch/ThinkPRM-1.5B"
BEGINNING = "\nLet's verify step by step:"  # start of a verification in training and in the authors' inference
QUESTION = "\nIs the solution correct? "
END = re.compile(r"Is the solution correct\?|</think>")  # end of a verification in the official code
WORDING = """Here is a math problem, and a solution that is written step by step:

[Math Problem]

{problem}

[Solution]

{solution}

Go through the steps of the solution and say of each whether it is correct. The solution may be unfinished: then \
verify only the steps that are there."""


class ThinkPRM:
    """s_i = mean over ``n`` verifications v of P(yes | v, question) / (P(yes | v, question) + P(no | v, question))

    A verification v is the verifier's text about the problem and the prefix. It starts with the published "Let's verify
    step by step:" and ends before its own verdict, after at most ``max_tokens`` tokens. The question is "Is the
    solution correct?". The defaults are the published best-of-n recipe, a single greedy verification.
    ``n=4,temperature=0.4`` is the published parallel scaling.

    Adapted: the verifier was trained on complete solutions with numbered steps. Here it reads an unfinished prefix
    without changes. The wording is that of this benchmark, and sequential scaling is omitted. Every token read or
    written is charged, including tokens after the verdict.

    Args:
        model: folder or hub id of the verifier; by default the published one.
        n: verifications per prefix.
        temperature: sampling temperature of a verification.
        max_tokens: longest verification, in tokens.
        yes: word for a correct solution; told apart from ``no`` by its first token.
        no: word for an incorrect solution.
        prompt: file with another wording, with ``{problem}`` and ``{solution}``.
        engine: engine that runs the verifier.
        dtype: precision of its weights.
        device: its device.

    Raises:
        ValueError: if an option is outside its range.
        PathpruneError: if ``prompt`` cannot be read or lacks a place, or if ``yes`` and ``no`` share their first token.
    """

    quadrant = "external-learned"
    needs = frozenset({"text"})
    origins = Origins("adapted")
    cost_class: CostClass = "generate"

    def __init__(
        self,
        model: str = "",
        n: int = 1,
        temperature: float = 0.0,
        max_tokens: int = 8192,
        yes: str = "yes",
        no: str = "no",
        prompt: str = "",
        engine: str = "hf",
        dtype: str = "",
        device: str = "",
    ) -> None:
        if n < 1 or max_tokens < 1:
            raise ValueError("n and max_tokens are 1 or more")
        if n > 1 and temperature == 0:
            raise ValueError(f"{n} verifications at temperature 0 are the same one: give temperature=0.4, or n=1")
        self.on_request = "" if model else f"reads with {PUBLISHED}: name it, or a folder, with model="
        sampling = Sampling(temperature=temperature)
        self.judge = Judge(model or PUBLISHED, wording(prompt, WORDING), sampling, engine, dtype, device, BEGINNING)
        self.n, self.max_tokens, self.words = n, max_tokens, (yes, no)

    def prepare(self, check: Check) -> None:
        self.judge.open(check).load()

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        reader = self.judge.open(check)
        prompts = [self.judge.ask(problem=p.problem.prompt, solution=p.text) for p in prefixes]
        written = reader.generate(prompts, self.max_tokens, self.n, then_read=True)
        texts = [END.split(text, maxsplit=1)[0] + QUESTION for group in written for text in group]
        correct = share(reader, [prompt for prompt in prompts for _ in range(self.n)], texts, self.words)
        return correct.reshape(len(prefixes), self.n).mean(1)

    def identity(self) -> dict[str, Any]:
        return self.judge.identity()
