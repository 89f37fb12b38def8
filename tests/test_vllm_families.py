"""Other families and sharded layers: tiny random models, vLLM against transformers, with a LoRA that does something."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import torch

from harness import registry
from harness.api import PathpruneError, Sampling
from tasks.embedded.hands import Hands

pytestmark = pytest.mark.vllm
# vLLM's attention on a CPU wants heads of 32 at least.
SHAPE: dict[str, Any] = {
    "vocab_size": 300, "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 256, "eos_token_id": 2, "pad_token_id": 0,
    "bos_token_id": 1,
}  # fmt: skip


def random_model(family: str, folder: FilePath, tokenizer: Any, **more: Any) -> str:
    """Weights large enough that each layer matters; with biases where the family has them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **(SHAPE | more), initializer_range=0.08)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def random_adapter(engine: Any, folder: FilePath, **options: Any) -> FilePath:
    made = engine.new_adapter(**options)
    with torch.no_grad():
        for name, value in made.branch.named_parameters():
            if "lora_B" in name:  # PEFT starts B at zero, which would make any LoRA pass
                value.normal_(std=0.1, generator=torch.Generator().manual_seed(len(name)))
    made.save(folder)
    return folder


def compare(family: str, options: dict[str, Any], more: dict[str, Any], place: FilePath) -> None:
    """Run in a process of its own: vLLM reads its environment once."""
    two = options.get("tensor_parallel") == 2
    os.environ["VLLM_CPU_OMP_THREADS_BIND"] = "0|1" if two else "auto"  # cores of each worker
    sampling, hands = Sampling(temperature=0.7, top_p=0.9, top_k=40), Hands()
    tokenizer = registry.engine("hf", "hands", sampling, device="cpu").tokenizer
    model = random_model(family, place / "model", tokenizer, **more)
    hf = registry.engine("hf", model, sampling, device="cpu")
    served = registry.engine("vllm", model, sampling, block=32, memory=0.05, **options)
    problems = hands.problems("dev", 2)
    expected = [p for g in hf.launch(problems, 6, 60, 0) for p in g]
    got = [p for g in served.launch(problems, 6, 60, 0) for p in g]
    assert [p.tokens for p in got] == [p.tokens for p in expected]
    for ours, theirs in zip(got, expected, strict=True):
        for column, reference in zip(vars(ours.stats).values(), vars(theirs.stats).values(), strict=True):
            assert np.allclose(column.astype(float), reference.astype(float), atol=2e-2)
    prefixes = [p.cut(25, hf.decode) for p in expected]
    scale = np.abs(hf.probe(prefixes)).max()
    assert np.abs(served.probe(prefixes) - hf.probe(prefixes)).max() < 1e-4 * scale
    kinds: dict[str, dict[str, Any]] = {"lora": {"tokens": 3, "rank": 4, "seed": 9}, "plain": {"tokens": 2, "rank": 0}}
    if family == "qwen3_moe":  # by itself PEFT puts a LoRA on the fused experts, too
        with pytest.raises(
            PathpruneError, match=r"uses target_parameters, .*; train it with targets=q_proj\+k_proj\+v_proj"
        ):
            served.new_adapter(random_adapter(hf, place / "experts", **kinds["lora"]))
        kinds["lora"] |= {"targets": "q_proj+k_proj+v_proj+o_proj"}
    for name, adapter in kinds.items():
        folder = random_adapter(hf, place / name, **adapter)
        states = [e.probe(prefixes, e.new_adapter(folder))[:, -1] for e in (served, hf)]
        assert np.abs(states[0] - states[1]).max() < 1e-4 * scale, name


EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 96, "decoder_sparse_step": 1}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "qwen2": ("qwen2", {}, {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", {}, {}),
    "llama, two workers": ("llama", {"tensor_parallel": 2}, {}),
    "llama, two workers, one head": ("llama", {"tensor_parallel": 2}, {"num_key_value_heads": 1}),  # held by both
    "llama, compiled": ("llama", {"eager": False}, {}),
    "gemma3": ("gemma3_text", {}, {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}),
    "qwen3 with experts": ("qwen3_moe", {}, EXPERTS),
    "gpt-oss": ("gpt_oss", {}, {"num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16}),
}


LONG = (
    "qwen3",
    "llama, compiled",
    "llama, two workers",
    "llama, two workers, one head",
)  # beside their sisters, minutes of CI


@pytest.mark.parametrize("case", [pytest.param(c, marks=[pytest.mark.long] if c in LONG else []) for c in CASES])
def test_paths_states_and_adapters(case: str, tmp_path: FilePath) -> None:
    alone = subprocess.run(
        [sys.executable, "-m", "tests.test_vllm_families", json.dumps([*CASES[case], str(tmp_path)])],
        cwd=FilePath(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert alone.returncode == 0, alone.stderr


if __name__ == "__main__":
    name, opened, shape, place = json.loads(sys.argv[1])
    compare(name, opened, shape, FilePath(place))
