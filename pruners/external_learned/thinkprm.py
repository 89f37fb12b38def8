"""ThinkPRM (arXiv 2504.16828; code mukhal/ThinkPRM): a verifier that thinks before it says how sure it is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, CostClass, Origins, Path, Sampling
from pruners.external_learned.judge import Judge, share, wording

PUBLISHED = "launch/ThinkPRM-1.5B"
BEGINNING = "\nLet's verify step by step:"  # what a verification begins with, in training and in the authors' inference
QUESTION = "\nIs the solution correct? "
END = re.compile(r"Is the solution correct\?|</think>")  # where the official code stops a verification
WORDING = """Here is a math problem, and a solution that is written step by step:

[Math Problem]

{problem}

[Solution]

{solution}

Go through the steps of the solution and say of each whether it is correct. The solution may be unfinished: then \
verify only the steps that are there."""


class ThinkPRM:
    """s_i = mean over ``n`` verifications v of P(yes | v, question) / (P(yes | v, question) + P(no | v, question)).

    v is what the verifier writes about problem and prefix, behind the published beginning of its answer ("Let's verify step by
    step:"), at most ``max_tokens`` tokens, up to its own verdict;
    the question is "Is the solution correct?". Defaults are the published best-of-n recipe, one greedy verification;
    ``n=4,temperature=0.4`` is the published parallel scaling. ``yes`` and ``no`` are told apart by their first token.

    Adapted: the verifier was trained on complete solutions and on step-numbered ones, and reads an unfinished prefix
    as it is; the wording is ours (``prompt`` names a file with another, with {problem} and {solution}); no sequential
    scaling. Every token read and written is charged, those behind the verdict included.
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
