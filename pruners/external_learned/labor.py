"""LaBoR's early pruning (arXiv 2506.22058; code BaohaoLiao/labor): a process reward model on the first 512 tokens."""

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
    r"""s_i = mean step score of a process reward model (``kind``, its ``model``) on the path's first paragraphs.

    The text is encoded again by a proxy ``tokenizer`` (a folder or hub id; by default the reward model's own), its
    ids [1:``tokens``] are decoded and stripped, and the last "\n\n" paragraph, most likely cut, is dropped. The
    published slice starts at 1 to leave out the beginning-of-sequence token; where a tokenizer adds none, the first
    ``tokens`` - 1 ids are taken. Published code leaves nothing of a text of a single paragraph and scores the empty
    string; here that paragraph stays, cut as it is.

    Adapted by that guard, and because L may be shorter than ``tokens``: published paths are finished ones. Equal
    scores fall to the lower index in this harness, to the higher in theirs.
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
        """The proxy's tokenizer, or the reward model's own."""
        if not self.proxy:
            return self.prm.frozen.tokenizer
        from transformers import AutoTokenizer

        from harness.engines.identity import locate
        from pruners.external_learned.text_model import loading

        with loading(self.proxy):
            return AutoTokenizer.from_pretrained(locate(self.proxy))

    def first_reasoning(self, text: str) -> str:
        """The whole paragraphs among a text's first ``tokens`` proxy tokens; the text where none is whole."""
        ids = self.tokenizer(text).input_ids
        start = int(self.tokenizer.bos_token_id is not None and ids[:1] == [self.tokenizer.bos_token_id])
        paragraphs = self.tokenizer.decode(ids[start : start + self.tokens - 1]).strip().split("\n\n")
        return "\n\n".join(paragraphs[:-1] or paragraphs)

    def score(self, prefixes: Sequence[Path], check: Check) -> np.ndarray:
        self.prepare(check)
        return self.prm.score([replace(p, text=self.first_reasoning(p.text)) for p in prefixes], check)
