"""Every family of decoders that transformers brings is right or refused in one line: tiny models, made up, float32.

What right means, property by property, is in ``families.Findings``. All families: ``python -m tests.families``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness import registry
from harness.api import Path as ApiPath
from harness.api import PathpruneError, Problem, Sampling
from harness.engines import loading
from harness.engines.hf import kv
from harness.studies.attention import read_attention
from tests import families

# One of each kind: full attention, windows, sinks, a cap on scores, ALiBi, keys and values of unlike width, shared ones,
# fused experts, positions learned, a router that is a linear layer.
DOZEN = (
    "llama", "gpt2", "gemma2", "gpt_oss", "bloom", "mpt", "deepseek_v3", "gemma4_text:shared", "mixtral", "phimoe",
    "qwen2:window", "gpt_neo",
)  # fmt: skip
RIGHT = (
    *DOZEN, "afmoe", "apertus", "cohere2", "ctrl", "deepseek_v2", "doge", "ernie4_5", "exaone4", "falcon", "falcon:alibi",
    "gemma3_text", "gemma3n_text", "glm4", "glm4_moe_lite", "gpt_neox", "granite", "granite_swa", "hunyuan_v1_dense", "llama4_text",
    "llama:dynamic", "longcat_flash", "mimo_v2_flash", "minicpm3", "ministral3", "mistral", "nemotron", "olmo2", "olmo3", "opt",
    "phi", "phi3", "phi3:longrope", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2", "vaultgemma",
)  # fmt: skip
REFUSED = {
    "mamba": "layers of the kind linear_attention",
    "deepseek_v32": "layers of the kind indexed_attention",
    "openai-gpt": "keeps no keys and values",
    "bart": "computes different states with stored keys and values",
    "bert": "is not a causal decoder",
}
NOT_MADE = {  # no model at all: they lack a package, a part that sees or hears, or a model that they assist
    "gemma3n", "gemma4_assistant", "gemma4_unified_assistant", "musicgen", "musicgen_melody",
}  # fmt: skip


OFTEN = ("gpt2", "gemma2", "bloom", "qwen2:window", "gpt_oss")


@pytest.mark.parametrize("name", [n if n in OFTEN else pytest.param(n, marks=pytest.mark.long) for n in DOZEN])
def test_a_family_is_right(name: str, tmp_path: Path) -> None:
    outcome, why = families.verdict(name, tmp_path)
    assert outcome == "right", why


@pytest.mark.parametrize("name", REFUSED)
def test_a_family_that_cannot_be_cut_and_resumed_is_refused_when_it_is_opened(name: str, tmp_path: Path) -> None:
    outcome, why = families.verdict(name, tmp_path)
    assert outcome == "refused" and REFUSED[name] in why and "\n" not in why, why


@pytest.mark.slow
@pytest.mark.parametrize("name", families.names())
def test_every_family_is_right_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    outcome, why = families.verdict(name, tmp_path)
    assert outcome == "right" or (name not in RIGHT and outcome == "refused") or name in NOT_MADE, f"{outcome}: {why}"
    assert "\n" not in why


@pytest.mark.parametrize("name", ["gpt2", "opt", "bloom", "gpt_neo", "deepseek_v3", "gemma3_text"])
def test_attention_is_read_whatever_a_family_calls_its_layers(name: str, tmp_path: Path) -> None:
    engine = families.opened(families.build(name, tmp_path))
    adapter = engine.new_adapter(tokens=2, rank=0)
    paths = [
        *engine.launch([Problem("p", "a", "")], 2, 6, seed=0)[0],
        *engine.launch([Problem("q", "abc", "")], 1, 9, seed=0)[0],
    ]
    mass = read_attention(engine, paths, adapter)
    assert mass.prompt.shape[1] == engine.model.config.num_hidden_layers
    assert np.allclose(mass.prompt + mass.prefix.sum(-1) + mass.appended.sum(-1), 1, atol=1e-5)
    assert np.allclose(mass.states, engine.probe(paths, adapter), atol=1e-4)


def test_attention_that_a_family_does_not_give_is_one_line(tmp_path: Path) -> None:
    engine = families.opened(families.build("falcon", tmp_path))
    prefixes = engine.launch([Problem("p", "a", "")], 2, 6, seed=0)[0]
    with pytest.raises(PathpruneError, match="FalconModel does not return the attention weights of every layer"):
        read_attention(engine, prefixes, engine.new_adapter(tokens=2, rank=0))


@pytest.fixture(scope="module")
def longrope(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return families.opened(families.build("phi3:longrope", tmp_path_factory.mktemp("longrope")))


def test_a_rotary_embedding_that_depends_on_the_batch_is_used_where_it_does_not(longrope: Any) -> None:
    """Beyond its original length, one long path would change the frequencies of all that are computed beside it."""
    assert longrope.context == 64 < longrope.model.config.max_position_embeddings
    with pytest.raises(PathpruneError, match="need 101 positions, the model has 64 before its longrope changes"):
        longrope.launch([Problem("p", "a", "")], 1, 100, seed=0)


def test_llama_4_is_read_up_to_where_its_attention_counts_columns() -> None:
    config = families.tiny_config("llama4_text", floor_scale=100, attn_temperature_tuning=True)
    assert loading.even_context(config) == (99, "before its attention depends on padding")


def test_scores_are_capped_whatever_is_asked_for(tmp_path: Path) -> None:
    """torch's own kernel would leave the cap out without a word."""
    families.build("gemma2", tmp_path)
    assert families.opened(tmp_path).model.config._attn_implementation == "eager"
    with pytest.raises(PathpruneError, match="without its attn_logit_softcapping; leave attention out, or give eager"):
        families.opened(tmp_path, attention="sdpa")


def test_a_lora_on_fused_experts_is_asked_for(tmp_path: Path) -> None:
    """gpt-oss: attention alone by default, with ``experts`` its experts too; both are read back as they were saved."""
    engine = families.opened(families.build("gpt_oss", tmp_path / "model"))
    plain = engine.new_adapter(tokens=2, rank=4)
    experts = ["experts.down_proj", "experts.gate_up_proj"]
    assert plain.reach["on"] == ["k_proj", "o_proj", "q_proj", "v_proj"] and plain.reach["not_on"] == experts
    adapter = engine.new_adapter(tokens=2, rank=4, experts=True)
    assert adapter.reach["not_on"] == [] and set(adapter.reach["on"]) > set(experts)
    assert adapter.low_rank_parameters > plain.low_rank_parameters
    prefixes = engine.launch([Problem("p", "a", "")], 2, 6, seed=0)[0]
    before = engine.probe(prefixes, plain)
    with torch.no_grad():
        for name, weight in adapter.branch.named_parameters():
            if "lora_B" in name and "experts" in name:
                weight.normal_(std=0.5)
    read = engine.probe(prefixes, adapter)
    assert np.abs(read - engine.probe(prefixes, engine.new_adapter(tokens=2, rank=4))).max() > 1e-2
    adapter.save(tmp_path / "adapter")
    assert np.allclose(engine.probe(prefixes, engine.new_adapter(tmp_path / "adapter")), read, atol=1e-5)
    assert np.array_equal(engine.probe(prefixes, plain), before)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("llama", {"experts": True}, "has no fused experts"),
        ("gpt_oss", {"experts": True, "dropout": 0.1}, "does not work with lora_dropout"),
    ],
)
def test_a_lora_that_cannot_be_made_is_one_line(name: str, options: dict[str, Any], says: str, tmp_path: Path) -> None:
    engine = families.opened(families.build(name, tmp_path))
    with pytest.raises(PathpruneError, match=says):
        engine.new_adapter(rank=4, **options)


def test_half_as_many_bytes_are_as_many_again_in_rows(tmp_path: Path) -> None:
    """What a token's KV takes is measured, in the model's own precision, as the store and the reader count it."""
    folder = families.build("llama", tmp_path)
    whole = families.opened(folder)
    half = registry.engine("hf", str(folder), Sampling(), device="cpu", dtype="bfloat16")
    assert half.token_bytes == whole.token_bytes / 2
    prefixes = half.launch([Problem("p", "a", "")], 2, 6, seed=0)[0]
    read = half.reader(prefixes, half.new_adapter(tokens=2, rank=0))
    assert {t.dtype for t in read.held.tensors} == {torch.bfloat16}
    assert read.held.bytes == half.token_bytes * len(read.longest) * 7


def test_an_arena_grows_no_further_than_it_will_be_filled() -> None:
    """Twice the rows and half again the columns are allocated ahead, but not beyond what a decode can come to."""
    layer = kv.arena_cache(room=(5, 200)).layer_class_to_replicate()
    layer.update(*[torch.zeros(4, 1, 150, 2)] * 2)
    layer.clone(torch.tensor([0]))
    assert layer.keys.shape[0] == 5
    layer.update(*[torch.zeros(5, 1, 40, 2)] * 2)
    assert layer.keys.shape[2] == 200
    layer.update(*[torch.zeros(5, 1, 30, 2)] * 2)  # more than was said is still held
    assert layer.get_seq_length() == 220


def test_paths_that_are_resumed_from_nothing_leave_no_kv_behind(tmp_path: Path) -> None:
    """As labels sample whole paths: what ended will never be resumed."""
    engine = families.opened(families.build("llama", tmp_path))
    problem = Problem("p", "a", "")
    launched = engine.launch([problem], 3, 12, seed=0)[0]
    assert engine.store.bytes > 0
    engine.store.clear()
    resumed = engine.resume([ApiPath(problem, i, 0) for i in range(3)], 12)
    assert engine.store.bytes == 0 and [p.tokens for p in resumed] == [p.tokens for p in launched]
