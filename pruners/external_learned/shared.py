"""Reads N texts with a common beginning: the problem's prompt is computed once, and the paths' texts reuse its KV
cache."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from harness.api import Check, Cost, FlopModel, Path, PathpruneError
from harness.engines.heads import shared
from harness.engines.hf import kv, support
from harness.engines.hf.batch import ragged_inputs

Ids = Sequence[int]
# Arguments: those of a forward pass, its rows, and the number of tokens omitted from each. Returns a value per row.
Values = Callable[[dict[str, Any], list[int], list[int]], Sequence[Any]]
TRIAL = 6  # tokens


def head_of(encode: Callable[[str], Ids]) -> list[int]:
    """Token ids that every text of a problem begins with, found by encoding two texts that differ in their first
    letter."""
    one, other = encode("a"), encode("b")
    return list(one[: shared(one, other)])


@dataclass(frozen=True)
class Row:
    """Token ids of one text, and the position of the first token whose state is needed."""

    ids: Ids
    first: int


class SharedReading:
    """Reads rows of token ids with one model, each over the KV cache of its problem's head if the model supports this.

    A row shares with its head the tokens that both begin with, since a tokenizer may merge text across the border. The
    heads are kept for later checks of the same problem.

    Args:
        where: name of the model in errors.
        model: a transformers model, whose ``base_model`` reads tokens.
        flops: FLOPs per token.
        device: device of the model.
    """

    def __init__(self, where: str, model: Any, flops: FlopModel, device: torch.device) -> None:
        self.where, self.flops, self.device = where, flops, device
        self.body = model.base_model
        self.pad: int = model.config.pad_token_id or 0
        self.shares = shares(where, self.body)
        self.kept: dict[tuple[int, ...], kv.Block] = {}

    @torch.no_grad()
    def read(
        self,
        rows: Sequence[Row],
        heads: Mapping[str, Ids],
        paths: Sequence[Path],
        batch: int,
        check: Check,
        values: Values,
    ) -> list[Any]:
        """Compute ``values`` of every row, and charge every token that is read to its path.

        Args:
            rows: one row per path.
            heads: by prompt, the token ids that its texts begin with.
            paths: the paths of the rows.
            batch: rows per forward pass.
            check: the check that is charged.
            values: called with the arguments of a forward pass, the rows in it, and the number of tokens omitted from
                each.
        """
        shared_ids = {prompt: tuple(ids) if self.shares else () for prompt, ids in heads.items()}
        self.kept = {ids: block for ids, block in self.kept.items() if ids in shared_ids.values()}
        for head in dict.fromkeys(filter(None, shared_ids.values())):
            self._read_head(head, check)
        of = [shared_ids[p.problem.prompt] for p in paths]
        used = [min(shared(head, row.ids), row.first) for head, row in zip(of, rows, strict=True)]
        for row, start, path in zip(rows, used, paths, strict=True):
            length = len(row.ids)
            check.charge(Cost(reread=length - start, flops=self.flops(start, length)), path, cold=length)
        order = sorted(range(len(rows)), key=lambda i: (len(rows[i].ids) - used[i], rows[i].ids))
        outputs: dict[int, Any] = {}
        for first in range(0, len(order), batch):
            members = order[first : first + batch]
            inputs = self._inputs([rows[i].ids for i in members], [of[i] for i in members], [used[i] for i in members])
            outputs.update(zip(members, values(inputs, members, [used[i] for i in members]), strict=True))
        return [outputs[i] for i in range(len(rows))]

    def _read_head(self, head: tuple[int, ...], check: Check) -> None:
        """Compute the KV cache of a head, unless an earlier check of the problem has computed and paid for it."""
        paid = check.known.setdefault(("heads", self.where), set())
        if head in paid and head in self.kept:
            return
        cache = kv.arena_cache()
        self.body(**ragged_inputs(cache, [0], [head], self.device))
        self.kept[head] = kv.take(cache, torch.zeros(1, dtype=torch.long, device=self.device))
        if head not in paid:
            check.charge(Cost(reread=len(head), flops=self.flops(0, len(head))), cold=0, once=True)
            paid.add(head)

    def _inputs(self, rows: Sequence[Ids], heads: Sequence[tuple[int, ...]], used: Sequence[int]) -> dict[str, Any]:
        rest = [ids[start:] for ids, start in zip(rows, used, strict=True)]
        if not any(used):
            return self._whole(rest)
        held = [
            kv.Held(self.kept[head], 0, used=start, trim=len(head) - start) if start else None
            for head, start in zip(heads, used, strict=True)
        ]
        cache = kv.cache_over(kv.end_aligned(held, max(used)))
        return ragged_inputs(cache, used, rest, self.device, self.pad)

    def _whole(self, rows: Sequence[Ids]) -> dict[str, Any]:
        """Inputs padded on the right, with an attention mask."""
        width = max(map(len, rows))
        ids = [[*row, *[self.pad] * (width - len(row))] for row in rows]
        mask = [[1] * len(row) + [0] * (width - len(row)) for row in rows]
        return {
            "input_ids": torch.tensor(ids, device=self.device),
            "attention_mask": torch.tensor(mask, device=self.device),
        }


@torch.no_grad()
def shares(where: str, body: Any) -> bool:
    """Can the model read texts over the KV cache of their beginning?

    An encoder with bidirectional attention cannot, nor can a model that keeps another kind of state. As in
    ``harness.engines.hf.support``, the answer is found by comparing both ways of reading a few tokens.
    """
    if "past_key_values" not in inspect.signature(body.forward).parameters:
        return False
    try:
        support.token_bytes(where, body)
    except PathpruneError:  # the model keeps no KV per token
        return False
    device = body.get_input_embeddings().weight.device
    ids = np.random.default_rng(0).integers(body.get_input_embeddings().weight.shape[0], size=TRIAL).tolist()
    plain = body(input_ids=torch.tensor([ids], device=device)).last_hidden_state[0, TRIAL // 2 :].float()
    cache = kv.arena_cache()
    body(**ragged_inputs(cache, [0], [ids[: TRIAL // 2]], device))
    over = body(**ragged_inputs(cache, [TRIAL // 2], [ids[TRIAL // 2 :]], device)).last_hidden_state[0].float()
    most = support.EXACT if body.dtype == torch.float32 else support.ROUNDED
    return bool(((over - plain).norm(dim=-1) / plain.norm(dim=-1)).max() < most)
