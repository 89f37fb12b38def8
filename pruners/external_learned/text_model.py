"""A transformer that re-reads a prefix as text and computes a logit per token: the basis of verifiers and reward
models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, AutoTokenizer

from harness.api import Check, FlopModel, Path, PathpruneError, UnavailableError

if TYPE_CHECKING:
    from pruners.external_learned.shared import SharedReading


@contextmanager
def loading(where: str) -> Iterator[None]:
    """Convert errors of transformers while it loads ``where`` into one line.

    Raises:
        UnavailableError: if the model cannot be loaded.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UnavailableError(f"cannot load the text model {where} ({reason})") from error


def opened(where: str, made: Any, kind: str, new_head: bool = False, **options: Any) -> tuple[Any, Any]:
    """The tokenizer and the model of class ``made``.

    Raises:
        UnavailableError: if the model cannot be loaded.
        PathpruneError: if the folder lacks weights of that class, unless it gets a ``new_head``.
    """
    with loading(where):
        tokenizer = AutoTokenizer.from_pretrained(where)
        model, info = made.from_pretrained(where, output_loading_info=True, **options)
    if info["missing_keys"] and not new_head:
        raise PathpruneError(f"{where} is no {kind}: it has no {', '.join(sorted(info['missing_keys']))}")
    return tokenizer, model


def home(device: str) -> torch.device:
    """The device of this name; by default CUDA if available."""
    return torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))


def flops_of(model: Any) -> FlopModel:
    """FLOPs of a model: per token 2 x (parameters without the embeddings), plus attention according to its shape."""
    config = model.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    body = sum(p.numel() for p in model.parameters()) - model.get_input_embeddings().weight.numel()
    return FlopModel(2.0 * body, 4.0 * config.num_hidden_layers * config.num_attention_heads * head_dim)


class TextModel:
    """A token-classification model with one label and its tokenizer. It reads the problem, a newline and the prefix.

    Args:
        where: folder or hub id.
        new_head: whether the classification head may be initialised at random.
        device: where the model runs; by default CUDA if available.
    """

    def __init__(self, where: str, new_head: bool = False, device: str = "") -> None:
        needed = "token-classification model"
        head: dict[str, Any] = {"num_labels": 1, "dtype": torch.float32}
        self.tokenizer, model = opened(where, AutoModelForTokenClassification, needed, new_head, **head)
        self.where, self.device, self.model = where, home(device), model.to(home(device))
        self.flops = flops_of(self.model)
        self.context = self.model.config.max_position_embeddings
        self._reading: SharedReading | None = None

    @property
    def reading(self) -> SharedReading:
        """How texts are read for scoring."""
        from pruners.external_learned.shared import SharedReading

        if self._reading is None:
            self._reading = SharedReading(self.where, self.model, self.flops, self.device)
        return self._reading

    def encode(self, prefixes: Sequence[Path]) -> list[list[int]]:
        """Token ids of each problem and prefix.

        Raises:
            PathpruneError: if a text exceeds the model's context.
        """
        ids: list[list[int]] = self.tokenizer([self._text(p.problem.prompt, p.text) for p in prefixes]).input_ids
        longest = max(map(len, ids))
        if longest > self.context:
            raise PathpruneError(
                f"a prefix has {longest} tokens for a text model with a context of {self.context}; use a shorter --prefix"
            )
        return ids

    @staticmethod
    def _text(prompt: str, text: str) -> str:
        return f"{prompt}\n{text}"

    def _head(self, prompt: str) -> list[int]:
        """The token ids that all texts of a problem begin with."""
        from pruners.external_learned.shared import head_of

        return head_of(lambda text: self.tokenizer(self._text(prompt, text)).input_ids)

    def logits(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """Logits of all tokens, ``[n, T]``, padded on the right. Under a causal mask, no token sees the padding."""
        width = max(map(len, ids))
        padded = torch.tensor([[*row, *([0] * (width - len(row)))] for row in ids], device=self.device)
        # bfloat16 halves the time of training on a CPU that supports it, and takes nine times as long on others. Scores are
        # computed in the precision of the weights.
        half = self.model.training and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half and self.device.type == "cpu"):
            return self.model(input_ids=padded, attention_mask=torch.ones_like(padded)).logits.squeeze(-1).float()

    def last_logits(self, ids: Sequence[Sequence[int]]) -> torch.Tensor:
        """The logit at the last token of each text, ``[n]``."""
        ends = torch.tensor([len(row) - 1 for row in ids], device=self.device)
        return self.logits(ids).gather(1, ends.unsqueeze(-1)).squeeze(-1)

    @torch.no_grad()
    def score(self, prefixes: Sequence[Path], check: Check, batch: int = 64) -> np.ndarray:
        """sigma(logit) at the last token, ``[n]``. Every token read is charged, and the prompt of a problem once."""
        from pruners.external_learned.shared import Row

        self.model.eval()
        ids = self.encode(prefixes)

        def last(inputs: dict[str, Any], members: list[int], left_out: list[int]) -> list[torch.Tensor]:
            logits = self.model(**inputs).logits.squeeze(-1).float()
            ends = [len(ids[i]) - out - 1 for i, out in zip(members, left_out, strict=True)]
            return [row[end] for row, end in zip(logits, ends, strict=True)]

        rows = [Row(row, len(row) - 1) for row in ids]
        heads = {prompt: self._head(prompt) for prompt in {p.problem.prompt for p in prefixes}}
        logits = self.reading.read(rows, heads, prefixes, batch, check, last)
        return torch.stack(logits).double().sigmoid().cpu().numpy()

    def save(self, folder: FilePath) -> None:
        self.model.to(torch.bfloat16).save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        self.model.float()


def trainable(engine: Any, base: str, device: str) -> TextModel:
    """A text model to train, initialised from ``base``, or from the generator's weights if ``base`` is empty."""
    model = TextModel(base or engine.where, new_head=True, device=device)
    model.model.train()
    return model
