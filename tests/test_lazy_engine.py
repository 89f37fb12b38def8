"""An engine that is not opened yet: what can be asked of it for free, and that its errors are shown as they are."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest

from harness import registry
from harness.api import Sampling
from harness.engines import EVERYTHING, LazyEngine
from harness.engines.toy import ToyEngine
from harness.runners.bench import bench
from harness.runners.run import Run
from harness.store import records
from tasks.toy import Toy


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
