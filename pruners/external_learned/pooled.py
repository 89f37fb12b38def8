"""Frozen reward models in vLLM's pooling runner: the same scores as ``frozen``, for models that need the batching of a
GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoTokenizer

from harness.api import Check, Path
from harness.engines.vllm.local import start
from pruners.external_learned.frozen import CLASSES, Charged
from pruners.external_learned.text_model import flops_of, loading

MEMORY = 2 << 30  # bytes of KV cache: about ten texts of 4,096 tokens for a 7B model


def _every_token() -> Any:
    from vllm.config import PoolerConfig

    return PoolerConfig(tok_pooling_type="ALL")


class Pooled(Charged):
    """A reward model in vLLM, in the precision of its checkpoint.

    Args:
        where: folder or hub id.
        kind: the expected class, a key of ``CLASSES``.
        architecture: vLLM's name of the class, if the checkpoint names another.
    """

    def __init__(self, where: str, kind: str, architecture: str = "") -> None:
        with loading(where):
            config = AutoConfig.from_pretrained(where)
            tokenizer = AutoTokenizer.from_pretrained(where)
            with torch.device("meta"):
                opener: Any = CLASSES[kind]
                model = opener.from_config(config) if hasattr(opener, "from_config") else opener(config)
        super().__init__(where, tokenizer, config, flops_of(model))
        # Classes at every token. The configuration need not name a step tag.
        every = {"pooler_config": _every_token()} if architecture else {}
        # vLLM's "auto" would round float32 weights to bfloat16. Prefix caching is off because vLLM does not use it where all
        # tokens are requested: each text is read and charged in full.
        self.llm = start(
            where, beside=True, dtype=str(config.dtype or torch.float32).rpartition(".")[2], runner="pooling", max_model_len=self.context, enforce_eager=True, kv_cache_memory_bytes=MEMORY,
            enable_prefix_caching=False,
            hf_overrides={"architectures": [architecture]} if architecture else {}, **every,
        )  # fmt: skip

    def of_tokens(self, rows: Sequence[Sequence[int]], paths: Sequence[Path], check: Check) -> list[np.ndarray]:
        """Class probabilities at every token, ``[T, classes]`` per row."""
        return self._pooled(rows, paths, check, "token_classify", activation=True)

    def of_texts(self, rows: Sequence[Sequence[int]], paths: Sequence[Path], check: Check) -> np.ndarray:
        """The raw logit of every row, ``[n]``."""
        return np.concatenate(self._pooled(rows, paths, check, "classify", activation=False))

    def _pooled(
        self, rows: Sequence[Sequence[int]], paths: Sequence[Path], check: Check, task: str, activation: bool
    ) -> list[np.ndarray]:
        from vllm import PoolingParams

        self.charge(rows, paths, check)
        prompts = [{"prompt_token_ids": list(row)} for row in rows]
        wanted = PoolingParams(use_activation=activation)
        outputs = self.llm.encode(prompts, wanted, pooling_task=task, use_tqdm=False)
        return [o.outputs.data.double().numpy() for o in outputs]
