"""vLLM as an engine, on a CPU: the Hugging Face engine in fp32 is the reference. ``make test-vllm`` runs these."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.api import Path, PathpruneError, Sampling, UnavailableError
from harness.learn import checkpoints
from harness.loop import check, select
from harness.plugins.declared import Plugin
from harness.testing import conformance, engine_conformance
from tasks.embedded.hands import Hands

pytestmark = pytest.mark.vllm
BLOCK, LIMIT, L = 32, 300, 22
STOP = FilePath("pruners/checkpoints/stop/3bfac10f82c4")


@pytest.fixture(scope="session")
def whole(hands: Hands, hands_engine: Any) -> list[list[Path]]:
    return hands_engine.launch(hands.problems("dev", 4), 16, LIMIT, seed=5)


@pytest.fixture(scope="session")
def prefixes(hands_engine: Any, whole: list[list[Path]]) -> list[Path]:
    return [p.cut(L, hands_engine.decode) for group in whole for p in group]


def attached_plugin(name: str, engine: Any) -> Plugin:
    plugin = registry.pruner(name)
    checkpoints.attach(plugin, engine)
    return plugin


def attached(name: str, engine: Any) -> Any:
    return attached_plugin(name, engine).pruner


def statistics_gap(path: Path, other: Path) -> float:
    """The largest of all columns: float16 at values up to 16."""
    columns = [(c.astype(float), getattr(other.stats, name).astype(float)) for name, c in vars(path.stats).items()]
    return max(float(np.abs(a - b).max()) for a, b in columns)


# The same paths


def test_sampled_paths_are_those_of_the_hugging_face_engine(served: Any, hands: Hands, whole: list[list[Path]]) -> None:
    """Token by token at temperature 1, statistics too; in fp32 the two differ by rounding only."""
    ours = served.launch(hands.problems("dev", 4), 16, LIMIT, seed=5)
    for path, expected in zip((p for g in ours for p in g), (p for g in whole for p in g), strict=True):
        assert (path.tokens, path.finish, path.text) == (expected.tokens, expected.finish, expected.text)
        assert statistics_gap(path, expected) <= 2e-2


def test_engine_conforms(served: Any, hands: Hands) -> None:
    """Interruption anywhere, batch composition and the ledger change nothing."""
    assert [f for f in engine_conformance(served, hands, cuts=(1, 33, 100)) if f[1]] == []


def test_vllm_s_own_sampling_is_left_alone(served: Any, hands: Hands) -> None:
    """A greedy request without a stream, and one that asks for nothing of ours, in the very same engine."""
    from vllm import SamplingParams

    prompt = {"prompt_token_ids": list(served.ids(hands.problems("dev", 1)[0].prompt))}
    greedy = SamplingParams(temperature=0.0, max_tokens=40, detokenize=False, ignore_eos=True)
    hot = SamplingParams(temperature=1.5, max_tokens=64, detokenize=False, ignore_eos=True, n=32)
    said = served.llm.generate([prompt], greedy, use_tqdm=False)[0].outputs[0].token_ids
    reference = registry.engine("hf", "hands", Sampling(temperature=0.0), device="cpu")
    expected = reference.launch(hands.problems("dev", 1), 1, 40, seed=0)[0][0].tokens
    assert tuple(said)[: len(expected)] == expected
    drawn = served.llm.generate([prompt], hot, use_tqdm=False)[0].outputs
    assert max(max(o.token_ids) for o in drawn) < served.layout.base  # no id of ours can be drawn
    assert len({tuple(o.token_ids) for o in drawn}) > 16


# The same scores


def test_states_are_those_of_the_hugging_face_engine(served: Any, hands_engine: Any, prefixes: list[Path]) -> None:
    assert np.abs(served.probe(prefixes) - hands_engine.probe(prefixes)).max() < 1e-4
    states = [e.probe(prefixes, e.new_adapter(STOP))[:, -1] for e in (served, hands_engine)]
    assert np.abs(states[0] - states[1]).max() < 1e-4


@pytest.mark.parametrize("name", ["stop", "linear-probe", "mlp-probe", "otv"])
def test_scores_and_selections_are_those_of_the_hugging_face_engine(
    name: str, served: Any, hands: Hands, hands_engine: Any, prefixes: list[Path]
) -> None:
    for start in range(0, len(prefixes), 16):
        group = prefixes[start : start + 16]
        scores = [check(attached(name, e), group, e, hands, 0)[0] for e in (served, hands_engine)]
        assert np.abs(scores[0] - scores[1]).max() < 1e-4
        ended = [p.finish == "stop" for p in group]
        chosen = [list(select(s, ended, 4, "count")) for s in scores]
        # The same prefixes, or ones whose scores differ by rounding only.
        assert np.abs(np.sort(scores[1][chosen[0]]) - np.sort(scores[1][chosen[1]])).max() < 2e-4


@pytest.mark.parametrize("name", ["stop", "linear-probe", "consensus", "logprob"])
def test_pruners_conform_on_it(name: str, served: Any, hands: Hands) -> None:
    assert [f for f in conformance(attached_plugin(name, served), hands, served, L) if f[1]] == []


def test_two_adapters_and_generation_do_not_disturb_each_other(
    served: Any, hands_engine: Any, prefixes: list[Path], whole: list[list[Path]]
) -> None:
    """[STOP] and OTV in turns on the same prefixes, then on: the base's KV is what it was."""
    otv = FilePath("pruners/checkpoints/otv/3bfac10f82c4")
    first = {f: served.probe(prefixes, served.new_adapter(f)) for f in (STOP, otv)}
    for folder in (otv, STOP, otv):
        assert np.abs(served.probe(prefixes, served.new_adapter(folder)) - first[folder]).max() < 1e-5
    resumed = served.resume(prefixes, LIMIT)
    assert [p.tokens for p in resumed] == [p.tokens for g in whole for p in g]


# What it computes


def test_check_computes_no_more_than_its_tokens_and_a_block(served: Any, hands: Hands) -> None:
    """By vLLM's own count; with the cache emptied it computes everything, and gives the same scores."""
    prefixes = served.launch(hands.problems("dev", 6)[5:], 24, 100, seed=9)[0]
    adapter = served.new_adapter(STOP)
    before = replace(served.counters)
    warm = served.probe(prefixes, adapter)
    computed = served.counters.computed - before.computed
    assert computed <= len(prefixes) * (adapter.tokens + BLOCK)
    assert served.counters.cached - before.cached >= len(prefixes) * (100 // BLOCK - 1) * BLOCK
    served.llm.reset_prefix_cache()
    before = replace(served.counters)
    cold = served.probe([*prefixes], adapter)
    assert served.counters.computed - before.computed > computed
    assert np.abs(cold - warm).max() < 1e-4


def test_a_full_cache_evicts_and_changes_nothing(hands: Hands, hands_engine: Any, served: Any) -> None:
    """More prefixes than the KV cache holds: Check and Resume compute them again."""
    problems = hands.problems("dev", 8)
    small = served.llm.llm_engine.vllm_config.cache_config.num_gpu_blocks * BLOCK
    paths = [p for g in served.launch(problems, 32, 100, seed=1) for p in g]
    assert sum(len(served.sequence(p)) for p in paths) > small, "the cache is too large for this test"
    chosen = paths[::37]
    whole = hands_engine.resume([Path(p.problem, p.index, p.seed) for p in chosen], 100)
    assert [p.tokens for p in chosen] == [p.tokens for p in whole]
    assert all(statistics_gap(p, q) <= 2e-2 for p, q in zip(chosen, whole, strict=True))
    states = served.probe(chosen, served.new_adapter(STOP))[:, -1]
    expected = hands_engine.probe(chosen, hands_engine.new_adapter(STOP))[:, -1]
    assert np.abs(states - expected).max() < 1e-4
    again = [r.tokens for r in served.resume(chosen, LIMIT)]
    assert again == [r.tokens for r in hands_engine.resume(chosen, LIMIT)]


def test_next_logprobs(served: Any, hands_engine: Any, prefixes: list[Path]) -> None:
    gap = served.next_logprobs(prefixes, [3, 9, 17]) - hands_engine.next_logprobs(prefixes, [3, 9, 17])
    assert np.abs(gap).max() < 1e-4


def test_a_run_that_is_stopped_leaves_nothing_to_the_next(
    served: Any, hands: Hands, whole: list[list[Path]], prefixes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No request, whose outputs the next run would get among its own, and no record."""
    engine, steps = served.llm.llm_engine, iter(range(9))
    real = engine.step

    def step() -> Any:
        if next(steps, None) is None:
            raise KeyboardInterrupt
        return real()

    monkeypatch.setattr(engine, "step", step)
    with pytest.raises(KeyboardInterrupt):
        served.resume(prefixes, LIMIT)
    assert not engine.has_unfinished_requests()
    monkeypatch.undo()
    again = served.launch(hands.problems("dev", 4), 16, LIMIT, seed=5)
    for path, expected in zip((p for g in again for p in g), (p for g in whole for p in g), strict=True):
        assert path.tokens == expected.tokens and statistics_gap(path, expected) <= 2e-2
    assert not any(served.llm.collective_rpc("take_records")[0]), "all of it was taken"


# Errors, each one line


def test_a_prompt_that_does_not_fit_is_refused(served: Any, hands: Hands) -> None:
    with pytest.raises(PathpruneError, match=r"need .* positions, the model has 1024"):
        served.launch(hands.problems("dev", 1), 1, 5000, seed=0)


def test_adapters_of_another_width_or_damaged_are_refused(served: Any, tmp_path: FilePath) -> None:
    from safetensors.numpy import save_file

    save_file({"embeddings": np.zeros((4, 24), dtype=np.float32)}, tmp_path / "stop_embeddings.safetensors")
    with pytest.raises(PathpruneError, match=r"has width 24, .* has 160: it belongs to another model"):
        served.new_adapter(tmp_path)
    (tmp_path / "stop_embeddings.safetensors").write_bytes(b"no")
    with pytest.raises(PathpruneError, match="missing or damaged"):
        served.new_adapter(tmp_path)


def test_methods_that_it_cannot_serve_say_so(served: Any, run_cli: Any) -> None:
    code, out = run_cli("bench", "--engine", "vllm", "--pruner", "step", "--problems", "1")
    assert code == 2 and "needs trace, which engine vllm does not provide" in out
    with pytest.raises(PathpruneError, match="train with ENGINE=hf"):
        served.new_adapter(None)


def test_an_unknown_architecture_names_the_way_out(tmp_path: FilePath, hands: Hands) -> None:
    from harness.engines.identity import locate

    shutil.copytree(locate("hands"), tmp_path / "other")
    config = json.loads((tmp_path / "other" / "config.json").read_text()) | {"architectures": ["OtherForCausalLM"]}
    (tmp_path / "other" / "config.json").write_text(json.dumps(config))
    with pytest.raises(PathpruneError, match="not OtherForCausalLM; use ENGINE=hf"):
        registry.engine("vllm", str(tmp_path / "other"), Sampling()).launch([], 1, 1, 0)


def test_a_missing_plugin_is_named(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment whose vLLM does not know our classes, as when pathprune is not installed into it."""
    monkeypatch.setitem(
        __import__("harness.engines.vllm.ids", fromlist=["x"]).ARCHITECTURES, "LlamaForCausalLM", "None"
    )
    with pytest.raises(UnavailableError, match="does not load pathprune's plugin"):
        registry.engine("vllm", "hands", Sampling()).launch([], 1, 1, 0)
