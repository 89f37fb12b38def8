"""An engine that is not opened yet: what can be asked of it for free, and that its errors are shown as they are."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from harness import registry
from harness.api import PathpruneError, Sampling
from harness.engines import EVERYTHING, LazyEngine, open_completions
from harness.engines.hf.text import HFText
from harness.engines.toy import ToyEngine
from harness.loop import prune as prune_problem
from harness.runners import live
from harness.runners.bench import bench
from harness.runners.run import Run
from harness.spec import RunSpec
from harness.store import records
from tasks.embedded.hands import Hands
from tasks.toy import Toy
from tests import families


class Opener:
    """Opens a toy engine and counts how often."""

    calls = 0

    def __call__(self) -> ToyEngine:
        self.calls += 1
        return ToyEngine("toy", Sampling())


def lazy(load: Any) -> LazyEngine:
    return LazyEngine(ToyEngine("toy", Sampling()).spec, EVERYTHING, load)


def test_it_opens_once_at_the_first_use() -> None:
    load = Opener()
    engine = lazy(load)
    assert engine.spec["engine"] == "toy" and engine.fingerprint and engine.provides == EVERYTHING
    assert engine.launch and not load.calls
    problems = Toy().problems("dev", 2)
    assert engine.launch(problems, 3, 9, 0)[1][2].tokens == ToyEngine().launch(problems, 3, 9, 0)[1][2].tokens
    assert engine.rows == 1024 and engine.flops(0, 1) == ToyEngine.flops(0, 1)
    assert engine.skill == 0.5  # the engine's own, beyond the contract
    assert load.calls == 1


def test_threads_that_use_it_first_at_once_open_it_once() -> None:
    inside = Barrier(2, timeout=0.2)

    def slow() -> Any:
        with suppress(BrokenBarrierError):  # two that open it meet here; one alone waits in vain
            inside.wait()
        return load()

    load = Opener()
    engine = lazy(slow)
    with ThreadPoolExecutor(4) as pool:
        assert len({*pool.map(lambda _: engine.decode((1,)), range(4))}) == 1
    assert load.calls == 1


def test_a_copy_loads_nothing() -> None:
    load = Opener()
    engine = copy.copy(lazy(load))
    assert not hasattr(engine, "__deepcopy__") and not load.calls
    assert engine.rows == 1024


@pytest.mark.parametrize("packed", [False, True])
def test_a_bench_of_what_is_stored_loads_nothing(packed: bool, toy_run: Callable[..., Run]) -> None:
    pruners = [registry.pruner("logprob"), registry.pruner("asc")]
    stored = toy_run()
    bench(stored, pruners, lambda done, note: None)
    if packed:
        records.pack(stored.folder, lambda header: header)
    load = Opener()
    bench(toy_run(engine=lazy(load)), pruners, lambda done, note: None)
    assert not load.calls


POISON = "the weights were loaded"


def poisoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every way to a model's weights an error: our loader, transformers' and the files themselves."""
    import safetensors
    import safetensors.torch
    from transformers import AutoModelForCausalLM

    from harness.engines import loading

    def load(*_: Any, **__: Any) -> Any:
        raise AssertionError(POISON)

    for owner, name in (
        (loading, "load"), (AutoModelForCausalLM, "from_pretrained"),
        (safetensors, "safe_open"), (safetensors.torch, "load_file"),
    ):  # fmt: skip
        monkeypatch.setattr(owner, name, load)


def hands_run(folder: Path, results: str, **options: Any) -> Run:
    """A run of a real model on a bank in ``folder``, with an engine that has loaded nothing."""
    task = Hands()
    engine = registry.engine("hf", "hands", task.defaults.sampling, device="cpu", **options)
    spec = RunSpec.of(task, engine, 4, 40, [(8, 2)])
    return Run(spec, task, engine, 3, folder / results, folder / "bank")


def rows_of(run: Run) -> dict[str, bytes]:
    """The lines of every record of a run, by file; provenance says when and where it was made."""
    told = {}
    for file in sorted(run.folder.glob("*.jsonl")):
        header, *rows = file.read_bytes().splitlines()
        about = {k: v for k, v in json.loads(header).items() if k != "provenance"}
        told[file.name] = b"\n".join([json.dumps(about).encode(), *rows])
    return told


def test_a_bench_of_banked_paths_needs_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pruners = [registry.pruner(name) for name in ("jaccard", "logprob", "asc")]
    bench(hands_run(tmp_path, "none"), [], lambda done, note: None)  # fills the bank
    loaded, poor = hands_run(tmp_path, "loaded"), hands_run(tmp_path, "poor")
    loaded.engine.load_now()
    done = bench(loaded, pruners, lambda done, note: None)
    assert not done.sampled and not done.failures
    poisoned(monkeypatch)
    done = bench(poor, pruners, lambda done, note: None)
    assert not done.sampled and not done.failures
    assert rows_of(poor) == rows_of(loaded) and len(rows_of(poor)) == 4
    assert poor.spec.engine["fingerprint"] == loaded.engine._loaded().spec["fingerprint"]
    with pytest.raises(AssertionError, match=POISON):  # the poison works: one more path has to be sampled
        poor.engine.launch(poor.chosen(), 1, 9, 0)


def test_what_needs_no_weights_is_what_the_engine_says(tmp_path: Path) -> None:
    light, heavy = hands_run(tmp_path, "a").engine, hands_run(tmp_path, "b", rows=7).engine
    heavy.load_now()
    problem = Hands().problems("test", 1)[0]
    ids = light.encode("3 + 4 = 7")
    assert ids == heavy.encode("3 + 4 = 7") and light.decode(ids) == heavy.decode(ids) == "3 + 4 = 7"
    assert light.prompt_length(problem) == heavy.prompt_length(problem) > 0
    assert light.thinking(problem) == heavy.thinking(problem) and light.closing == heavy.closing
    assert (light.flops, light.describe()) == (heavy.flops, heavy.describe())
    assert (light.rows, heavy.rows) == (1024, 7) and hands_run(tmp_path, "c", rows=7).engine.rows == 7
    drawn = light.drawing(Sampling(0.5))
    assert drawn.decode(ids) == "3 + 4 = 7" and drawn._engine is None
    assert light._engine is None


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "qwen3_moe", "gpt2"])
def test_flops_are_those_of_the_loaded_model(name: str, tmp_path: Path) -> None:
    engine = registry.engine("hf", str(families.build(name, tmp_path / "model")), Sampling(), device="cpu")
    flops = engine.flops
    assert engine._engine is None and flops == engine._loaded().flops


def test_flops_of_quantised_weights_are_the_loaded_models(tmp_path: Path) -> None:
    """They are counted as they are stored, which configuration and tokenizer do not tell."""
    folder = families.build("llama", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    text = HFText(str(folder), {"model": "model"}, device="cpu")
    assert text.decode(text.encode("3 + 4")) == "3 + 4" and not hasattr(text, "flops")
    engine = LazyEngine(ToyEngine().spec, EVERYTHING, Opener(), text=lambda: text)
    assert engine.decode(text.encode("3 + 4")) == "3 + 4" and engine._engine is None
    assert engine.flops == ToyEngine.flops and engine._engine is not None


@pytest.mark.parametrize("name", ["vllm", "vllm-http", "completions"])
def test_a_served_model_is_replayed_without_its_server(name: str) -> None:
    options: dict[str, Any] = {} if name == "vllm" else {"url": "http://127.0.0.1:9"}
    opening = open_completions if name == "completions" else partial(registry.engine, name)
    engine = opening("hands", Sampling(), rows=5, **options)
    own = registry.engine("hf", "hands", Sampling(), device="cpu")
    problem = Hands().problems("test", 1)[0]
    assert engine.prompt_length(problem) == own.prompt_length(problem)
    assert engine.decode(own.encode("3 + 4")) == own.decode(own.encode("3 + 4"))
    assert engine.flops == own.flops and engine.rows == 20
    if name != "vllm":
        with pytest.raises(PathpruneError):  # there is no server
            engine.launch([problem], 1, 9, 0)


def test_a_live_run_loads_the_weights_before_it_is_timed(
    toy_run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    load = Opener()
    run = toy_run(
        engine=LazyEngine(
            ToyEngine("toy", Sampling()).spec, EVERYTHING, load, text=ToyEngine, told=frozenset({"describe"})
        )
    )
    timed: list[int] = []

    def prune(*given: Any, **options: Any) -> Any:
        timed.append(load.calls)
        return prune_problem(*given, **options)

    monkeypatch.setattr(live, "prune", prune)
    live.run_live(run, [registry.method("logprob")], lambda done, note: None)
    assert timed == [1] * 6


def test_a_missing_member_names_the_engine() -> None:
    with pytest.raises(AttributeError, match="'ToyEngine' object has no attribute 'lauch'"):
        lazy(Opener()).lauch  # noqa: B018


def test_an_attribute_error_while_opening_is_not_taken_for_a_missing_member() -> None:
    def broken() -> Any:
        return object().weights  # type: ignore[attr-defined]

    with pytest.raises(
        RuntimeError, match="engine toy could not be opened: 'object' object has no attribute 'weights'"
    ):
        hasattr(lazy(broken), "rows")
