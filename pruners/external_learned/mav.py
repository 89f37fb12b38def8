"""MAV, multi-agent verification (arXiv 2502.20379; code Shalev-Lifshitz/MultiAgentVerification)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from harness.api import Check, CostClass, Origins, Path, PathpruneError, Sampling
from pruners.external_learned.judge import Judge, share, wording

MARKER = "FINAL VERIFICATION ANSWER:"
WORDS = ("True", "False")
ASPECTS = {  # published names with our wordings
    "math_steps": "Take the steps one after the other and check the mathematics of each.",
    "logic_steps": "Take the steps one after the other and check that each follows from what precedes it.",
    "facts_steps": "Take the steps one after the other and check every fact that is stated.",
    "units_steps": "Take the steps one after the other and check how units are carried and converted.",
    "general_direct": "Judge the attempt as a whole and write nothing but the verdict.",
    "general_summarize": "Retell the attempt in your own words and pursue whatever looks doubtful.",
    "general_diff": "Explain the same thing along another route and see whether a flaw shows.",
    "general_edge": "Try boundary cases, extreme values and special cases on it.",
    "general_mistakes": "Look for the slips and misconceptions that are usual in problems of this kind.",
    "general_domain": "Check that the theory and the standard practice of the field are used as they should be.",
}
WORDING = f"""You check attempts at problems, and nothing is taken on trust.

PROBLEM:
{{problem}}

ATTEMPT (it may break off before its end; judge what is there):
{{solution}}

YOUR CHECK: {{aspect}} As soon as you find a fault, finish with the line '{MARKER}{WORDS[1]}'. If you find none, finish \
with the line '{MARKER}{WORDS[0]}'."""


class MAV:
    """s_i = share of the ``aspects`` whose verifier approves of prefix i

    An aspect verifier is ``model``, prompted for one kind of check. It writes at most ``max_tokens`` tokens at the
    published temperature 0. It approves if True is the first word after its last "FINAL VERIFICATION ANSWER:". A reply
    without a verdict, because it is too long or has another format, does not count as an approval or a rejection.
    Instead the marker is appended to it, and P(True) > P(False) decides, as it would in a greedy reply to the published follow-up question.

    Adapted: the paper verifies complete solutions, here the verifiers read prefixes. The wording and the checks are
    those of this benchmark, and one model serves all aspects. The follow-up question is asked only if a verdict is
    missing, and not after every reply. The paper does not publish ``max_tokens``.

    Args:
        model: folder or hub id of the verifier; required.
        aspects: "all" ten, or a selection such as ``math_steps+general_direct``.
        temperature: sampling temperature of a verifier.
        max_tokens: longest reply, in tokens.
        prompt: file with another wording, with ``{problem}``, ``{solution}`` and ``{aspect}``.
        engine: engine that runs the verifier.
        dtype: precision of its weights.
        device: its device.

    Raises:
        ValueError: if an option is outside its range.
        PathpruneError: if ``model`` is missing, or ``prompt`` cannot be read or lacks a place.
    """

    quadrant = "external-learned"
    needs = frozenset({"text"})
    origins = Origins("adapted")
    cost_class: CostClass = "generate"

    def __init__(
        self,
        model: str = "",
        aspects: str = "all",
        temperature: float = 0.0,
        max_tokens: int = 2048,
        prompt: str = "",
        engine: str = "hf",
        dtype: str = "",
        device: str = "",
    ) -> None:
        self.aspects = list(ASPECTS) if aspects == "all" else aspects.split("+")
        if not set(self.aspects) <= set(ASPECTS) or len(set(self.aspects)) < len(self.aspects):
            raise ValueError(f"aspects is all, or some of {', '.join(ASPECTS)}, each once, joined by +")
        if max_tokens < 1:
            raise ValueError("max_tokens is 1 or more")
        self.on_request = "" if model else "prompts another model: name one with model="
        self.judge = Judge(model, wording(prompt, WORDING), Sampling(temperature=temperature), engine, dtype, device)
        self.max_tokens = max_tokens

    def prepare(self, check: Check) -> None:
        if self.judge.model:
            self.judge.open(check).load()

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        if not self.judge.model:
            raise PathpruneError("mav has no model of its own: name a folder or hub id, as in mav:model=owner/name")
        reader = self.judge.open(check)
        pairs = [(p, ASPECTS[a]) for p in prefixes for a in self.aspects]
        prompts = [self.judge.ask(problem=p.problem.prompt, solution=p.text, aspect=a) for p, a in pairs]
        replies = [texts[0] for texts in reader.generate(prompts, self.max_tokens, then_read=True)]
        verdicts = [verdict(reply) for reply in replies]
        unclear = [i for i, approved in enumerate(verdicts) if approved is None]
        if unclear:
            begun = [f"{replies[i]}\n\n{MARKER}" for i in unclear]
            for i, approval in zip(unclear, share(reader, [prompts[i] for i in unclear], begun, WORDS), strict=True):
                verdicts[i] = bool(approval > 0.5)
        return np.array(verdicts, dtype=float).reshape(len(prefixes), len(self.aspects)).mean(1)

    def identity(self) -> dict[str, Any]:
        return self.judge.identity() if self.judge.model else {}


def verdict(reply: str) -> bool | None:
    """Is True or False the first word after the last marker? None if neither is, or if there is no marker."""
    _, *behind = re.split(MARKER, reply, flags=re.IGNORECASE)
    word = re.match(r"[\W_]*(true|false)(?![^\W_])", behind[-1], re.IGNORECASE) if behind else None
    return word[1].lower() == "true" if word else None
