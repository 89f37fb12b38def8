"""KV caches: an arena that grows without a copy at every step, and a store of prefixes by content."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from harness.engines.heads import shared

GROW = 128  # arena columns are allocated in steps of this many tokens


class ArenaLayer(DynamicLayer):
    """A layer with spare columns and rows, so that tokens and clones are written in place; a window is the mask's affair.

    ``DynamicLayer`` copies everything at every step. A layer that reads another one's keys and values stays empty.

    Args:
        keys: ``[rows, kv heads, columns, width]`` that it starts with, full to the last column; never written into.
        values: ``[rows, kv heads, columns, width]``, of keys' or another width.
        room: rows and columns that it will hold at most: what is allocated ahead goes no further.
    """

    def __init__(
        self, keys: torch.Tensor | None = None, values: torch.Tensor | None = None, room: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.length = self.rows = 0
        self.room = room or (0, 0)
        if keys is not None and values is not None:
            self.keys, self.values, self.is_initialized = keys, values, True
            self.rows, self.length = keys.shape[0], keys.shape[-2]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append ``[n, kv heads, q, width]``; returns keys and values of all tokens so far."""
        end = self.length + key_states.shape[-2]
        self.rows = key_states.shape[0]
        if self.is_initialized and self.keys.device != key_states.device:  # stored on one device, computed on several
            self.keys, self.values = self.keys.to(key_states.device), self.values.to(key_states.device)
        self.keys = _write(self.keys, key_states, self.length, end, self.room[1])
        self.values = _write(self.values, value_states, self.length, end, self.room[1])
        self.is_initialized, self.length = True, end
        return _part(self.keys, self.rows, 0, end), _part(self.values, self.rows, 0, end)

    def get_seq_length(self) -> int:
        """Columns in use, those of left padding included."""
        return self.length

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may be named more than once."""
        if self.is_initialized:
            rows = rows.to(self.keys.device)
            self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)
            self.rows = len(rows)

    def clone(self, rows: torch.Tensor) -> None:
        """Append copies of these rows; only the new rows are written."""
        if self.is_initialized:
            rows = rows.to(self.keys.device)
            both = (_append(t, rows, self.rows, self.length, self.room[0]) for t in (self.keys, self.values))
            self.keys, self.values = both
            self.rows += len(rows)


def _write(arena: torch.Tensor | None, new: torch.Tensor, start: int, end: int, most: int) -> torch.Tensor:
    rows, heads, _, width = new.shape
    if arena is None or end > arena.shape[-2]:
        capacity = rows if arena is None else arena.shape[0]
        # Grown by half as well, so that a path of 32k tokens is copied a dozen times and not 256 times.
        columns = max(-(-end // GROW) * GROW, start + start // 2)
        grown = new.new_empty(capacity, heads, max(end, min(columns, most)) if most else columns, width)
        if arena is not None:
            grown[:rows, :, :start] = arena[:rows, :, :start]
        arena = grown
    _part(arena, rows, start, end).copy_(new)
    return arena


def _part(arena: torch.Tensor, rows: int, start: int, end: int) -> torch.Tensor:
    """The first rows of an arena, columns ``start`` to ``end``, in as few operations as a launch-bound step can afford."""
    columns = arena.narrow(2, start, end - start)
    return columns if rows == arena.shape[0] else columns.narrow(0, 0, rows)


def _append(arena: torch.Tensor, rows: torch.Tensor, used: int, length: int, most: int) -> torch.Tensor:
    end = used + len(rows)
    if end > arena.shape[0]:
        capacity = 2 * arena.shape[0]
        grown = arena.new_empty(max(end, min(capacity, most) if most else capacity), *arena.shape[1:])
        grown[:used, :, :length] = arena[:used, :, :length]
        arena = grown
    arena[used:end, :, :length] = arena[rows, :, :length]
    return arena


def arena_cache(room: tuple[int, int] | None = None) -> Cache:
    """An empty cache of arenas, one for each layer that has keys and values; ``room`` as in ``ArenaLayer``."""
    make: Any = partial(ArenaLayer, room=room)  # a cache calls it for each layer that writes
    return Cache(layer_class_to_replicate=make)


Pair = tuple[torch.Tensor, torch.Tensor]  # keys and values of a layer, each [rows, kv heads, columns, width]


@dataclass(frozen=True, eq=False)
class Block:
    """KV of some sequences, end-aligned; left columns may be padding. A layer without its own has None."""

    layers: tuple[Pair | None, ...]

    @property
    def width(self) -> int:
        """Columns, those of padding included."""
        return self.tensors[0].shape[-2]

    @property
    def tensors(self) -> list[torch.Tensor]:
        """Keys and values of every layer that has some."""
        return [tensor for pair in self.layers if pair for tensor in pair]

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def map(self, change: Callable[[torch.Tensor], torch.Tensor]) -> Block:
        """A block of the changed tensors."""
        return Block(tuple(pair and (change(pair[0]), change(pair[1])) for pair in self.layers))


def take(cache: Cache, rows: torch.Tensor) -> Block:
    """Copy rows of a cache, up to its length, to the first layer's device."""
    first = cache.layers[0].keys.device

    def copied(tensor: torch.Tensor, length: int) -> torch.Tensor:
        return tensor[rows.to(tensor.device), :, :length].to(first)

    return Block(
        tuple(
            (copied(layer.keys, layer.length), copied(layer.values, layer.length)) if layer.is_initialized else None
            for layer in cache.layers
        )
    )


@dataclass(frozen=True, eq=False)
class Held:
    """Stored KV that a sequence begins with: row ``row`` of ``block``, without its last ``trim`` columns."""

    block: Block
    row: int
    used: int  # tokens of the sequence that it covers
    trim: int = 0


def end_aligned(stored: Sequence[Held | None], width: int) -> Block:
    """Gather n rows of many blocks into one block, end-aligned.

    Args:
        stored: what each of the n begins with, at least one of them with something.
        width: columns of the result; what a block has more is cut off on the left.
    """
    first = next(held.block for held in stored if held)
    gathered = first.map(lambda t: t.new_zeros(len(stored), t.shape[1], width, t.shape[3]))
    by_block: dict[tuple[int, int], tuple[Block, list[int], list[int]]] = {}
    for target, held in enumerate(stored):
        if held:
            _, rows, targets = by_block.setdefault((id(held.block), held.trim), (held.block, [], []))
            rows.append(held.row)
            targets.append(target)
    for (_, trim), (block, rows, targets) in by_block.items():
        end = block.width - trim
        used = min(end, width)
        for tensor, source in zip(gathered.tensors, block.tensors, strict=True):
            tensor[targets, :, width - used :] = source[rows, :, end - used : end]
    return gathered


def ending_at(block: Block, ends: Sequence[int], width: int) -> Block:
    """The columns of each row up to its own end, moved so that all end in one column of ``width``."""
    starts = torch.tensor(ends) - width
    return windows(block, torch.arange(len(ends)), starts, width)


def first_columns(block: Block, rows: torch.Tensor, lengths: torch.Tensor) -> Block:
    """The first ``lengths`` ``[n]`` columns of some rows ``[n]``, copied to a block that is end-aligned."""
    width = int(lengths.max())
    return windows(block, rows, lengths - width, width)


def windows(block: Block, rows: torch.Tensor, starts: torch.Tensor, width: int) -> Block:
    """``width`` columns of some rows ``[n]``, from ``starts`` ``[n]`` on; zeros before a row's first column and behind its last.

    One operation for all rows of a tensor: beside a GPU each costs as much as the copy itself.
    """
    device = block.tensors[0].device
    columns = torch.arange(width, device=device) + starts.to(device).unsqueeze(-1)
    outside = (columns < 0) | (columns >= block.width)
    columns, rows = columns.clamp(0, block.width - 1), rows.to(device)

    def window(tensor: torch.Tensor) -> torch.Tensor:
        heads = torch.arange(tensor.shape[1], device=device)
        places = (rows.view(-1, 1, 1) * len(heads) + heads.view(-1, 1)) * block.width + columns.unsqueeze(1)
        moved = tensor.reshape(-1, tensor.shape[-1]).index_select(0, places.flatten())
        return moved.view(*places.shape, -1).masked_fill_(outside[:, None, :, None], 0.0)

    return block.map(window)


def cache_over(block: Block, room: tuple[int, int] | None = None) -> Cache:
    """A cache that starts with a block and never writes into it; the first update moves to a new arena."""
    return Cache(layers=[ArenaLayer(*pair, room) if pair else ArenaLayer(room=room) for pair in block.layers])


Key = tuple[Any, tuple[int, ...]]  # a prompt (None: a head of prompts) and the tokens behind it


class PrefixStore:
    """The KV of prefixes by content (prompt and tokens), with least-recently-used eviction.

    A row covers its key's prompt and all of its tokens except the last, whose KV a sampler does not have yet. ``budget`` is
    the maximum size in bytes; ``bytes`` are in use.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._blocks: OrderedDict[int, tuple[Block, set[Key]]] = OrderedDict()  # with the keys that are found in it
        self._locations: dict[Key, tuple[int, int]] = {}  # key -> id of its block, row in it
        self._sorted: dict[Any, list[tuple[int, ...]]] = {}  # by prompt, the tokens that are stored behind it

    def put(self, keys: list[Key], block: Block) -> None:
        """Store a block whose rows are named by ``keys``; a block larger than the budget is not kept."""
        size = block.bytes
        if size > self.budget:
            return
        self._blocks[id(block)] = (block, set(keys))
        self.bytes += size
        for row, key in enumerate(keys):
            before = self._locations.get(key)
            self._locations[key] = (id(block), row)
            if before is None:
                insort(self._sorted.setdefault(key[0], []), key[1])
            elif before[0] != id(block):
                self._leave(key, before[0])
        while self.bytes > self.budget:
            self._evict()

    def get(self, key: Key) -> tuple[Block, int] | None:
        """The block and the row of it that hold this prefix, or None. Its block is the last to be evicted."""
        if key not in self._locations:
            return None
        name, row = self._locations[key]
        self._blocks.move_to_end(name)
        return self._blocks[name][0], row

    def nearest(self, key: Key) -> tuple[int, ...] | None:
        """The tokens stored behind this prompt that share most with ``key``'s, or None where nothing is stored."""
        stored = self._sorted.get(key[0], [])
        at = bisect_left(stored, key[1])  # of all, a neighbour in order shares most
        return max(stored[max(0, at - 1) : at + 1], key=lambda tokens: shared(tokens, key[1]), default=None)

    def last(self, prompt: str) -> tuple[int, ...]:
        """The last in order of the tokens stored behind this prompt; () where none are."""
        return self._sorted.get(prompt, [()])[-1]

    def drop(self, prompt: Any) -> None:
        """Forget what is stored behind a prompt. A block goes with the last of its prefixes."""
        for tokens in self._sorted.pop(prompt, []):
            name, _ = self._locations.pop((prompt, tokens))
            self._leave((prompt, tokens), name)

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._locations.clear()
        self._sorted.clear()
        self.bytes = 0

    def _leave(self, key: Key, name: int) -> None:
        """Note that a prefix is no longer found in a block, which goes with the last of them."""
        block, keys = self._blocks[name]
        keys.discard(key)
        if not keys:
            del self._blocks[name]
            self.bytes -= block.bytes

    def _evict(self) -> None:
        _, (block, keys) = self._blocks.popitem(last=False)
        self.bytes -= block.bytes
        for key in keys:
            del self._locations[key]
            tokens = self._sorted[key[0]]
            del tokens[bisect_left(tokens, key[1])]
            if not tokens:
                del self._sorted[key[0]]
