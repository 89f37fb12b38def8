"""Check on a few tokens, before sampling, whether a model's prefixes can be stored, cut and resumed.

A prefix is stored as the keys and values of its tokens. The same checks serve every model family: the contents of the cache
after a forward pass, and whether a padded batch continued over such a cache gives the states of one uncached pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import Cache, PreTrainedModel
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.pytorch_utils import Conv1D

from harness.api import PathpruneError
from harness.engines import memory
from harness.engines.hf import kv
from harness.engines.hf.batch import SequenceBatch
from harness.engines.identity import first_line

PROMPTS, APPENDED = (5, 3), 2  # tokens of the trial's two sequences, and those that each goes on by
EXACT, ROUNDED = (
    1e-2,
    0.3,
)  # the largest relative error of a state: float32, and 16 bits, where an expert may be another
OTHER = -1
ADVICE = "give a decoder of attention layers alone, such as Llama or Qwen3"


def decoder_of(model: Any) -> Any:
    """The part of a causal model whose ``last_hidden_state`` its head reads."""
    candidates = [model.get_decoder(), model.base_model, *model.children()]
    for candidate in candidates:
        if isinstance(candidate, PreTrainedModel) and candidate is not model:
            return candidate
    raise PathpruneError(f"{type(model).__name__} has no decoder that gives states; {ADVICE}")


def state_of(layer: torch.Tensor, decoder: Any) -> torch.Tensor:
    """A layer's states ``[n, q, d]``; of several streams side by side (Gemma 3n), the one that the layers compute."""
    return layer[getattr(decoder.config, "altup_active_idx", 0)] if layer.dim() == 4 else layer


EMPTY_LAYER = "DummyLayer"  # of a layer that reads another one's keys and values, from transformers 5.20 on


@torch.no_grad()
def token_bytes(where: str, model: Any) -> int:
    """Bytes of keys and values that one token takes in all layers.

    Raises:
        PathpruneError: the model has no cache, or caches anything but the keys and values of every token.
    """
    ids = torch.zeros(1, 2, dtype=torch.long, device=_device(model))
    cache = getattr(_computed(where, lambda: model(input_ids=ids, use_cache=True)), "past_key_values", None)
    if not isinstance(cache, Cache) or not hasattr(cache, "layers"):
        raise PathpruneError(
            f"{where} keeps no keys and values of its tokens, so no prefix can be read or resumed; {ADVICE}"
        )
    if other := sorted(
        {type(s).__name__ for s in cache.layers}
        - {DynamicLayer.__name__, DynamicSlidingWindowLayer.__name__, EMPTY_LAYER}
    ):
        raise PathpruneError(f"{where} keeps more than keys and values of its tokens ({other[0]}); {ADVICE}")
    held = [t for layer in cache.layers if layer.is_initialized for t in (layer.keys, layer.values) if t is not None]
    if not held or any(tensor.dim() != 4 or tensor.shape[-2] != ids.shape[1] for tensor in held):
        raise PathpruneError(f"{where} keeps no keys and values of each token in each layer; {ADVICE}")
    return sum(tensor.nbytes for tensor in held) // ids.shape[1]


@torch.no_grad()
def resumable(where: str, model: Any) -> None:
    """Refuse a model whose states over a cached, padded prefix differ from those of a plain forward pass.

    Raises:
        PathpruneError: they differ.
    """
    device = _device(model)
    draw = torch.Generator().manual_seed(0)
    vocabulary = model.config.get_text_config().vocab_size
    sequences = [torch.randint(vocabulary, (n + APPENDED,), generator=draw).to(device) for n in PROMPTS]
    decoder = decoder_of(model)
    plain = _computed(
        where, lambda: [decoder(input_ids=s[None], use_cache=False).last_hidden_state[0] for s in sequences]
    )
    padded = torch.stack(
        [torch.nn.functional.pad(s, (max(PROMPTS) - n, 0)) for s, n in zip(sequences, PROMPTS, strict=True)]
    )
    batch = SequenceBatch(kv.arena_cache(), torch.tensor(PROMPTS))
    _computed(where, lambda: decoder(**batch.inputs(padded[:, :-APPENDED], device)))
    batch.lengths = batch.lengths + APPENDED
    states = _computed(where, lambda: decoder(**batch.inputs(padded[:, -APPENDED:], device)).last_hidden_state)
    expected = torch.stack([rows[-APPENDED:] for rows in plain]).float()
    errors = (states.float() - expected).norm(dim=-1) / expected.norm(dim=-1)
    if not float(errors.max()) < (EXACT if model.dtype == torch.float32 else ROUNDED):
        raise PathpruneError(
            f"{where} computes different states with stored keys and values than without, so its prefixes cannot be resumed; "
            f"{ADVICE}"
        )


@torch.no_grad()
def linear_layers(model: Any) -> tuple[list[str], list[str]]:
    """Names of a causal model's linear layers without its head: those that a LoRA on new tokens can be put on, and the others.

    The others are outside the decoder (a tower that sees), compute something else than a product (a router that returns
    choices), or read the whole prefix again at every token, on which a LoRA of new tokens must not be active.
    """
    head, decoder = model.get_output_embeddings(), decoder_of(model)
    within = {id(module) for module in decoder.modules()}
    linear = {n: m for n, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head}
    seen = [_rows_seen(model, decoder, linear, length) for length in (2, 5)]
    fit = [n for n, module in linear.items() if id(module) in within and seen[0].get(n) == seen[1].get(n) != OTHER]
    return fit, [name for name in linear if name not in fit]


def _rows_seen(model: Any, decoder: Any, linear: Mapping[str, Any], length: int) -> dict[str, int]:
    """How many rows each linear layer computes for one token behind a prefix of this length; OTHER if it gives no product."""
    ids = torch.zeros(1, length, dtype=torch.long)
    seen: dict[str, int] = {}
    batch = SequenceBatch(kv.arena_cache(), torch.tensor([length]))
    decoder(**batch.inputs(ids, _device(model)))
    batch.lengths = batch.lengths + 1

    def note(name: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[torch.Tensor, ...], output: Any) -> None:
            product = isinstance(output, torch.Tensor) and output.shape[:-1] == args[0].shape[:-1]
            seen[name] = seen.get(name, 0) + output.shape[:-1].numel() if product else OTHER

        return hook

    hooks = [module.register_forward_hook(note(name)) for name, module in linear.items()]
    try:
        decoder(**batch.inputs(ids[:, :1], _device(model)))
    finally:
        for hook in hooks:
            hook.remove()
    return seen


def _device(model: Any) -> torch.device:
    device: torch.device = model.get_input_embeddings().weight.device
    return device


def _computed(where: str, forward: Callable[[], Any]) -> Any:
    """What a model's own code computes; what it raises is the model's, and one line."""
    try:
        return forward()
    except Exception as error:
        if memory.ran_out(error):
            raise
        raise PathpruneError(
            f"{where} cannot go on from stored keys and values ({first_line(error)}); {ADVICE}"
        ) from error
