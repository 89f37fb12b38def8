"""The Hugging Face engine: any decoder model of transformers, on CPU or CUDA.

All sampling is "continue these paths": a launch continues N empty paths, a resume continues cut ones, and a Monte Carlo label
continues K copies of one prefix. Equal contents are computed once and then cloned into rows. The KV of a launched prefix is
looked up by content, so Check and Resume recompute a single token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import psutil
import torch

from harness.api import Engine, Heads, Path, PathpruneError, Problem, Sampling, Signal
from harness.engines import EVERYTHING, loading
from harness.engines.heads import heads_of, shared
from harness.engines.hf import attention as folded
from harness.engines.hf import kv, packing, support
from harness.engines.hf.adapter import StopAdapter
from harness.engines.hf.batch import SequenceBatch, ragged_inputs
from harness.engines.hf.decoding import Decoding
from harness.engines.hf.text import default_device, described
from harness.engines.options import AT_ONCE
from harness.engines.prefix_reader import PrefixReader
from harness.engines.prompts import Prompts, end_tokens

END = -1  # behind a stored head, whose every token is computed
RECOMPUTED = 1 << 16  # generated tokens that one forward pass computes at most, when prefixes are not stored


class HFEngine(Prompts, Engine):
    """See ``harness.api.Probing``.

    Args:
        where: folder or hub id of the model.
        spec: everything that determines the engine's tokens.
        sampling: how tokens are sampled.
        revision: commit of a hub id.
        device: as torch names it; None for a GPU if there is one.
        attention: transformers' name of an attention implementation; None for torch's, folded on a CPU.
        device_map: accelerate's device map for several devices; ``device`` is then unused.
        memory: bytes of KV per batch, and the same for stored prefixes; None for a share of the free memory.
        rows: maximum paths per batch.
        packed: keep a second copy of the weights, packed for matrix products on a CPU.
        loaded: a loaded causal model and its tokenizer, used instead of ``where``. They are not changed; call ``forget``
            after changing the weights.

    Raises:
        PathpruneError: the device cannot be used, or the weights are damaged.
        UnavailableError: the model cannot be loaded.
    """

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
        rows: int = AT_ONCE["hf"],
        packed: bool = False,
        loaded: tuple[Any, Any] | None = None,
    ) -> None:
        self.where, self.spec, self.sampling = where, spec, sampling
        self.device = default_device(device)
        self.model, tokenizer = loaded or loading.load(
            where, revision, spec["dtype"], str(self.device), attention, device_map
        )
        self.device = self.model.get_input_embeddings().weight.device  # of several, the one that tokens go to
        if attention is None and loaded is None:
            folded.use(self.model)
        if packed:
            packing.pack(self.model, rows)
        self.token_bytes = support.token_bytes(where, self.model)
        support.resumable(where, self.model)
        self.decoder = support.decoder_of(self.model)
        self.rows = rows
        self.memory = memory or self._default_memory()
        self.store = kv.PrefixStore(self.memory)
        self._heads: dict[str, tuple[int, ...]] = {}  # by prompt, the stored head that it begins with
        self._encoded: tuple[list[tuple[str, tuple[int, ...]]], kv.Block] | None = None  # the last training's KV
        config = self.model.config.get_text_config()
        self.layers = config.num_hidden_layers
        self.flops = loading.flop_model(self.model)
        context, self.bound = loading.even_context(config)
        super().__init__(tokenizer, context, spec)
        ends = end_tokens(self.model.generation_config, tokenizer, config.vocab_size, self.name)
        self._ends = torch.tensor(ends, device=self.device)

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """See ``harness.api.Engine``. The KV of the paths is stored as far as ``memory`` allows."""
        started = [Path(problem, i, seed) for problem in problems for i in range(n)]
        paths = self._continue(started, max_tokens, store=True)
        return [paths[i : i + n] for i in range(0, len(paths), n)]

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """See ``harness.api.Engine``."""
        return self._continue(paths, max_tokens, store=False)

    def stride(self, paths: Sequence[Path], max_tokens: int, rests: Sequence[int], store: bool) -> list[Path]:
        """As ``resume``, but stop at the first of the tokens ``rests``; ``store`` keeps the KV as ``launch`` does."""
        return self._continue(paths, max_tokens, store, rests)

    def probe(self, paths: Sequence[Path], adapter: StopAdapter | None = None) -> np.ndarray:
        """See ``harness.api.Probing``; float32 ``[n, 1, d]``, or ``[n, T_s, d]`` with an adapter."""
        states: dict[int, np.ndarray] = {}
        for indices in self.batches(paths, reserve=8):
            batch = self.prefill([paths[i] for i in indices], want_logits=False)
            self._store_new([paths[i] for i in indices], batch)
            rows = self._states(batch, adapter).float().cpu().numpy()
            states.update(zip(indices, rows, strict=True))
        return np.stack([states[i] for i in range(len(paths))])

    @torch.no_grad()
    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        """See ``harness.api.Probing``.

        Whole prefixes are computed and charged again over their prompts' stored KV, because states are not stored.
        """
        reduced: dict[int, np.ndarray] = {}
        state_bytes = 4 * (self.layers + 1) * self.model.get_input_embeddings().weight.shape[1]
        for length in sorted({len(p.tokens) for p in paths}):
            of_length = [i for i, p in enumerate(paths) if len(p.tokens) == length]
            longest = length + max(self.prompt_length(paths[i].problem) for i in of_length)
            size = max(1, min(self.rows, self.memory // (longest * self.token_bytes + length * state_bytes)))
            for start in range(0, len(of_length), size):
                indices = of_length[start : start + size]
                layers = self._compute(
                    [paths[i] for i in indices], want_logits=False, every_layer=True, before=before
                ).states
                for row, i in enumerate(indices):
                    states = torch.stack([layer[row] for layer in layers])
                    reduced[i] = reduce(states.float().cpu().numpy(), paths[i])
        return [reduced[i] for i in range(len(paths))]

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        """Log-probability of each of these tokens as the next one, in nats, float32 ``[n, len(tokens)]``."""
        logprobs: dict[int, np.ndarray] = {}
        for path in paths:
            self.fits(path, len(path.tokens))
        for indices in self.batches(paths, reserve=8):
            batch = self.prefill([paths[i] for i in indices], want_logits=True)
            self._store_new([paths[i] for i in indices], batch)
            assert batch.logits is not None
            rows = batch.logits.float().log_softmax(-1)[:, list(tokens)].cpu().numpy()
            logprobs.update(zip(indices, rows, strict=True))
        return np.stack([logprobs[i] for i in range(len(paths))])

    def share(self, problems: Sequence[Problem], known: Sequence[tuple[int, ...]] = ()) -> Heads:
        """See ``harness.api.Engine``. Heads are stored as far as ``memory`` allows."""
        plan = heads_of([self.ids(p.prompt) for p in problems], known)
        new = list(plan.new)
        while new:
            # A head over another new one has to wait for it.
            ready = [head for head in new if not any(o is not head and head[0][: len(o[0])] == o[0] for o in new)]
            new = [head for head in new if head not in ready]
            for first in range(0, len(ready), self.rows):
                self._store_heads(ready[first : first + self.rows])
        self._heads = {p.prompt: head for p, head in zip(problems, plan.of, strict=True) if head}
        return plan

    @torch.no_grad()
    def _store_heads(self, heads: Sequence[tuple[tuple[int, ...], int]]) -> None:
        longest = max(len(ids) for ids, _ in heads)
        size = max(1, min(self.memory // (self.token_bytes * longest), RECOMPUTED // longest))
        for first in range(0, len(heads), size):
            some = heads[first : first + size]
            block = self._extended([self._head(ids[:covered]) for ids, covered in some], [ids for ids, _ in some])
            self.store.put([(None, (*ids, END)) for ids, _ in some], block)

    def _head(self, ids: tuple[int, ...]) -> kv.Held | None:
        stored = self.store.get((None, (*ids, END))) if ids else None
        return kv.Held(*stored, used=len(ids)) if stored else None

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> StopAdapter:
        """Load a trained adapter from its folder, or create one with these options of ``StopAdapter``."""
        return StopAdapter.load(self.model, folder) if folder else StopAdapter(self.model, **options)

    def reader(self, paths: Sequence[Path], adapter: StopAdapter) -> PrefixReader:
        """The adapter's states over these prefixes, with gradient: see ``PrefixReader``."""
        lengths = torch.tensor([len(self.sequence(p)) for p in paths])
        free = self.memory if self.device.type == "cuda" else psutil.virtual_memory().available // 2

        def fits(rows: int, width: int) -> bool:
            return bool(self.token_bytes * width * rows <= free)

        def encode(needed: Sequence[Path]) -> kv.Block:
            contents = [(p.problem.prompt, p.tokens) for p in needed]
            if self._encoded is None or self._encoded[0] != contents:
                self._encoded = None  # freed first: two of them would not fit
                self._encoded = (contents, self._prefix_kv(needed))
            return self._encoded[1]

        def states(held: kv.Block, rows: torch.Tensor, of_rows: torch.Tensor) -> torch.Tensor:
            batch = SequenceBatch(kv.cache_over(kv.first_columns(held, rows, of_rows)), of_rows)
            return self._appended(batch, adapter)

        return PrefixReader(encode, self._prefix_kv, paths, lengths, states, fits)

    def _prefix_kv(self, paths: Sequence[Path]) -> kv.Block:
        """KV of whole prefixes, as the model computes it, each from column 0 on."""
        lengths = [len(self.sequence(p)) for p in paths]
        prefix_kv: kv.Block | None = None
        for indices in self.batches(paths, reserve=8):
            batch = self.prefill([paths[i] for i in indices], want_logits=False)
            block = kv.take(batch.cache, torch.arange(len(indices), device=self.device))
            if prefix_kv is None:
                prefix_kv = block.map(lambda t: t.new_zeros(len(paths), t.shape[1], max(lengths), t.shape[3]))
            starts = block.width - torch.tensor([lengths[i] for i in indices])
            moved = kv.windows(block, torch.arange(len(indices)), starts, max(lengths))
            for target, source in zip(prefix_kv.tensors, moved.tensors, strict=True):
                target[indices] = source
        assert prefix_kv is not None
        return prefix_kv

    def forget(self) -> None:
        """Clear the prompt caches and all stored KV: in long-running processes, or after the weights have changed."""
        super().forget()
        self.store.clear()
        self._heads, self._encoded = {}, None

    def release(self, prompt: str) -> None:
        """Free the stored KV of a prompt and its paths, which nobody will read again."""
        self.store.drop(prompt)

    def describe(self) -> dict[str, str]:
        """Device and version of torch, for a record."""
        return described(self.device)

    def _default_memory(self) -> int:
        if self.device.type == "cuda":
            return int(torch.cuda.mem_get_info(self.device)[0] * 0.4)
        return int(psutil.virtual_memory().available * 0.15)

    def batches(self, paths: Sequence[Path], reserve: int) -> Iterator[list[int]]:
        """Indices of ``paths``, in batches of similar length that fit the memory budget.

        Within a batch, either all paths have stored KV or none has. Batches without stored KV have equal numbers of generated
        tokens and come last, because storing their KV may evict that of others.

        Args:
            paths: the paths to compute.
            reserve: tokens by which each path will grow.
        """
        lengths = [len(self.sequence(p)) for p in paths]
        held = [self._held(p) for p in paths]
        fed = [length - (h.used if h else 0) for length, h in zip(lengths, held, strict=True)]
        kinds = [
            (2, len(p.tokens)) if h is None else (0 if new == 1 else 1, 0)
            for h, new, p in zip(held, fed, paths, strict=True)
        ]
        order = sorted(range(len(paths)), key=lambda i: (kinds[i], fed[i], lengths[i], i))
        batch: list[int] = []
        for i in order:
            limit = min(self.rows, max(1, self.memory // (self.token_bytes * (lengths[i] + reserve))))
            if kinds[i][0]:
                limit = max(1, min(limit, RECOMPUTED // max(1, kinds[i][1] or fed[i])))
            if batch and (len(batch) >= limit or kinds[i] != kinds[batch[0]]):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def _held(self, path: Path) -> kv.Held | None:
        """The stored KV of a prefix of a path, always without its last token."""
        prompt, sequence = path.problem.prompt, self.sequence(path)
        if exact := self.store.get((prompt, path.tokens)):
            return kv.Held(*exact, used=len(sequence) - 1)
        tokens = self.store.nearest((prompt, path.tokens)) if path.tokens else None
        if not tokens:
            return self._head(self._heads.get(prompt, ()))
        stored = self.store.get((prompt, tokens))
        assert stored is not None
        covered = len(sequence) - len(path.tokens) + len(tokens) - 1
        used = min(covered, len(sequence) - 1, len(sequence) - len(path.tokens) + shared(tokens, path.tokens))
        return kv.Held(*stored, used=used, trim=covered - used)

    @torch.no_grad()
    def prefill(self, paths: Sequence[Path], want_logits: bool, room: tuple[int, int] | None = None) -> SequenceBatch:
        """Compute the missing KV of each sequence: one token for a stored prefix, else everything after the stored part.

        Args:
            paths: one of ``batches``.
            want_logits: fill ``logits`` of the result instead of ``hidden``.
            room: maximum rows and columns to which the batch will grow.
        """
        held = [self._held(p) for p in paths]
        if not any(held) and len({len(p.tokens) for p in paths}) == 1:
            return self._compute(paths, want_logits, room=room)
        sequences = [self.sequence(p) for p in paths]
        lengths = torch.tensor([len(ids) for ids in sequences])
        block = self._extended(held, [ids[:-1] for ids in sequences])
        return self._forward(
            SequenceBatch(kv.cache_over(block, room), lengths),
            torch.tensor([[ids[-1]] for ids in sequences]),
            want_logits,
        )

    def _extended(self, held: Sequence[kv.Held | None], sequences: Sequence[tuple[int, ...]]) -> kv.Block:
        """KV of whole sequences, end-aligned: what they begin with is held, and only the rest is computed."""
        used = [h.used if h else 0 for h in held]
        rest = [ids[start:] for ids, start in zip(sequences, used, strict=True)]
        width = max(map(len, sequences))
        if not any(rest):
            return kv.end_aligned(held, width)
        cache = kv.cache_over(kv.end_aligned(held, max(used))) if any(used) else kv.arena_cache()
        self.decoder(**ragged_inputs(cache, used, rest, self.device))
        block = kv.take(cache, torch.arange(len(held), device=self.device))
        return kv.ending_at(block, [max(used) + len(ids) for ids in rest], width)

    def _store_new(self, paths: Sequence[Path], batch: SequenceBatch) -> None:
        """Store what had to be computed, so that the next method reads the same prefixes for a token each."""
        new = [i for i, p in enumerate(paths) if self.store.get((p.problem.prompt, p.tokens)) is None]
        if new:
            block = kv.take(batch.cache, torch.tensor(new, device=self.device))
            # A stored prefix ends before its last token, whose KV a sampler would not have yet.
            keys: list[kv.Key] = [(paths[i].problem.prompt, paths[i].tokens) for i in new]
            self.store.put(keys, block.map(lambda t: t[..., :-1, :]))

    def _compute(
        self,
        paths: Sequence[Path],
        want_logits: bool,
        every_layer: bool = False,
        room: tuple[int, int] | None = None,
        before: int = 0,
    ) -> SequenceBatch:
        """``prefill`` without stored KV of the tokens: each prompt at most once, cloned for its paths, whose tokens are fed side by side.

        The prompts' last ``before`` tokens are fed with those of the paths."""
        row_of = {prompt: row for row, prompt in enumerate(dict.fromkeys(p.problem.prompt for p in paths))}
        prompts = [self.ids(prompt)[: len(self.ids(prompt)) - before] for prompt in row_of]
        if not all(prompts):
            raise PathpruneError(f"before={before} needs prompts of more than {before} tokens")
        width = max(map(len, prompts))
        batch = SequenceBatch(kv.arena_cache(room), torch.tensor([len(ids) for ids in prompts]))
        padded = torch.tensor([[0] * (width - len(ids)) + list(ids) for ids in prompts])
        if not paths[0].tokens:
            return self._forward(batch, padded, want_logits)
        held = [self._prompt_kv(prompt, before) for prompt in row_of]
        if all(held):
            batch.cache = kv.cache_over(kv.end_aligned(held, width), room)
        else:
            self._forward(batch, padded, want_logits=False)
        batch.select(torch.tensor([row_of[p.problem.prompt] for p in paths], device=self.device))
        tokens = torch.tensor([self.sequence(p)[-len(p.tokens) - before :] for p in paths])
        batch.lengths = batch.lengths + tokens.shape[1]
        return self._forward(batch, tokens, want_logits, every_layer)

    def _prompt_kv(self, prompt: str, before: int = 0) -> kv.Held | None:
        """The stored KV of a prompt without its last ``before`` tokens, from any path behind it."""
        tokens = self.store.last(prompt)
        stored = self.store.get((prompt, tokens)) if tokens else None
        return kv.Held(*stored, used=len(self.ids(prompt)) - before, trim=len(tokens) - 1 + before) if stored else None

    def _forward(
        self, batch: SequenceBatch, ids: torch.Tensor, want_logits: bool, every_layer: bool = False
    ) -> SequenceBatch:
        """One forward pass of ``ids`` ``[n, q]`` over the cache; ``lengths`` count them already.

        Fills logits, or the last token's hidden state and, with ``every_layer``, the states at all of ``ids``.
        """
        inputs = batch.inputs(ids, self.device)
        if want_logits:
            batch.logits = self.model(**inputs, logits_to_keep=1).logits[:, -1].to(self.device)
        else:
            output = self.decoder(**inputs, output_hidden_states=every_layer)
            batch.hidden = output.last_hidden_state[:, -1].to(self.device)
            layers = [support.state_of(layer, self.decoder) for layer in output.hidden_states or ()]
            ends = (*layers[:-1], output.last_hidden_state) if layers else ()
            batch.states = tuple(layer.to(self.device) for layer in ends)
        return batch

    def _states(self, batch: SequenceBatch, adapter: StopAdapter | None) -> torch.Tensor:
        if adapter is None:
            assert batch.hidden is not None
            return batch.hidden.unsqueeze(1)
        with torch.no_grad():
            return self._appended(batch, adapter)

    def _appended(self, batch: SequenceBatch, adapter: StopAdapter) -> torch.Tensor:
        """States at an adapter's tokens behind a batch, as a Check and a training read them: ends in one column."""
        width = int(batch.cache.get_seq_length()) + adapter.tokens
        longer = replace(batch, lengths=batch.lengths + adapter.tokens)
        return adapter(batch.cache, longer.lengths.to(self.device), longer.mask(width, self.device))

    def _continue(self, paths: Sequence[Path], max_tokens: int, store: bool, rests: Sequence[int] = ()) -> list[Path]:
        continued = list(paths)
        unfinished = [i for i, p in enumerate(paths) if p.finish == "length" and len(p.tokens) < max_tokens]
        for i in unfinished:
            self.fits(paths[i], max_tokens)
        waiting = [paths[i] for i in unfinished]
        for indices in self.batches(waiting, reserve=max_tokens):
            longer = self._decode([waiting[i] for i in indices], max_tokens, store, rests)
            for i, path in zip(indices, longer, strict=True):
                continued[unfinished[i]] = path
        return continued

    @torch.no_grad()
    def _decode(self, paths: list[Path], max_tokens: int, store: bool, rests: Sequence[int]) -> list[Path]:
        """Continue paths side by side. Paths of equal content are one row of the batch until they diverge."""
        contents: dict[tuple[str, tuple[int, ...]], int] = {}
        row_of_path = [contents.setdefault((p.problem.prompt, p.tokens), len(contents)) for p in paths]
        first_of_row = dict(zip(reversed(row_of_path), reversed(paths), strict=True))
        room = len(paths), max(self.prompt_length(p.problem) for p in paths) + max_tokens
        batch = self.prefill([first_of_row[row] for row in range(len(contents))], want_logits=True, room=room)
        rows = torch.tensor(row_of_path, device=self.device)
        decoding = Decoding(paths, rows, max_tokens, self.sampling, self._ends, rests)
        while True:
            assert batch.logits is not None
            ended = decoding.draw(batch.logits)
            if store and len(ended):
                self.store.put(decoding.contents(ended), kv.take(batch.cache, decoding.rows[ended]))
            decoding.retire(ended)
            if not len(decoding.running):
                return decoding.paths(self.decode)
            if (alive := decoding.compact(len(batch.lengths))) is not None:
                batch.select(alive)
            parents, tokens = decoding.diverge(len(batch.lengths))
            if len(parents):
                batch.clone(parents)
            batch.lengths = batch.lengths + 1
            self._forward(batch, tokens.unsqueeze(-1), want_logits=True)
