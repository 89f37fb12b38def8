"""Early pruning of LaBoR (arXiv 2506.22058; code BaohaoLiao/labor): a process reward model scores the first 512 tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from harness.api import Check, CostClass, Origins, Path
from pruners.external_learned.math_shepherd import MathShepherd
from pruners.external_learned.prm import ProcessReward
from pruners.external_learned.qwen_prm import QwenPRM
from pruners.external_learned.skywork_prm import SkyworkPRM

KINDS: dict[str, type[ProcessReward]] = {"qwen": QwenPRM, "skywork": SkyworkPRM, "shepherd": MathShepherd}


class LaBoR:
    """s_i = mean score that a process reward model gives to the steps in the first paragraphs of the path

    A proxy tokenizer encodes the text again. Its ids [1:``tokens``] are decoded and stripped. The last paragraph
    (separated by a blank line) is dropped, because it is probably incomplete. The published slice starts at 1 to omit
    the beginning-of-sequence token. If the tokenizer adds no such token, the first ``tokens`` - 1 ids are taken.

    Adapted: the published code drops the only paragraph of a text and scores the empty string. Here such a paragraph is
    kept, even if it is incomplete. The published paths are finished, whereas L may be shorter than ``tokens``. A tie
    goes to the lower index here, and to the higher one in the published code.

    Args:
        kind: process reward model: "qwen", "skywork" or "shepherd".
        model: its folder or hub id; by default the published one.
        tokens: end of the slice, in tokens of the proxy.
        tokenizer: folder or hub id of the proxy tokenizer; by default the reward model's.
        aggregation: how step scores are combined, see ``qwen-prm``.
        batch: texts read at a time.

    Raises:
        ValueError: if an option is outside its range.
    """

    quadrant = "external-learned"
    needs = frozenset({"text"})
    origins = Origins("adapted", "paper")
    cost_class: CostClass = "re-read"

    def __init__(
        self,
        kind: str = "qwen",
        model: str = "",
        tokens: int = 512,
        tokenizer: str = "",
        aggregation: str = "mean",
        batch: int = 8,
    ) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind is one of {', '.join(KINDS)}")
        if tokens < 2:
            raise ValueError("tokens is 2 or more: the first is the beginning-of-sequence token")
        self.prm = KINDS[kind](model, aggregation, batch)
        self.on_request = self.prm.on_request
        self.tokens, self.proxy = tokens, tokenizer

    def identity(self) -> dict[str, Any]:
        from harness.engines.identity import fingerprint, locate

        proxy = {"tokenizer": fingerprint(locate(self.proxy), None)} if self.proxy else {}
        return self.prm.identity() | proxy

    def prepare(self, check: Check) -> None:
        self.prm.prepare(check)
        _ = self.tokenizer

    @cached_property
    def tokenizer(self) -> Any:
        """The proxy tokenizer, or that of the reward model."""
        if not self.proxy:
            return self.prm.frozen.tokenizer
        from transformers import AutoTokenizer

        from harness.engines.identity import locate
        from pruners.external_learned.text_model import loading

        with loading(self.proxy):
            return AutoTokenizer.from_pretrained(locate(self.proxy))

    def first_reasoning(self, text: str) -> str:
        """The complete paragraphs within the first ``tokens`` proxy tokens; the whole slice if no paragraph is
        complete."""
        ids = self.tokenizer(text).input_ids
        start = int(self.tokenizer.bos_token_id is not None and ids[:1] == [self.tokenizer.bos_token_id])
        paragraphs = self.tokenizer.decode(ids[start : start + self.tokens - 1]).strip().split("\n\n")
        return "\n\n".join(paragraphs[:-1] or paragraphs)

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        self.prepare(check)
        return self.prm.score([replace(p, text=self.first_reasoning(p.text)) for p in prefixes], check)
