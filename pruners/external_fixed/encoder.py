"""Sentence embeddings from any encoder of ``transformers``, pooled as its sentence-transformers files specify."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness.api import Cost, PathpruneError, UnavailableError
from harness.engines.identity import fingerprint, locate

BATCH = 32
POOLING = {"mean_tokens": "mean", "mean": "mean", "cls_token": "cls", "cls": "cls"}


def identity(where: str) -> dict[str, Any]:
    """What identifies an encoder in records: its name, its weights and its pooling.

    A local folder is identified by the content of its weights, and a hub id by its name.
    """
    folder = locate(where)
    pooling = {"pooling": recipe(FilePath(folder))[0]} if FilePath(folder).is_dir() else {}
    return {"encoder": where, "fingerprint": fingerprint(folder, None), **pooling}


def recipe(folder: FilePath) -> tuple[str, int | None]:
    """The pooling of an encoder folder ("mean" or "cls") and its longest input in tokens.

    A folder without sentence-transformers files has mean pooling and no such limit (None).

    Raises:
        PathpruneError: if the folder pools in another way, or has a layer after the encoder that is not supported.
    """
    limit = _read(folder / "sentence_bert_config.json", {}).get("max_seq_length")
    pooling = "mean"
    for module in _read(folder / "modules.json", []):
        kind = str(module["type"]).rpartition(".")[2]
        if kind == "Pooling":
            config = _read(folder / module["path"] / "config.json", {})
            modes = [k.removeprefix("pooling_mode_") for k, on in config.items() if on is True and "pooling_mode_" in k]
            modes = modes or [str(config.get("pooling_mode", "mean"))]
            if len(modes) != 1 or modes[0] not in POOLING:
                raise PathpruneError(f"{folder} pools by {', '.join(modes)}; pick an encoder that pools by mean or cls")
            pooling = POOLING[modes[0]]
        elif kind not in ("Transformer", "Normalize"):
            raise PathpruneError(f"{folder} has a {kind} layer behind its encoder; pick an encoder without one")
    return pooling, limit


def _read(file: FilePath, default: Any) -> Any:
    return json.loads(file.read_text()) if file.exists() else default


class Encoder:
    """A frozen sentence encoder: pooled last hidden states, divided by their L2 norm.

    ``pooling`` "mean" averages the states of all tokens, special tokens included. "cls" takes the state of the first
    token. This is how all-mpnet-base-v2 and all-MiniLM-L6-v2 embed a text. A text longer than ``limit`` tokens is
    truncated at its end.

    Args:
        where: a local folder or hub id. The weights are loaded in float32.
        device: where the encoder runs; by default a GPU if there is one.

    Raises:
        UnavailableError: if the encoder cannot be loaded.
        PathpruneError: if it is an encoder-decoder model, or pools in a way that is not supported.
    """

    def __init__(self, where: str, device: str = "") -> None:
        where = locate(where)
        try:
            import torch
            from huggingface_hub import snapshot_download
            from transformers import AutoModel, AutoTokenizer

            folder = where if FilePath(where).is_dir() else snapshot_download(where, allow_patterns=["*.json"])
            self.pooling, limit = recipe(FilePath(folder))
            self.tokenizer = AutoTokenizer.from_pretrained(where)
            model, info = AutoModel.from_pretrained(where, dtype=torch.float32, output_loading_info=True)
        except (ImportError, OSError, ValueError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise UnavailableError(
                f"cannot load the encoder {where} ({reason}); give encoder= a local folder"
            ) from error
        missing = sorted(k for k in info["missing_keys"] if not k.startswith("pooler."))
        if missing:
            raise UnavailableError(
                f"cannot load the encoder {where} (its weights lack {missing[0]} and others); pick another"
            )
        config = model.config
        if getattr(config, "is_encoder_decoder", False):
            raise PathpruneError(f"{where} is an encoder-decoder model; pick an encoder such as BERT or MPNet")
        self.model = model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
        # RoBERTa and MPNet number positions from the index after the padding index.
        table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
        unused = getattr(table, "padding_idx", None)
        positions = config.max_position_embeddings - (0 if unused is None else unused + 1)
        self.limit = min(self.tokenizer.model_max_length, positions, *([limit] if limit else []))
        body = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
        self.per_token, self.attention = 2.0 * body, 4.0 * config.num_hidden_layers * config.hidden_size

    def embed(self, texts: Sequence[str]) -> tuple[np.ndarray, list[Cost]]:
        """Embed texts and compute the cost of reading each.

        A text of T tokens costs 2 T (parameters without the word embeddings) + 4 T^2 (layers) (width) FLOPs, the second
        term for bidirectional attention. Equal texts are computed once, and each has its own cost. Batches depend on
        the set of texts and not on their order.

        Returns:
            Unit-length rows ``[n, d]``, float64, and a cost per text. Padding is not counted.
        """
        import torch

        distinct = sorted(set(texts))
        read: list[list[int]] = self.tokenizer(distinct, truncation=True, max_length=self.limit).input_ids
        ids = dict(zip(distinct, read, strict=True))
        distinct.sort(key=lambda t: len(ids[t]))
        rows: dict[str, np.ndarray] = {}
        with torch.inference_mode():
            for start in range(0, len(distinct), BATCH):
                batch = distinct[start : start + BATCH]
                rows.update(zip(batch, self._forward([ids[t] for t in batch]), strict=True))
        costs = {t: self._cost(len(tokens)) for t, tokens in ids.items()}
        return np.stack([rows[t] for t in texts]), [costs[t] for t in texts]

    def _forward(self, ids: list[list[int]]) -> np.ndarray:
        import torch

        width, pad = max(map(len, ids)), self.tokenizer.pad_token_id or 0
        tokens = torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=self.model.device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=self.model.device)
        states = self.model(input_ids=tokens, attention_mask=mask).last_hidden_state
        weights = mask.unsqueeze(-1).to(states.dtype)
        pooled = states[:, 0] if self.pooling == "cls" else (states * weights).sum(1) / weights.sum(1)
        unit: np.ndarray = torch.nn.functional.normalize(pooled, dim=-1).cpu().double().numpy()
        return unit

    def _cost(self, tokens: int) -> Cost:
        return Cost(reread=tokens, flops=self.per_token * tokens + self.attention * tokens**2)
