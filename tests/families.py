"""Tiny models, randomly initialised, of every family of decoders that the installed transformers brings.

``python -m tests.families [NAME ...]`` tries them all, or those named, and prints what became of each.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

from peft.tuners.lora import ParamWrapper

from harness.engines.hf.adapter import _per_layer

END = 256  # behind the bytes
VOCABULARY = 272  # with room for what families add to a tokenizer
LONGEST = 512
WINDOW = 8
# Sizes by the names that configurations give them. What a family does not have is left out.
SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "eos_token_id": END, "pad_token_id": 0, "bos_token_id": 0,
    "max_position_embeddings": LONGEST, "n_positions": LONGEST, "n_ctx": LONGEST, "max_seq_len": LONGEST,
    "original_max_position_embeddings": LONGEST, "model_max_length": LONGEST, "context_length": LONGEST,
    # widths
    "hidden_size": 32, "n_embd": 32, "d_model": 32, "emb_dim": 32, "embedding_dim": 32, "embedding_size": 32,
    "word_embed_proj_dim": 32, "input_embedding_size": 16, "output_embedding_size": 32, "attention_hidden_size": 32,
    "intermediate_size": 48, "intermediate_size_mlp": 48, "dense_intermediate_size": 48, "ffn_hidden_size": 48,
    "expert_ffn_hidden_size": 16, "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16,
    "moe_shared_expert_intermediate_size": 16, "shared_intermediate_size": 16, "decoder_ffn_dim": 48,
    "encoder_ffn_dim": 48, "ffn_dim": 48, "dff": 48, "dim_ff": 48, "d_inner": 48, "feed_forward_size": 48,
    "hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": VOCABULARY, "laurel_rank": 8, "lru_width": 32,
    "router_hidden_size": 16, "backbone_hidden_size": 32, "dim_model_base": 32,
    # heads
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4, "attention_heads": 4,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "num_decoder_attention_heads": 4,
    "num_encoder_attention_heads": 4, "num_key_value_heads": 2, "num_kv_heads": 2, "head_dim": 8, "dim_head": 8,
    "d_head": 8, "kv_channels": 8, "rotary_dim": 4, "attention_head_size": 8, "attention_head_dim": 16,
    "q_lora_rank": 16, "kv_lora_rank": 16, "o_lora_rank": 16, "qk_nope_head_dim": 8, "qk_rope_head_dim": 8,
    "v_head_dim": 12, "index_head_dim": 8, "index_n_heads": 2, "index_topk": 8,
    "index_block_size": 4, "index_topk_blocks": 2, "global_head_dim": 16,
    "num_global_key_value_heads": 2, "swa_num_attention_heads": 4, "swa_num_key_value_heads": 2, "swa_head_dim": 8,
    "query_pre_attn_scalar": 8, "num_query_groups": 2, "o_groups": 2, "d_rel": 8, "rel_extent": 16,
    # layers
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2, "encoder_layers": 2,
    "num_decoder_layers": 2, "num_encoder_layers": 2, "num_blocks": 2,
    "num_nextn_predict_layers": 0, "first_k_dense_replace": 1,
    # experts
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "moe_num_experts": 4, "num_experts_per_tok": 2,
    "num_experts_per_token": 2, "moe_k": 2, "moe_topk": 2, "n_group": 1, "topk_group": 1, "zero_expert_num": 1,
    "moe_layer_end_index": 1, "moe_layer_start_index": 0,
    # windows
    "sliding_window": WINDOW, "sliding_window_size": WINDOW, "window_size": WINDOW, "local_attention": WINDOW,
    "attention_chunk_size": 16, "attention_window_size": WINDOW, "keep_window_size": WINDOW, "floor_scale": LONGEST,
    # layers without attention
    "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_num_heads": 4, "mamba_head_dim": 16,
    "mamba_headdim": 16, "n_mamba_heads": 2, "mamba_d_ssm": 64, "mamba_dt_rank": 4, "mamba_n_groups": 1,
    "state_size": 8, "ssm_state_size": 8, "time_step_rank": 4, "n_groups": 1, "linear_num_key_heads": 2,
    "linear_num_value_heads": 2, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_head_dim": 8,
    "linear_num_heads": 2, "adapter_rank": 4, "chunk_size": 16, "mamba_chunk_size": 16,
    "attn_logit_softcapping": 2.0,
    # text that is not asked for
    "depth": 1, "encoder_hash_byte_group_vocab": 64, "centroid_intermediate_top_k": 2, "num_centroids": 8,
    "ngram_vocab_size_base": 64, "split_ngram_parts": 2, "ple_embed_dim": 16, "hc_lowrank": 8, "audio_vocab_size": 32,
}  # fmt: skip
# What these have to have beside it.
SHARED = {"num_hidden_layers": 4, "num_kv_shared_layers": 2, "layer_types": ["sliding_attention", "full_attention"] * 2}
GEMMA4 = {"global_head_dim": 16, "num_global_key_value_heads": 2}
QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 2,
}
SPECIAL: dict[str, dict[str, Any]] = {
    "gemma3n_text": SHARED | {"activation_sparsity_pattern": [0.0] * 4},
    "gemma4_text": GEMMA4,
    "gemma4_unified_text": GEMMA4,
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mamba2": {"hidden_size": 32, "num_heads": 4, "head_dim": 16, "expand": 2},
    "zaya": {"num_experts_per_tok": 1},
    "reformer": {"is_decoder": True, "axial_pos_shape": [16, 32], "axial_pos_embds_dim": [16, 16], "num_hidden_layers": 2, "attn_layers": ["local", "lsh"]},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 4},
    "zamba2": {"layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"], "num_hidden_layers": 4},
    "qwen4_exp_text": QWEN4,
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8}, "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2}},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}}},
    "roc_bert": {"pronunciation_embed_dim": 16, "shape_embed_dim": 16, "pronunciation_vocab_size": 16, "shape_vocab_size": 16},
}  # fmt: skip
# Kernels of the reference other than the plainest: eager attention of Falcon adds ALiBi twice.
KERNELS = {"falcon:alibi": "sdpa"}
# Families that a size makes two of.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen2:window": ("qwen2", {"use_sliding_window": True, "max_window_layers": 1}),
    "qwen3:window": ("qwen3", {"use_sliding_window": True, "max_window_layers": 1}),
    "falcon:alibi": ("falcon", {"alibi": True}),
    "llama:dynamic": ("llama", {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}}),
    "phi3:longrope": ("phi3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "original_max_position_embeddings": 64}, "original_max_position_embeddings": 64, "sliding_window": None}),
    "gemma4_text:shared": ("gemma4_text", SHARED),
    "gemma4_text:moe": ("gemma4_text", {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2, "moe_intermediate_size": 16}),
    "gemma4_text:k=v": ("gemma4_text", {"attention_k_eq_v": True}),
    "minimax_m3_vl_text:sparse": ("minimax_m3_vl_text", {"layer_types": ["full_attention", "minimax_m3_sparse"]}),
    "deepseek_v2:plain": ("deepseek_v2", {"q_lora_rank": None}),
}  # fmt: skip


@cache
def names() -> list[str]:
    """Every model type that AutoModelForCausalLM knows, and the variants."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return sorted([*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, *VARIANTS])


def tiny_config(name: str, **changes: Any) -> Any:
    """A configuration of a family, made small."""
    from transformers import CONFIG_MAPPING

    kind, special = VARIANTS.get(name, (name, {}))
    made = CONFIG_MAPPING[kind]
    plain = made()
    text = plain.get_text_config()
    sizes = _sizes(text) | SPECIAL.get(text.model_type, {}) | special | changes
    if text is plain:
        return made(**(_parts(plain) | sizes))
    part = next(k for k in plain.sub_configs if getattr(plain, k) is text)
    ends = {"eos_token_id": END, "pad_token_id": 0, "bos_token_id": 0}
    return made(**(_parts(plain) | {part: sizes} | ends))


def _parts(plain: Any) -> dict[str, Any]:
    """The other parts of a model, such as one that sees, made small."""
    parts = {k: getattr(plain, k, None) for k in plain.sub_configs}
    return {k: _sizes(part) | SPECIAL.get(part.model_type, {}) for k, part in parts.items() if part is not None}


def _sizes(plain: Any) -> dict[str, Any]:
    known = {*plain.to_dict(), *plain.attribute_map}
    sizes = {k: v for k, v in SIZES.items() if k in known}
    if "kv_lora_rank" in sizes and "num_key_value_heads" in sizes:
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]  # every head has keys of its own
    kinds = getattr(plain, "layer_types", None)
    if kinds:
        sizes["num_hidden_layers"] = max(2, *(kinds.index(kind) + 1 for kind in set(kinds)))
    return sizes


def tokenizer() -> Any:
    """One of bytes, whose last id ends a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    bytewise = Tokenizer(models.BPE(vocab=vocabulary | {"<eos>": END}, merges=[]))
    bytewise.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytewise.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=bytewise, eos_token="<eos>")


def build(name: str, folder: Path, **changes: Any) -> Path:
    """Write a tiny model of a family, whose attention and experts weigh as much as in a trained one."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(tiny_config(name, **changes))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(std=weight.shape[-1] ** -0.5)
            elif not weight.any():
                weight.normal_(std=0.1)
    model.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return folder


def opened(folder: Path, **options: Any) -> Any:
    """The engine over a model, with its weights loaded."""
    from harness import registry
    from harness.api import Sampling

    engine = registry.engine("hf", str(folder), Sampling(temperature=1.5), device="cpu", **options)
    return engine._loaded()


PROBLEMS = ("a", "What is one and one?")  # prompts of unlike length
TOLERANCE = 1e-4


class Findings:
    """What a family does, property by property; each returns an error, which is 0 where it holds."""

    def __init__(self, engine: Any, kernel: str = "eager") -> None:
        from harness.api import Problem

        self.engine, self.kernel = engine, kernel
        self.problems = [Problem(f"p{i}", prompt, "") for i, prompt in enumerate(PROBLEMS)]
        self.whole = [p for g in engine.launch(self.problems, 2, 14, seed=1) for p in g]
        self.prefixes = [p.cut(length, engine.decode) for p in self.whole for length in (9, 13)]
        self.adapter = engine.new_adapter(tokens=3, rank=4, seed=9)
        import torch

        with torch.no_grad():
            for name, weight in self.adapter.branch.named_parameters():
                if "lora_B" in name:  # zero at first, which would make any LoRA pass
                    weight.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))

    def resumed(self) -> float:
        """Interrupted, and gone on from stored KV and without it, against uninterrupted."""
        wrong = 0
        for cold in (False, True):
            launched = [p for g in self.engine.launch(self.problems, 2, 9, seed=1) for p in g]
            if cold:
                self.engine.store.clear()
            again = self.engine.resume(launched, 14)
            wrong += sum(a.tokens != b.tokens for a, b in zip(again, self.whole, strict=True))
        return float(wrong)

    def alone(self) -> float:
        """Prefixes of unlike lengths in one batch, against each alone and cold; from stored KV, too."""
        self.engine.store.clear()
        cold = self.engine.probe(self.prefixes)
        warm = self.engine.probe(self.prefixes)
        each = []
        for path in self.prefixes:
            self.engine.store.clear()
            each.append(self.engine.probe([path])[0])
        return max(gap(cold, each), gap(warm, each))

    def unchanged(self) -> float:
        """Probing with an adapter leaves the stored KV bit-identical."""
        self.engine.probe(self.prefixes)
        before = [self.bytes(p) for p in self.prefixes]
        self.engine.probe(self.prefixes, self.adapter)
        return float(sum(self.bytes(p) != b for p, b in zip(self.prefixes, before, strict=True)))

    def bytes(self, path: Any) -> list[bytes]:
        block, row = self.engine.store.get((path.problem.prompt, path.tokens))
        return [t[row].numpy().tobytes() for t in block.tensors]

    def plain(self) -> float:
        """The state at the last token, against transformers' forward pass over the whole sequence, with its plainest kernel."""
        import torch
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(self.engine.where, attn_implementation=self.kernel).eval()
        with torch.no_grad():
            each = [
                _decoder(model)(torch.tensor([self.engine.sequence(p)]), use_cache=False).last_hidden_state[0, -1:]
                for p in self.prefixes
            ]
        return gap(self.engine.probe(self.prefixes), each)

    def traced(self) -> float:
        """The last row of a trace is what a probe reads."""
        last = self.engine.trace(self.prefixes, lambda states, path: states[-1, -1:])
        return gap(self.engine.probe(self.prefixes), last)

    def extended(self) -> float:
        """Tokens behind stored prefixes, of unlike numbers in one batch, against each alone and cold: forced answers."""
        from dataclasses import replace

        launched = [p for g in self.engine.launch(self.problems, 2, 9, seed=1) for p in g]
        longer = [replace(p, tokens=p.tokens + p.tokens[:k]) for p, k in zip(launched, (3, 7, 1, 5), strict=True)]
        return self.gone_on(longer)

    def shared(self) -> float:
        """Prompts over what they begin with in common, of which one more goes further together, against each alone and cold."""
        from harness.api import Path, Problem

        ends = ("1?", "one and twenty-two and then 3?", "one and twenty-two and then some?", "three?")
        problems = [Problem(e, f"What is the sum of two and {e}", "") for e in ends]
        assert len(self.engine.share(problems).new) == 2
        return self.gone_on([Path(p, 0, 0) for p in problems])

    def gone_on(self, paths: list[Any]) -> float:
        warm, cold = self.engine.probe(paths), []
        for path in paths:
            self.engine.store.clear()
            cold.append(self.engine.probe([path])[0])
        return gap(warm, cold)

    def adapted(self) -> float:
        """[STOP] states, against transformers' forward pass over everything with the LoRA active on the last tokens only."""
        each = [dense(self.engine, self.adapter, p) for p in self.prefixes]
        return gap(self.engine.probe(self.prefixes, self.adapter), each)

    def read(self) -> float:
        """What training reads is what a Check reads, two prompts and two L in one batch."""
        import torch

        read = self.engine.reader(self.prefixes, self.adapter)
        with torch.no_grad():
            states = read(torch.arange(len(self.prefixes)))
        return gap(states, self.engine.probe(self.prefixes, self.adapter))

    def stored(self) -> float:
        """An adapter that was saved and loaded reads the same."""
        import tempfile

        with tempfile.TemporaryDirectory() as folder:
            self.adapter.save(Path(folder))
            again = self.engine.new_adapter(Path(folder))
        return gap(self.engine.probe(self.prefixes, again), self.engine.probe(self.prefixes, self.adapter))

    def all(self) -> dict[str, float]:
        return {
            f.__name__: f()
            for f in (
                self.resumed,
                self.alone,
                self.unchanged,
                self.plain,
                self.traced,
                self.extended,
                self.shared,
                self.adapted,
                self.read,
                self.stored,
            )
        }


def _decoder(model: Any) -> Any:
    from harness.engines.hf.support import decoder_of

    return decoder_of(model)


def gap(states: Any, expected: Any) -> float:
    """The largest difference of a row, relative to the row's norm."""
    import torch

    a, b = (torch.stack([torch.as_tensor(x) for x in v]).double().flatten(1) for v in (states, expected))
    return float(((a - b).norm(dim=1) / b.norm(dim=1)).max())


def dense(engine: Any, adapter: Any, path: Any) -> Any:
    """States at the appended tokens, as transformers computes them without anything of ours.

    One forward pass without a cache, in which every LoRA is silent before the appended tokens. Where none can be (on fused
    experts, with inputs by token id in every layer): the prefix without a LoRA, then the appended tokens over its cache.
    """
    import torch
    from transformers import DynamicCache

    ids = torch.tensor([engine.sequence(path)])
    extra = _per_layer(adapter.decoder, 1, adapter.tokens)
    with torch.no_grad():
        if extra or any(isinstance(m, ParamWrapper) for m in adapter.branch.modules()):
            cache = DynamicCache(config=engine.model.config)
            engine.decoder(ids, past_key_values=cache, use_cache=True)
            appended = adapter.embeddings[None].clone()
            return adapter.decoder(
                inputs_embeds=appended, past_key_values=cache, use_cache=True, **extra
            ).last_hidden_state[0]
        with _silent_before(adapter.branch, ids.shape[1], ids.shape[1] + adapter.tokens):
            embedded = torch.cat([engine.model.get_input_embeddings()(ids), adapter.embeddings[None]], 1)
            return adapter.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state[0, ids.shape[1] :]


@contextmanager
def _silent_before(branch: Any, start: int, length: int) -> Iterator[None]:
    import torch

    behind = (torch.arange(length) >= start).unsqueeze(-1)

    def silenced(module: Any, args: Any, output: Any) -> Any:
        assert output.shape[-2] == length, (output.shape, length)
        return output * behind

    hooks = [m.register_forward_hook(silenced) for n, m in branch.named_modules() if n.endswith("lora_B.default")]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def verdict(name: str, folder: Path) -> tuple[str, str]:
    """What becomes of a family: "right", "wrong", "refused", "traceback" or "not built", and why."""
    from harness.api import PathpruneError

    try:
        build(name, folder)
    except Exception as error:
        return "not built", f"{type(error).__name__}: {error}".splitlines()[0]
    try:
        engine = opened(folder)
    except PathpruneError as error:
        return "refused", str(error)
    except Exception as error:
        return "traceback", f"opening: {_where(error)}"
    try:
        found = Findings(engine, KERNELS.get(name, "eager")).all()
    except Exception as error:
        return "traceback", _where(error)
    wrong = {k: v for k, v in found.items() if not v <= TOLERANCE}
    return (
        ("wrong", ", ".join(f"{k} {v:.2g}" for k, v in wrong.items()))
        if wrong
        else ("right", f"{max(found.values()):.1e}")
    )


def _where(error: BaseException) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "/harness/" in f.filename or "/tests/" in f.filename]
    return f"{type(error).__name__}: {str(error).strip()[:120]!r} ({' < '.join(f'{Path(f.filename).name}:{f.lineno}' for f in reversed(ours[-3:]))}; {Path(frames[-1].filename).name}:{frames[-1].lineno})"


def main(chosen: list[str]) -> None:
    """Try families and print a line for each, then how many came out how."""
    import tempfile
    import warnings
    from collections import Counter

    from transformers.utils import logging

    warnings.simplefilter("ignore")
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    outcomes: Counter[str] = Counter()
    for name in chosen or names():
        with tempfile.TemporaryDirectory() as folder:
            outcome, why = verdict(name, Path(folder))
        outcomes[outcome] += 1
        print(f"{name:28}{outcome:12}{why.replace(folder, name)}", flush=True)
    print(f"{outcomes.total()} tried: " + ", ".join(f"{n} {outcome}" for outcome, n in outcomes.most_common()))


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
