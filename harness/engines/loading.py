"""Weights, tokenizer, parameter count and FLOPs of a transformers model."""

from __future__ import annotations

import errno
import re
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, dynamic_module_utils
from transformers.cache_utils import (
    DYNAMIC_LAYER_TYPE_MAPPING,
    DynamicLayer,
    DynamicSlidingWindowLayer,
    get_layer_types_and_kwargs,
)
from transformers.utils import logging

from harness.api import FlopModel, PathpruneError, UnavailableError
from harness.engines import memory
from harness.engines.identity import first_line, unreachable
from harness.store.files import refused

OWN = {"trust_remote_code": False}  # a model's own Python code is never run
# Tensors without effect: frequencies and masks that are recomputed, scales of a quantised cache.
HARMLESS = re.compile(
    r"rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$|\.attention\.bias$|position_ids$|\.[kv]_scale$"
)
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
# Configuration names of the context length, the experts and the experts per token, in order of precedence.
CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "context_length", "model_max_length")
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
CHOSEN = ("num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k")
UNBOUNDED = 1 << 30  # context length in tokens of a model that states none
BY_LENGTH = (
    "longrope",
    "dynamic",
)  # rotary embeddings that beyond a length depend on the longest sequence in the batch
CAPPED = re.compile(r"attn_.*soft_?cap|attention_.*soft_?cap")
FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)  # some loaders write temporary files
NUMBERED = re.compile(r"^(.*?)\.\d+\.")  # a tensor of a numbered layer

# Keeps libraries from waiting at the terminal for permission to run a model's Python code.
dynamic_module_utils.TIME_OUT_REMOTE_CODE = 0


def load(
    where: str, revision: str | None, dtype: str, device: str, attention: str | None, device_map: str | None = None
) -> tuple[Any, Any]:  # fmt: skip
    """Load a model, frozen and in evaluation mode, and its tokenizer.

    Args:
        where: folder or hub id.
        revision: commit of a hub id.
        dtype: precision of the weights, as torch names it.
        device: as torch names it.
        attention: transformers' name of an attention implementation; None for its default.
        device_map: accelerate's device map for several devices; ``device`` is then unused.

    Raises:
        UnavailableError: the model cannot be loaded.
        PathpruneError: the weights are damaged or do not match the configuration, the model is not a causal decoder, or the
            device cannot be used.
    """
    options: dict[str, Any] = {"revision": revision} if revision else {}
    usable(device)
    with refusing(where):
        tokenizer = AutoTokenizer.from_pretrained(where, **OWN, **options)
        config = AutoConfig.from_pretrained(where, **OWN, **options)
    attention_only(where, config)
    decoder(where, config, tokenizer)
    kernel = kernel_of(where, config, attention)
    with refusing(where), _attention(attention):
        placed = {"attn_implementation": kernel, "device_map": device_map}
        model, info = AutoModelForCausalLM.from_pretrained(
            where,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # mismatches are refused below, by name
            **OWN,
            **options,
            **{name: value for name, value in placed.items() if value},
        )
    complete(where, info, model.state_dict().keys())
    model = model.eval().requires_grad_(False) if device_map else loaded_to(model, device)
    causal(where, model)
    return model, tokenizer


def skeleton(where: str, revision: str | None) -> tuple[Any, Any]:
    """A model without weights, and its tokenizer, for a model that runs elsewhere.

    Raises:
        UnavailableError: the configuration or the tokenizer cannot be loaded.
        PathpruneError: the model is not a decoder.
    """
    options: dict[str, Any] = {"revision": revision} if revision else {}
    with refusing(where):
        tokenizer = AutoTokenizer.from_pretrained(where, **OWN, **options)
        config = AutoConfig.from_pretrained(where, **OWN, **options)
    decoder(where, config, tokenizer)
    with refusing(where):
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, **OWN)
        with suppress(OSError):  # a model folder need not have one
            model.generation_config = GenerationConfig.from_pretrained(where, **options)
    return model, tokenizer


@contextmanager
def refusing(where: str) -> Iterator[None]:
    """Turn any error of a library while it reads a model into one line about the model, and suppress the library's warnings.

    Use it only around calls that read a model, so that our own bugs keep their traceback.
    """
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PathpruneError:
        raise
    except Exception as error:
        if memory.ran_out(error):
            raise memory.refused(f"model {where} does not fit the memory") from error
        if type(error).__name__ == "SafetensorError":  # safetensors' own class does not derive from ValueError
            raise PathpruneError(
                f"the weights in {where} are damaged ({first_line(error)}); fetch or build them again"
            ) from error
        if isinstance(error, OSError) and error.errno in FULL:
            raise refused(Path(tempfile.gettempdir()), error) from error
        if isinstance(error, ImportError):
            raise UnavailableError(
                f"cannot load model {where} ({first_line(error)}); install what it needs, or give a model without it"
            ) from error
        raise unreachable(where, error) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def usable(device: str) -> None:
    """Refuse an unavailable device before anything is read.

    Raises:
        PathpruneError: the device cannot be used; the message names the option.
    """
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # torch's own classes for a missing device
        raise PathpruneError(
            f"device {device!r} cannot be used ({first_line(error)}); choose another with device="
        ) from error


@contextmanager
def _attention(attention: str | None) -> Iterator[None]:
    """Turn the error for an unknown attention implementation, or for its missing package, into one that names the option."""
    try:
        yield
    except (ImportError, ValueError) as error:
        if attention in (None, "sdpa", "eager"):
            raise
        reason = first_line(error)
        raise UnavailableError(
            f"cannot load model with attention={attention} ({reason}); leave it out, or give sdpa or eager"
        ) from error


def complete(where: str, info: Mapping[str, Any], expected: Collection[str]) -> None:
    """Refuse a model if a tensor is missing, has another shape, or would be dropped.

    Args:
        where: folder or hub id, for the error.
        info: the result of transformers' ``output_loading_info``.
        expected: names of the model's own tensors.

    Raises:
        PathpruneError: names the first such tensor.
    """
    if missing := sorted(info["missing_keys"]):
        raise PathpruneError(
            f"model {where} lacks the tensor {_and_others(missing)}, which would be random; fetch or build its weights again"
        )
    if mismatched := sorted(info["mismatched_keys"]):
        name, held, needed = mismatched[0]
        raise PathpruneError(
            f"model {where}: tensor {name} has shape {tuple(held)} and config.json asks for {tuple(needed)}; restore the "
            "configuration that belongs to these weights"
        )
    stacks = {found[1] for name in expected if (found := NUMBERED.match(name))}
    unused = [n for n in info["unexpected_keys"] if not HARMLESS.search(n)]
    dropped = sorted(n for n in unused if (found := NUMBERED.match(n)) and found[1] in stacks)
    if dropped:
        raise PathpruneError(
            f"model {where} has the tensor {_and_others(dropped)}, which its configuration would drop; restore the "
            "configuration that belongs to these weights"
        )


KEEPS_NOTHING = "dummy"  # a layer that shares the keys and values of another one, from transformers 5.20 on


def attention_only(where: str, config: Any) -> None:
    """Refuse a model with a layer that caches anything but the keys and values of every token.

    Its prefixes could not be cut and resumed: a recurrent state represents a whole prefix, not its shorter prefixes.

    Raises:
        PathpruneError: names the kinds of layers.
    """
    text = config.get_text_config(decoder=True)
    if not getattr(text, "num_hidden_layers", None):
        return  # not a decoder, which is refused elsewhere
    with refusing(where):
        kinds = set(get_layer_types_and_kwargs(text)[0])
    whole = {k for k, v in DYNAMIC_LAYER_TYPE_MAPPING.items() if v in (DynamicLayer, DynamicSlidingWindowLayer)}
    if other := sorted(kinds - whole - {KEEPS_NOTHING}):
        raise PathpruneError(
            f"{where} ({config.model_type}) has layers of the kind {' and '.join(other)}, which keep more than keys and values "
            "of each token: its prefixes cannot be cut and resumed; give a decoder of attention layers alone, such as Llama or Qwen3"
        )


def kernel_of(where: str, config: Any, attention: str | None) -> str | None:
    """The attention implementation to use: torch's kernel ignores a cap on attention scores.

    Raises:
        PathpruneError: that kernel is requested for a model with a cap.
    """
    fields = config.get_text_config().to_dict()
    capped = [name for name, value in fields.items() if CAPPED.match(name) and isinstance(value, int | float) and value]
    if capped and attention == "sdpa":
        raise PathpruneError(
            f"attention=sdpa would compute {where} without its {capped[0]}; leave attention out, or give eager"
        )
    return "eager" if capped and attention is None else attention


def context(config: Any) -> int:
    """The context length of a text model in tokens, from its configuration."""
    named = (getattr(config, name, None) for name in CONTEXT)
    return next((n for n in named if isinstance(n, int) and n > 0), UNBOUNDED)


def even_context(config: Any) -> tuple[int, str]:
    """(number of tokens up to which states depend only on the path, reason for the limit or "" if it is the whole context).

    Beyond it, states would depend on the rest of the batch and on where the path was cut.
    """
    longest = context(config)
    rotary = getattr(config, "rope_parameters", None) or {}
    nested = [part for part in rotary.values() if isinstance(part, Mapping)]
    for part in nested or [rotary]:
        if (kind := part.get("rope_type")) in BY_LENGTH:
            original = part.get("original_max_position_embeddings")
            original = original or getattr(config, "original_max_position_embeddings", None) or longest
            if original < longest:
                return original, f"before its {kind} changes with the longest path of a batch"
    if getattr(config, "attn_temperature_tuning", False) and config.floor_scale <= longest:  # Llama 4
        return config.floor_scale - 1, "before its attention depends on padding"
    return longest, ""


def decoder(where: str, config: Any, tokenizer: Any) -> None:
    """Refuse a model that is not a causal decoder, or whose tokenizer belongs to another model.

    Raises:
        PathpruneError: states what the model is instead.
    """
    if getattr(config, "is_encoder_decoder", False):
        raise PathpruneError(f"{where} is an encoder-decoder model ({config.model_type}); give a causal decoder")
    text = config.get_text_config()
    if absent := [name for name in NEEDED if not getattr(text, name, None)]:
        raise PathpruneError(
            f"{where} is not a transformer decoder: its configuration ({config.model_type}) has no {absent[0]}; give one that is"
        )
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= text.vocab_size:
        raise PathpruneError(
            f"{where}: its tokenizer has ids up to {largest} and its model a vocabulary of {text.vocab_size}; fetch tokenizer and "
            "configuration of one model"
        )


@torch.no_grad()
def causal(where: str, model: Any) -> None:
    """Refuse a model whose tokens attend to later ones: an encoder under the name of a causal model.

    Raises:
        PathpruneError: the model is not causal, or computes non-finite values.
    """
    ids = torch.tensor([[0, 0, 0], [0, 1, 1]], device=model.get_input_embeddings().weight.device)
    with refusing(where):
        first = model(input_ids=ids).logits[:, 0].float()
    if not torch.isfinite(first).all():
        raise PathpruneError(f"model {where} computes values that are not finite; fetch or build its weights again")
    rounding = max(1e-4, 4 * torch.finfo(model.dtype).eps)
    if float((first[0] - first[1]).abs().max()) > rounding * (float(first.std()) or 1.0):
        raise PathpruneError(
            f"{where} is not a causal decoder: its tokens attend to later ones; give a model that generates text"
        )


def loaded_to(model: Any, device: str) -> Any:
    """Move a model to its device, frozen and in evaluation mode.

    Raises:
        PathpruneError: the device cannot be used.
    """
    try:
        return model.to(device).eval().requires_grad_(False)
    except (RuntimeError, AssertionError) as error:  # torch's own classes for a missing device
        if memory.ran_out(error):
            raise memory.refused(f"the model does not fit the memory of {device}") from error
        raise PathpruneError(
            f"device {device!r} cannot be used ({first_line(error)}); choose another with device="
        ) from error


def _and_others(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} others"


def active_parameters(model: Any) -> int:
    """Active parameters per token: without the input embeddings, and with experts scaled by the share in use."""
    config = model.config.get_text_config()
    share = expert_share(config)
    total = sum(int(p.numel() * (share if ".experts." in name else 1)) for name, p in model.named_parameters())
    if not config.tie_word_embeddings:
        total -= model.get_input_embeddings().weight.numel()
    return total


def expert_share(config: Any) -> float:
    """The share of a text model's experts that are active per token; 1 without experts."""
    experts, chosen = (
        next((n for name in names if isinstance(n := getattr(config, name, None), int)), 0)
        for names in (EXPERTS, CHOSEN)
    )
    return (chosen or experts) / experts if experts else 1.0


def head_widths(config: Any) -> int:
    """Sum of the key and value widths of an attention head, from the configuration of a text model or a layer."""
    plain = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(getattr(config, "qk_head_dim", None) or plain) + int(getattr(config, "v_head_dim", None) or plain)


def flop_model(model: Any) -> FlopModel:
    """The FLOPs of a forward pass, from shapes only; the model needs no weights."""
    layers = model.config.get_text_config().per_layer_config
    width = sum(layer.num_attention_heads * head_widths(layer) for layer in layers)
    return FlopModel(2.0 * active_parameters(model), 2.0 * width)
