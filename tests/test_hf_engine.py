"""The Hugging Face engine on the embedded model, fp32: interruption, batching and probing change nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import registry
from harness.api import Check, Path, PathpruneError, Sampling
from harness.engines import pending as waiting
from harness.engines.hf import attention, kv
from harness.ledger import MeteredProbe
from harness.testing import engine_conformance
from tasks.embedded.hands import Hands

LIMIT = 120  # most paths end before it, and some do not


@pytest.fixture(scope="module")
def whole(hands: Hands, hands_engine: Any) -> list[list[Path]]:
    return hands_engine.launch(hands.problems("dev", 3), 6, LIMIT, seed=5)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(1, LIMIT), rows=st.sets(st.integers(0, 17), min_size=1), cold=st.booleans())
def test_launch_and_resume_are_one_sample(
    cut: int, rows: set[int], cold: bool, hands_engine: Any, whole: list[list[Path]], hands: Hands
) -> None:
    """Any cut, any batch composition, with the prefix KV kept or computed again: token-identical."""
    expected = [p for group in whole for p in group]
    launched = [p for g in hands_engine.launch(hands.problems("dev", 3), 6, cut, seed=5) for p in g]
    if cold:
        hands_engine.store.clear()
    chosen = sorted(rows)
    resumed = hands_engine.resume([launched[i] for i in chosen], LIMIT)
    for i, path in zip(chosen, resumed, strict=True):
        assert path.tokens == expected[i].tokens and path.finish == expected[i].finish
        assert path.text == expected[i].text
        gap = np.abs(path.stats.logprob.astype(float) - expected[i].stats.logprob.astype(float))
        assert gap.max() < 5e-3


def test_engine_conforms(hands: Hands, hands_engine: Any) -> None:
    assert [f for f in engine_conformance(hands_engine, hands, cuts=(1, 40)) if f[1]] == []


@pytest.mark.parametrize("adapted", [False, True])
def test_probing_leaves_the_cache_bit_identical(adapted: bool, hands: Hands, hands_engine: Any) -> None:
    prefixes = hands_engine.launch(hands.problems("dev", 1), 6, 22, seed=0)[0]
    blocks = {hands_engine.store.get((p.problem.prompt, p.tokens)) for p in prefixes}
    before = {block: [t.clone() for t in block.tensors] for block, _ in blocks}
    adapter = hands_engine.new_adapter(tokens=4, rank=8) if adapted else None
    first = hands_engine.probe(prefixes, adapter)
    assert all(torch.equal(a, b) for block, kept in before.items() for a, b in zip(block.tensors, kept, strict=True))
    assert np.array_equal(first, hands_engine.probe(prefixes, adapter))


def test_greedy_equals_transformers_generate(hands: Hands, hands_engine: Any) -> None:
    greedy = registry.engine("hf", "hands", Sampling(temperature=0), device="cpu")
    for problem in hands.problems("dev", 2):
        ours = greedy.launch([problem], 1, LIMIT, seed=0)[0][0].tokens
        ids = torch.tensor([greedy.tokenizer(problem.prompt).input_ids])
        theirs = greedy.model.generate(ids, do_sample=False, max_new_tokens=LIMIT, pad_token_id=0)
        assert list(ours) == theirs[0, ids.shape[1] :].tolist()


def test_probe_equals_a_plain_forward(hands: Hands, hands_engine: Any) -> None:
    """Prefixes of three prompt lengths in one left-padded batch, against one unpadded forward each."""
    prefixes = [g[0] for g in hands_engine.launch(hands.problems("dev", 3), 1, 30, seed=1)]
    states = hands_engine.probe(prefixes)[:, 0]
    for path, state in zip(prefixes, states, strict=True):
        ids = torch.tensor([[*hands_engine.tokenizer(path.problem.prompt).input_ids, *path.tokens]])
        with torch.no_grad():
            expected = hands_engine.model.model(ids).last_hidden_state[0, -1].numpy()
        assert np.abs(state - expected).max() < 1e-4


def test_adapter_equals_lora_on_the_appended_tokens_only(hands: Hands, hands_engine: Any) -> None:
    """Reference: base prefill, then PEFT's forward over those keys, on one unpadded path."""
    path = hands_engine.launch(hands.problems("dev", 1), 1, 25, seed=2)[0][0]
    adapter = hands_engine.new_adapter(tokens=3, rank=4, seed=9)
    with torch.no_grad():
        for name, value in adapter.branch.named_parameters():
            if "lora_B" in name:  # PEFT starts B at zero, which would make any LoRA pass
                value.normal_(std=0.2, generator=torch.Generator().manual_seed(len(name)))
    states = hands_engine.probe([path], adapter)[0]
    ids = torch.tensor([[*hands_engine.tokenizer(path.problem.prompt).input_ids, *path.tokens]])
    with torch.no_grad():
        prefix = hands_engine.model(ids, use_cache=True).past_key_values
        reference = adapter.branch.get_base_model().model(
            inputs_embeds=adapter.embeddings[None], past_key_values=prefix, use_cache=True
        )
        plain = hands_engine.model.model(
            inputs_embeds=adapter.embeddings[None],
            past_key_values=hands_engine.model(ids, use_cache=True).past_key_values,
        )
    assert np.abs(states - reference.last_hidden_state[0].numpy()).max() < 1e-4
    assert np.abs(states - plain.last_hidden_state[0].numpy()).max() > 1e-2  # the LoRA does something


def test_memory_budget_bounds_the_batch_and_not_the_result(hands: Hands, whole: list[list[Path]]) -> None:
    """With room for a few rows only, many batches and an evicting store give the same paths."""
    small = registry.engine("hf", "hands", hands.defaults.sampling, device="cpu", memory=2_000_000)
    launched = small.launch(hands.problems("dev", 3), 6, 20, seed=5)
    again = small.resume([p for g in launched for p in g], LIMIT)
    assert [p.tokens for p in again] == [p.tokens for g in whole for p in g]
    assert small.store.bytes <= 2_000_000


def test_reading_more_prefixes_than_fit_changes_no_state(
    hands: Hands, hands_engine: Any, whole: list[list[Path]]
) -> None:
    """Prefixes of several lengths, some of them stored when the reading begins, in a store that holds a part of them."""
    small = registry.engine("hf", "hands", hands.defaults.sampling, device="cpu", memory=800_000)
    prefixes = [path.cut(length, hands_engine.decode) for group in whole for path in group for length in (5, 12, 20)]
    expected = hands_engine.probe(prefixes)
    small.probe(prefixes[-4:])
    for _ in range(2):
        assert np.abs(small.probe(prefixes) - expected).max() < 1e-3
        assert 0 < small.store.bytes <= 800_000


@pytest.mark.parametrize("pending", [0, 40_000])
def test_statistics_do_not_depend_on_when_they_are_computed(
    pending: int, hands: Hands, hands_engine: Any, whole: list[list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large vocabulary computes them at every step, a small one many steps at a time."""
    monkeypatch.setitem(waiting.AT_ONCE, "cpu", pending)
    again = hands_engine.launch(hands.problems("dev", 3), 6, LIMIT, seed=5)
    for path, expected in zip((p for g in again for p in g), (p for g in whole for p in g), strict=True):
        assert path.tokens == expected.tokens
        assert np.allclose(path.stats.entropy, expected.stats.entropy, atol=2e-3)


@pytest.mark.parametrize("padded", [False, True])
def test_folded_queries_see_what_repeated_keys_show(padded: bool) -> None:
    """By matrix products, as on a CPU, and by torch's kernel, as beside a GPU; against transformers' own attention."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, heads, q, 8, generator=draw) for heads, q in ((6, 1), (2, 5), (2, 5)))
    mask = (torch.arange(5) >= torch.tensor([[0], [2], [4]])).view(3, 1, 1, 5) if padded else None
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=True)
    with torch.no_grad():
        ours, _ = attention.folded_attention(torch.nn.Linear(1, 1), query, key, value, mask)
    assert torch.allclose(ours, expected.transpose(1, 2), atol=1e-6)
    folded = query.view(3, 2, 3, 8)
    for states in (attention._products, torch.nn.functional.scaled_dot_product_attention):
        assert torch.allclose(
            states(folded, key, value, attn_mask=mask, scale=8**-0.5).reshape(3, 6, 1, 8), expected, atol=1e-6
        )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_windows_are_columns_of_rows(data: st.DataObject) -> None:
    """Whatever stands before a row's first column or behind its last is zero."""
    width = data.draw(st.integers(1, 6))
    block = kv.Block(((torch.randn(4, 2, width, 3), torch.randn(4, 2, width, 5)), None))
    rows = data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=5))
    starts = [data.draw(st.integers(-7, 7)) for _ in rows]
    wanted = data.draw(st.integers(1, 8))
    windows = kv.windows(block, torch.tensor(rows), torch.tensor(starts), wanted)
    for got, source in zip(windows.tensors, block.tensors, strict=True):
        for i, (row, start) in enumerate(zip(rows, starts, strict=True)):
            for column in range(wanted):
                inside = 0 <= start + column < width
                expected = source[row, :, start + column] if inside else torch.zeros_like(source[row, :, 0])
                assert torch.equal(got[i, :, column], expected)


def test_a_thousand_paths_of_one_problem(hands: Hands, hands_engine: Any) -> None:
    paths = hands_engine.launch(hands.problems("dev", 1), 1024, 6, seed=0)[0]
    assert len(paths) == 1024 and len({p.tokens for p in paths}) > 5
    few = hands_engine.launch(hands.problems("dev", 1), 3, 6, seed=0)[0]
    assert [p.tokens for p in few] == [p.tokens for p in paths[:3]]


def test_too_long_a_request_is_refused_before_sampling(hands: Hands, hands_engine: Any) -> None:
    with pytest.raises(PathpruneError, match=r"need .* positions, the model has 1024"):
        hands_engine.launch(hands.problems("dev", 1), 1, 5000, seed=0)


@pytest.mark.parametrize("family", ["qwen2", "qwen3", "mistral", "gemma2"])
def test_other_families_of_transformers(family: str, tmp_path: Any, hands: Hands, hands_engine: Any) -> None:
    """Tiny random models: grouped heads, biases, sliding windows, soft-capped logits."""
    from transformers import AutoConfig, AutoModelForCausalLM

    shape: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 256, "eos_token_id": 2, "pad_token_id": 0,
        "bos_token_id": 1,
    }  # fmt: skip
    if family in ("mistral", "gemma2"):
        shape["sliding_window"] = 16
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **shape)).save_pretrained(tmp_path)
    hands_engine.tokenizer.save_pretrained(tmp_path)
    engine = registry.engine("hf", str(tmp_path), Sampling(temperature=1.5), device="cpu")
    problems = hands.problems("dev", 2)
    uninterrupted = [p for g in engine.launch(problems, 4, 60, 0) for p in g]
    launched = [p for g in engine.launch(problems, 4, 25, 0) for p in g]
    assert [p.tokens for p in engine.resume(launched, 60)] == [p.tokens for p in uninterrupted]
    last = replace(uninterrupted[0], finish="stop")
    ids = torch.tensor([[*engine.tokenizer(last.problem.prompt).input_ids, *last.tokens]])
    with torch.no_grad():
        logp = engine.model(ids).logits[0].log_softmax(-1)
    at = ids.shape[1] - len(last.tokens) - 1 + torch.arange(len(last.tokens))
    expected = logp[at, list(last.tokens)].numpy()
    assert np.abs(last.stats.logprob - expected).max() < 1e-2


def test_a_trace_ends_where_a_probe_reads(hands: Hands, hands_engine: Any, whole: list[list[Path]]) -> None:
    """States of whole prefixes, of any batch: their last row is what reading over the cached KV gives."""
    paths = [p.cut(22 + i, hands_engine.decode) for i, p in enumerate(whole[0])] + whole[1][:2]
    traced = hands_engine.trace(paths, lambda states, path: states)
    probed = hands_engine.probe(paths)[:, 0]
    for states, path, state in zip(traced, paths, probed, strict=True):
        assert states.shape == (hands_engine.layers + 1, len(path.tokens), len(state))
        assert np.allclose(states[-1, -1], state, atol=1e-4)
        alone = hands_engine.trace([path], lambda states, path: states)[0]
        assert np.abs(alone - states).max() < 1e-5 * np.abs(states).max()


def test_a_trace_may_begin_in_the_prompt(hands_engine: Any, whole: list[list[Path]]) -> None:
    """Two prompts and two lengths in one call, against transformers' own pass over prompt and prefix."""
    paths = [
        whole[0][0].cut(9, hands_engine.decode),
        whole[0][1].cut(22, hands_engine.decode),
        whole[1][0].cut(9, hands_engine.decode),
    ]
    for states, path in zip(hands_engine.trace(paths, lambda states, path: states, before=2), paths, strict=True):
        ids = torch.tensor([[*hands_engine.tokenizer(path.problem.prompt).input_ids, *path.tokens]])
        with torch.no_grad():
            plain = hands_engine.decoder(input_ids=ids, output_hidden_states=True).hidden_states
        expected = torch.stack([layer[0, -len(path.tokens) - 2 :] for layer in plain]).numpy()
        assert states.shape == expected.shape and np.abs(states - expected).max() < 1e-4 * np.abs(expected).max()


def test_next_logprobs_are_those_of_the_plain_model(hands_engine: Any, whole: list[list[Path]]) -> None:
    paths = [whole[0][0].cut(9, hands_engine.decode), whole[1][0].cut(30, hands_engine.decode)]
    got = hands_engine.next_logprobs(paths, [3, 17])
    for path, row in zip(paths, got, strict=True):
        ids = torch.tensor([[*hands_engine.tokenizer(path.problem.prompt).input_ids, *path.tokens]])
        with torch.no_grad():
            expected = hands_engine.model(input_ids=ids).logits[0, -1].log_softmax(-1)
        assert row.tolist() == pytest.approx(expected[[3, 17]].tolist(), abs=1e-4)


def test_forced_paths_leave_the_original_alone(hands: Hands, hands_engine: Any) -> None:
    """A suffix behind cached prefixes changes neither their KV nor how they go on."""
    prefixes = hands_engine.launch(hands.problems("dev", 1), 8, 22, seed=3)[0]
    before = [p.tokens for p in hands_engine.resume(prefixes, LIMIT)]
    texts = MeteredProbe(hands_engine, Check(np.random.default_rng(0))).force(prefixes, "answer", 3)
    assert all(t.startswith(f"{p.text} answer ") for t, p in zip(texts, prefixes, strict=True))
    assert [p.tokens for p in hands_engine.resume(prefixes, LIMIT)] == before
