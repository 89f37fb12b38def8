"""Keys and values: an arena that grows without copying at every step, and a store of prefixes by content."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

GROW = 128  # arena columns are allocated in steps of this many tokens


class ArenaLayer(DynamicLayer):
    """A full-attention layer with spare columns and rows, so that tokens and clones are written in place.

    ``DynamicLayer`` copies everything at every step. ``keys`` and ``values`` ``[rows, kv heads, columns, head_dim]`` are
    what it starts with, full to the last column.
    """

    def __init__(self, keys: torch.Tensor | None = None, values: torch.Tensor | None = None) -> None:
        super().__init__()
        self.length = self.rows = 0
        if keys is not None and values is not None:
            self.keys, self.values, self.is_initialized = keys, values, True
            self.rows, self.length = keys.shape[0], keys.shape[-2]

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: object, **kwargs: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append ``[n, kv heads, q, head_dim]``; returns keys and values of all tokens so far."""
        end = self.length + key_states.shape[-2]
        self.rows = key_states.shape[0]
        if self.is_initialized and self.keys.device != key_states.device:  # stored on one device, computed on several
            self.keys, self.values = self.keys.to(key_states.device), self.values.to(key_states.device)
        self.keys = _write(self.keys, key_states, self.length, end)
        self.values = _write(self.values, value_states, self.length, end)
        self.is_initialized, self.length = True, end
        return self.keys[: self.rows, :, :end], self.values[: self.rows, :, :end]

    def get_seq_length(self) -> int:
        """Columns in use, those of left padding included."""
        return self.length

    def select(self, rows: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may be named more than once."""
        rows = rows.to(self.keys.device)
        self.keys, self.values = self.keys.index_select(0, rows), self.values.index_select(0, rows)
        self.rows = len(rows)

    def clone(self, rows: torch.Tensor) -> None:
        """Append copies of these rows; only the new rows are written."""
        rows = rows.to(self.keys.device)
        self.keys, self.values = (_append(t, rows, self.rows, self.length) for t in (self.keys, self.values))
        self.rows += len(rows)


def _write(arena: torch.Tensor | None, new: torch.Tensor, start: int, end: int) -> torch.Tensor:
    rows, heads, _, dim = new.shape
    if arena is None or end > arena.shape[-2]:
        width = -(-end // GROW) * GROW
        capacity = rows if arena is None else arena.shape[0]
        # Grown by half as well, so that a path of 32k tokens is copied a dozen times and not 256 times.
        grown = new.new_empty(capacity, heads, max(width, start + start // 2), dim)
        if arena is not None:
            grown[:rows, :, :start] = arena[:rows, :, :start]
        arena = grown
    arena[:rows, :, start:end] = new
    return arena


def _append(arena: torch.Tensor, rows: torch.Tensor, used: int, length: int) -> torch.Tensor:
    end = used + len(rows)
    if end > arena.shape[0]:
        grown = arena.new_empty(max(end, 2 * arena.shape[0]), *arena.shape[1:])
        grown[:used, :, :length] = arena[:used, :, :length]
        arena = grown
    arena[used:end, :, :length] = arena[rows, :, :length]
    return arena


def arena_cache(layers: int) -> Cache:
    """An empty cache of arenas."""
    return Cache(layers=[ArenaLayer() for _ in range(layers)])


@dataclass(frozen=True, eq=False)
class Block:
    """KV of some sequences, end-aligned; left columns may be padding."""

    kv: torch.Tensor  # [layers, keys and values, rows, kv heads, width, head_dim]

    @property
    def width(self) -> int:
        """Columns, those of padding included."""
        return self.kv.shape[-2]


def take(cache: Cache, rows: torch.Tensor) -> Block:
    """Copy rows of a cache, up to its length, to the first layer's device."""
    first = cache.layers[0].keys.device
    layers = []
    for layer in cache.layers:
        on_device = rows.to(layer.keys.device)
        keys, values = layer.keys[on_device, :, : layer.length], layer.values[on_device, :, : layer.length]
        layers.append(torch.stack([keys, values]).to(first))
    return Block(torch.stack(layers))


def end_aligned(stored: list[tuple[Block, int]], width: int) -> torch.Tensor:
    """Gather n rows of many blocks into one ``[layers, 2, n, kv heads, width, head_dim]`` tensor, end-aligned.

    Args:
        stored: a block and a row of it, for each of the n.
        width: columns of the result; what a block has more is cut off on the left.
    """
    first = stored[0][0].kv
    layers, _, _, heads, _, dim = first.shape
    gathered = first.new_zeros(layers, 2, len(stored), heads, width, dim)
    by_block: dict[int, tuple[Block, list[int], list[int]]] = {}
    for target, (block, row) in enumerate(stored):
        _, rows, targets = by_block.setdefault(id(block), (block, [], []))
        rows.append(row)
        targets.append(target)
    for block, rows, targets in by_block.values():
        used = min(block.width, width)
        gathered[:, :, targets, :, width - used :] = block.kv[:, :, rows, :, block.width - used :]
    return gathered


def cache_over(kv: torch.Tensor) -> Cache:
    """A cache that starts with ``kv`` ``[layers, 2, n, kv heads, T, head_dim]`` and never writes into it.

    The first update moves to a new arena.
    """
    return Cache(layers=[ArenaLayer(layer[0], layer[1]) for layer in kv])


class PrefixStore:
    """KV of prefixes, found by content (prompt and tokens), least recently used out first.

    ``budget`` bounds the bytes that it holds, ``bytes`` are in use.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.bytes = 0
        self._blocks: OrderedDict[int, tuple[Block, list[object]]] = OrderedDict()
        self._locations: dict[object, tuple[int, int]] = {}  # key -> id of its block, row in it

    def put(self, keys: list[object], block: Block) -> None:
        """Store a block whose rows are named by ``keys``; a block larger than the budget is not kept."""
        size = block.kv.nbytes
        if size > self.budget:
            return
        self._blocks[id(block)] = (block, keys)
        for row, key in enumerate(keys):
            self._locations[key] = (id(block), row)
        self.bytes += size
        while self.bytes > self.budget:
            self._evict()

    def get(self, key: object) -> tuple[Block, int] | None:
        """The block and the row of it that hold this prefix, or None. Its block is the last to be evicted."""
        if key not in self._locations:
            return None
        name, row = self._locations[key]
        self._blocks.move_to_end(name)
        return self._blocks[name][0], row

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self._locations.clear()
        self.bytes = 0

    def _evict(self) -> None:
        name, (block, keys) = self._blocks.popitem(last=False)
        self.bytes -= block.kv.nbytes
        for key in keys:
            if self._locations.get(key, (None, 0))[0] == name:  # else a later block holds the same prefix
                del self._locations[key]
