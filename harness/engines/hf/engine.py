"""The Hugging Face engine: any decoder model of transformers, on CPU or CUDA.

Everything is one motion, "continue these paths": a launch continues N empty paths, a resume continues cut ones, a
Monte-Carlo label continues K copies of one prefix. Equal contents are computed once and then cloned into rows;
KV of a launched prefix is found again by its content, so that Check and Resume recompute a single token.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import psutil
import torch
from transformers import Cache

from harness.api import Path, Problem, Sampling, Signal
from harness.engines import EVERYTHING, loading
from harness.engines.hf import attention as folded
from harness.engines.hf import kv
from harness.engines.hf.adapter import Adapter
from harness.engines.hf.decoding import Decoding
from harness.engines.prompts import Prompts, end_tokens
from harness.learn.prefix_reader import PrefixReader

FED = 1 << 16  # generated tokens that one forward pass computes at most, when prefixes are computed again


@dataclass(eq=False)
class Opened:
    """Sequences whose KV is computed up to their last token, left-padded to one width."""

    cache: Cache
    logits: torch.Tensor | None  # [n, V] after the last token
    hidden: torch.Tensor | None  # [n, d] at the last token
    lengths: torch.Tensor  # [n] prompt and generated tokens
    states: tuple[torch.Tensor, ...] = ()  # layers + 1 of [n, q, d] at the tokens of the last forward, when asked for

    def select(self, rows: torch.Tensor) -> None:
        for layer in self.cache.layers:
            layer.select(rows)
        self.lengths = self.lengths[rows.cpu()]

    def clone(self, rows: torch.Tensor) -> None:
        for layer in self.cache.layers:
            layer.clone(rows)
        self.lengths = torch.cat([self.lengths, self.lengths[rows.cpu()]])

    def mask(self, width: int, device: torch.device) -> torch.Tensor | None:
        """Attention mask ``[n, width]`` with zeros on left padding; None when there is no padding."""
        padding = width - self.lengths
        if not bool(padding.any()):
            return None
        return (torch.arange(width) >= padding.unsqueeze(-1)).to(device=device, dtype=torch.long)


class HFEngine(Prompts):
    """See ``harness.api.Probing``. ``memory`` bounds the bytes of KV per batch, and again of stored prefixes."""

    provides: frozenset[Signal] = EVERYTHING

    def __init__(
        self,
        where: str,
        spec: Mapping[str, Any],
        sampling: Sampling,
        revision: str | None = None,
        device: str | None = None,
        attention: str | None = None,
        device_map: str | None = None,
        memory: int | None = None,
        rows: int = 1024,
    ) -> None:
        self.where, self.spec, self.sampling = where, spec, sampling
        self.fingerprint = str(spec["fingerprint"])
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, tokenizer = loading.load(where, revision, spec["dtype"], str(self.device), attention, device_map)
        self.device = self.model.get_input_embeddings().weight.device  # of several, the one that tokens go to
        if attention is None:
            folded.use(self.model)
        self.rows = rows
        self.memory = memory or self._default_memory()
        self.store = kv.PrefixStore(self.memory)
        self._encoded: tuple[list[tuple[str, tuple[int, ...]]], torch.Tensor] | None = None  # of the last training
        config = self.model.config.get_text_config()
        self.layers = config.num_hidden_layers
        head_dim = loading.head_dim(config)
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        item = torch.finfo(self.model.dtype).bits // 8
        self.token_bytes = 2 * self.layers * heads * head_dim * item
        self.flops = loading.flop_model(self.model)
        super().__init__(tokenizer, config.max_position_embeddings, spec)
        self._ends = torch.tensor(end_tokens(self.model.generation_config, tokenizer), device=self.device)

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        paths = [Path(problem, i, seed) for problem in problems for i in range(n)]
        done = self._continue(paths, max_tokens, keep=True)
        return [done[i : i + n] for i in range(0, len(done), n)]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        return self._continue(paths, max_tokens, keep=False)

    def probe(self, paths: Sequence[Path], adapter: Adapter | None = None) -> np.ndarray:
        out: list[np.ndarray | None] = [None] * len(paths)
        for places in self._batches(paths, reserve=8):
            opened = self._open([paths[i] for i in places], want_logits=False)
            self._keep([paths[i] for i in places], opened)
            if adapter is None:
                assert opened.hidden is not None
                states = opened.hidden.unsqueeze(1)
            else:
                width = int(opened.cache.get_seq_length()) + adapter.tokens
                longer = replace(opened, lengths=opened.lengths + adapter.tokens)
                with torch.no_grad():
                    states = adapter(opened.cache, longer.lengths.to(self.device), longer.mask(width, self.device))
            for place, state in zip(places, states.float().cpu().numpy(), strict=True):
                out[place] = state
        return np.stack([o for o in out if o is not None])

    @torch.no_grad()
    def trace(self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray]) -> list[np.ndarray]:
        """States of whole prefixes, computed again over their prompts' shared KV: an engine holds KV, not states."""
        out: dict[int, np.ndarray] = {}
        state_bytes = 4 * (self.layers + 1) * self.model.get_input_embeddings().weight.shape[1]
        for length in sorted({len(p.tokens) for p in paths}):
            alike = [i for i, p in enumerate(paths) if len(p.tokens) == length]
            longest = length + max(self.prompt_length(paths[i].problem) for i in alike)
            size = max(1, min(self.rows, self.memory // (longest * self.token_bytes + length * state_bytes)))
            for start in range(0, len(alike), size):
                batch = alike[start : start + size]
                states = self._compute([paths[i] for i in batch], want_logits=False, every_layer=True).states
                for row, i in enumerate(batch):
                    own = torch.stack([layer[row] for layer in states])
                    out[i] = reduce(own.float().cpu().numpy(), paths[i])
        return [out[i] for i in range(len(paths))]

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        """log P of these tokens to come next, float32 ``[n, len(tokens)]``."""
        out: list[np.ndarray | None] = [None] * len(paths)
        for path in paths:
            self.fits(path, len(path.tokens))
        for places in self._batches(paths, reserve=8):
            opened = self._open([paths[i] for i in places], want_logits=True)
            assert opened.logits is not None
            for place, row in zip(
                places, opened.logits.float().log_softmax(-1)[:, list(tokens)].cpu().numpy(), strict=True
            ):
                out[place] = row
        return np.stack([o for o in out if o is not None])

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Adapter:
        return Adapter.load(self.model, folder) if folder else Adapter(self.model, **options)

    def reader(self, paths: Sequence[Path], adapter: Adapter) -> PrefixReader:
        """The adapter's states over these prefixes, with gradient: see ``PrefixReader``."""
        lengths = torch.tensor([len(self.sequence(p)) for p in paths])
        room = self.memory if self.device.type == "cuda" else psutil.virtual_memory().available // 2

        def fits(rows: int, width: int) -> bool:
            return bool(self.token_bytes * width * rows / 2 <= room)

        def encode(needed: Sequence[Path]) -> torch.Tensor:
            contents = [(p.problem.prompt, p.tokens) for p in needed]
            if self._encoded is None or self._encoded[0] != contents:
                self._encoded = None  # two of them would not fit
                self._encoded = (contents, self._prefix_kv(needed))
            return self._encoded[1]

        return PrefixReader(encode, self._prefix_kv, paths, lengths, adapter, kv.cache_over, fits)

    def _prefix_kv(self, paths: Sequence[Path]) -> torch.Tensor:
        """KV of whole prefixes, float16 ``[layers, 2, n, heads, T, head_dim]``, each from column 0 on."""
        lengths = [len(self.sequence(p)) for p in paths]
        out: torch.Tensor | None = None
        for places in self._batches(paths, reserve=8):
            opened = self._open([paths[i] for i in places], want_logits=False)
            block = kv.take(opened.cache, torch.arange(len(places), device=self.device))
            if out is None:
                layers, two, _, heads, _, dim = block.kv.shape
                out = block.kv.new_zeros(layers, two, len(paths), heads, max(lengths), dim, dtype=torch.float16)
            for row, place in enumerate(places):
                out[:, :, place, :, : lengths[place]] = block.kv[:, :, row, :, block.width - lengths[place] :]
        assert out is not None
        return out

    def describe(self) -> dict[str, str]:
        return {
            "device": torch.cuda.get_device_name() if self.device.type == "cuda" else platform.processor() or "cpu",
            "torch": torch.__version__,
        }

    def _default_memory(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0] * 0.4)
        return int(psutil.virtual_memory().available * 0.15)

    def _batches(self, paths: Sequence[Path], reserve: int) -> Iterator[list[int]]:
        """Places in ``paths``, in batches that fit the memory budget, of similar length, each all cached or all not.

        Those that are not cached have equally many generated tokens within a batch, and come last: what is stored of
        them puts out what the others would have found.
        """
        lengths = [len(self.ids(p.problem.prompt)) + len(p.tokens) for p in paths]
        cached = [self.store.get((p.problem.prompt, p.tokens)) is not None for p in paths]
        kinds = [(not c, 0 if c else len(p.tokens)) for c, p in zip(cached, paths, strict=True)]
        order = sorted(range(len(paths)), key=lambda i: (kinds[i], lengths[i], i))
        batch: list[int] = []
        for i in order:
            limit = min(self.rows, max(1, self.memory // (self.token_bytes * (lengths[i] + reserve))))
            limit = max(1, min(limit, FED // max(1, kinds[i][1])))
            if batch and (len(batch) >= limit or kinds[i] != kinds[batch[0]]):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    @torch.no_grad()
    def _open(self, paths: Sequence[Path], want_logits: bool) -> Opened:
        """Compute what is missing of each sequence's KV: one token for a stored prefix, else prompt and tokens.

        Sequences without stored KV have equally many generated tokens (``_batches``).
        """
        parts = [self.store.get((p.problem.prompt, p.tokens)) for p in paths]
        found = [part for part in parts if part is not None]
        if len(found) == len(paths):
            rows = [self.sequence(p) for p in paths]
            lengths = torch.tensor([len(r) for r in rows])
            opened = Opened(kv.cache_over(kv.end_aligned(found, int(lengths.max()) - 1)), None, None, lengths)
            return self._feed(opened, torch.tensor([[r[-1]] for r in rows]), want_logits)
        return self._compute(paths, want_logits)

    def _keep(self, paths: Sequence[Path], opened: Opened) -> None:
        """Store what had to be computed, so that the next method reads the same prefixes for a token each."""
        new = [i for i, p in enumerate(paths) if p.tokens and self.store.get((p.problem.prompt, p.tokens)) is None]
        if new:
            block = kv.take(opened.cache, torch.tensor(new, device=self.device))
            # A stored prefix ends before its last token, whose KV a sampler would not have yet.
            keys: list[object] = [(paths[i].problem.prompt, paths[i].tokens) for i in new]
            self.store.put(keys, kv.Block(block.kv[..., :-1, :]))

    def _compute(self, paths: Sequence[Path], want_logits: bool, every_layer: bool = False) -> Opened:
        """``_open`` without stored KV: each prompt once, cloned for its paths, whose tokens are fed side by side."""
        prompts = list(dict.fromkeys(p.problem.prompt for p in paths))
        heads = [self.ids(prompt) for prompt in prompts]
        width = max(map(len, heads))
        opened = Opened(kv.arena_cache(self.layers), None, None, torch.tensor([len(h) for h in heads]))
        padded = torch.tensor([[0] * (width - len(h)) + list(h) for h in heads])
        if not paths[0].tokens:
            return self._feed(opened, padded, want_logits)
        self._feed(opened, padded, want_logits=False)
        places = {prompt: i for i, prompt in enumerate(prompts)}
        opened.select(torch.tensor([places[p.problem.prompt] for p in paths], device=self.device))
        tokens = torch.tensor([p.tokens for p in paths])
        opened.lengths = opened.lengths + tokens.shape[1]
        return self._feed(opened, tokens, want_logits, every_layer)

    def _feed(self, opened: Opened, ids: torch.Tensor, want_logits: bool, every_layer: bool = False) -> Opened:
        """One forward of ``ids`` ``[n, q]`` over the cache; ``lengths`` count them already.

        Fills logits, or the last token's hidden state and, with ``every_layer``, the states of all of ``ids``.
        """
        width = int(opened.cache.get_seq_length()) + ids.shape[1]
        columns = torch.arange(width - ids.shape[1], width)
        positions = (columns - (width - opened.lengths).unsqueeze(-1)).clamp(min=0)
        call = {
            "input_ids": ids.to(self.device),
            "attention_mask": opened.mask(width, self.device),
            "position_ids": positions.to(self.device),
            "past_key_values": opened.cache,
            "use_cache": True,
        }
        if want_logits:
            opened.logits = self.model(**call, logits_to_keep=1).logits[:, -1].to(self.device)
        else:
            done = self.model.get_decoder()(**call, output_hidden_states=every_layer)
            opened.hidden = done.last_hidden_state[:, -1].to(self.device)
            opened.states = tuple(layer.to(self.device) for layer in done.hidden_states or ())
        return opened

    def _continue(self, paths: Sequence[Path], max_tokens: int, keep: bool) -> list[Path]:
        out = list(paths)
        todo = [i for i, p in enumerate(paths) if p.finish == "length" and len(p.tokens) < max_tokens]
        for i in todo:
            self.fits(paths[i], max_tokens)
        waiting = [paths[i] for i in todo]
        for places in self._batches(waiting, reserve=max_tokens):
            for place, done in zip(places, self._decode([waiting[i] for i in places], max_tokens, keep), strict=True):
                out[todo[place]] = done
        return out

    @torch.no_grad()
    def _decode(self, paths: list[Path], max_tokens: int, keep: bool) -> list[Path]:
        """Continue paths side by side. Paths of equal content are one row of the batch until they diverge."""
        contents: dict[tuple[str, tuple[int, ...]], int] = {}
        which = [contents.setdefault((p.problem.prompt, p.tokens), len(contents)) for p in paths]
        first_of = dict(zip(reversed(which), reversed(paths), strict=True))
        opened = self._open([first_of[w] for w in range(len(contents))], want_logits=True)
        run = Decoding(paths, torch.tensor(which, device=self.device), max_tokens, self.sampling, self._ends)
        while True:
            assert opened.logits is not None
            ended = run.draw(opened.logits)
            if keep and len(ended):
                self.store.put(run.contents(ended), kv.take(opened.cache, run.rows[ended]))
            run.retire(ended)
            if not len(run.places):
                return run.paths(self.decode)
            if (alive := run.compact(len(opened.lengths))) is not None:
                opened.select(alive)
            parents, tokens = run.diverge(len(opened.lengths))
            if len(parents):
                opened.clone(parents)
            opened.lengths = opened.lengths + 1
            self._feed(opened, tokens.unsqueeze(-1), want_logits=True)
