"""Procedural tasks and models that come as a GGUF file: offline, with made-up weights where weights are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import PathpruneError
from harness.testing import task_conformance
from tasks.reasoning_gym import ReasoningGym

SMALL = "reasoning_gym:chain_sum,min_terms=2,max_terms=2"


def test_a_procedural_task_conforms() -> None:
    assert [f for f in task_conformance(registry.task(SMALL)) if f[1]] == []


@settings(max_examples=15, deadline=None)
@given(start=st.integers(0, 500), n=st.integers(1, 80), split=st.sampled_from(["test", "label"]))
def test_problems_do_not_depend_on_which_are_asked_for(start: int, n: int, split: str) -> None:
    task = registry.task(SMALL)
    assert task.problems(split, 1, start + n - 1)[0] == task.problems(split, n, start)[-1]


@pytest.mark.parametrize(
    "dataset", ["chain_sum", "countdown", "gsm_symbolic", "fraction_simplification", "word_sorting"]
)
def test_gold_answers_are_right_and_others_are_not(dataset: str) -> None:
    """By the dataset's own scorer, through a boxed sentence; a neighbour's answer is wrong where it is another."""
    task = registry.task(f"reasoning_gym:{dataset}")
    problems = task.problems("test", 12)
    answers = {p.id: p.answer for p in problems}
    if dataset == "countdown":  # any expression with the right value is right
        answers = {p.id: task._block("test", i)[i]["metadata"]["expression"] for i, p in enumerate(problems)}
    for problem, other in zip(problems, [*problems[1:], problems[0]], strict=True):
        assert task.correct(task.answer(f"So we are done: \\boxed{{{answers[problem.id]}}}."), problem)
        if answers[other.id] != answers[problem.id]:
            assert not task.correct(task.answer(f"\\boxed{{{answers[other.id]}}}"), problem)
        assert task.answer("I give up") is None


def test_numbers_vote_in_canonical_form_and_expressions_as_they_are() -> None:
    task = ReasoningGym("chain_sum")
    assert task.answer("\\boxed{1,000}") == task.answer("The answer is 1000.") == "1000"
    assert ReasoningGym("countdown").answer("\\boxed{(3 + 5) * 2}") == "(3 + 5) * 2"


def test_another_configuration_is_another_version() -> None:
    versions = {ReasoningGym("chain_sum", **c).version for c in ({}, {"seed": 1}, {"min_terms": 3}, {"max_terms": 9})}
    assert len(versions) == 4


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("reasoning_gym:chain_sun", "no dataset 'chain_sun'; did you mean chain_sum"),
        ("reasoning_gym:chain_sum,terms=3", "did you mean min_terms?"),
        ("reasoning_gym:chain_sum,min_terms=9,max_terms=2", "max_terms must be >= min_terms"),
        ("reasoning_gym", "needs a name"),
        ("hands:size=3", "unknown option of hands 'size'"),
        ("hans", "did you mean hands"),
    ],
)
def test_a_wrong_task_is_one_line(spec: str, says: str) -> None:
    with pytest.raises(PathpruneError) as caught:
        registry.task(spec)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_bench_on_a_procedural_task(run_cli: Any, tmp_path: Path) -> None:
    """The whole way, with the toy engine's words instead of a model's: no path has an answer, and the record says so."""
    where = ["--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b"), "--max-tokens", "40", "--prefix", "8"]
    code, out = run_cli("bench", "--task", SMALL, "--engine", "toy", "--model", "toy", "--problems", "3", "--n", "4",
                        "--keep", "2", "--pruner", "jaccard,logprob", *where)  # fmt: skip
    assert code == 0 and "jaccard" in out, out
    code, out = run_cli("bench", "--task", SMALL, "--engine", "toy", "--model", "toy", "--problems", "3", "--n", "4",
                        "--keep", "2", "--pruner", "first", *where)  # fmt: skip
    assert code == 0 and "0 tokens generated" in out


# Models


def test_a_gguf_file_becomes_a_folder_with_the_same_next_tokens(
    tmp_path: Path, hands_engine: Any, run_cli: Any
) -> None:
    """A tiny Llama written as GGUF in float32 by its own package, converted by the command, against the weights."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    model = LlamaForCausalLM(config).eval()
    write_gguf(gguf, model, tmp_path / "tiny.gguf")
    code, out = run_cli("convert", str(tmp_path / "tiny.gguf"), str(tmp_path / "made"), "--dtype", "float32")
    assert code == 0, out
    made = AutoModelForCausalLM.from_pretrained(tmp_path / "made").eval()
    ids = torch.tensor([[1, 5, 9, 33]])
    with torch.no_grad():
        assert torch.allclose(made(ids).logits, model(ids).logits, atol=1e-4)


def write_gguf(gguf: Any, model: Any, file: Path) -> None:
    """llama.cpp's layout: rotary halves of q and k interleaved."""
    c, state = model.config, {k: v.float().numpy() for k, v in model.state_dict().items()}
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(c.max_position_embeddings)
    writer.add_embedding_length(c.hidden_size)
    writer.add_block_count(c.num_hidden_layers)
    writer.add_feed_forward_length(c.intermediate_size)
    writer.add_head_count(c.num_attention_heads)
    writer.add_head_count_kv(c.num_key_value_heads)
    writer.add_key_length(c.head_dim)
    writer.add_rope_dimension_count(c.head_dim)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(c.rms_norm_eps)
    writer.add_vocab_size(c.vocab_size)
    writer.add_tokenizer_model("llama")
    pieces = ["<unk>", "<s>", "</s>", *(f"▁w{i}" for i in range(c.vocab_size - 3))]
    writer.add_token_list(pieces)
    writer.add_token_scores([0.0] * len(pieces))
    writer.add_token_types([2, 3, 3, *([1] * (len(pieces) - 3))])

    def interleaved(weight: Any, heads: int) -> Any:
        rows, width = weight.shape
        return weight.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)

    names = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    for i in range(c.num_hidden_layers):
        at = f"model.layers.{i}"
        names |= {
            f"{at}.self_attn.q_proj": f"blk.{i}.attn_q", f"{at}.self_attn.k_proj": f"blk.{i}.attn_k",
            f"{at}.self_attn.v_proj": f"blk.{i}.attn_v", f"{at}.self_attn.o_proj": f"blk.{i}.attn_output",
            f"{at}.mlp.gate_proj": f"blk.{i}.ffn_gate", f"{at}.mlp.up_proj": f"blk.{i}.ffn_up",
            f"{at}.mlp.down_proj": f"blk.{i}.ffn_down", f"{at}.input_layernorm": f"blk.{i}.attn_norm",
            f"{at}.post_attention_layernorm": f"blk.{i}.ffn_norm",
        }  # fmt: skip
    for name, theirs in names.items():
        weight = state[f"{name}.weight"]
        if name.endswith("q_proj"):
            weight = interleaved(weight, c.num_attention_heads)
        if name.endswith("k_proj"):
            weight = interleaved(weight, c.num_key_value_heads)
        writer.add_tensor(f"{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["bench", "--model", "some.gguf"], "pathprune convert some.gguf"),
        (["bench", "--model", "smollm"], "did you mean smollm2"),
        (["convert", "nowhere.gguf", "out"], "no file at nowhere.gguf"),
    ],
)
def test_a_wrong_model_is_one_line(args: list[str], says: str, run_cli: Any) -> None:
    code, out = run_cli(*args)
    assert code == 2 and says in out and "Traceback" not in out


def test_a_file_that_is_no_gguf(tmp_path: Path, run_cli: Any) -> None:
    (tmp_path / "x.gguf").write_bytes(b"not a model")
    code, out = run_cli("convert", str(tmp_path / "x.gguf"), str(tmp_path / "out"))
    assert code == 2 and "cannot read" in out and "Traceback" not in out
