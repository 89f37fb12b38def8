"""What only a card shows, marked ``gpu``; and without one, that what is meant for it runs (``tests/benchmarks/gpu.py``)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.api import Path
from tasks.embedded.hands import Hands

ROOT = FilePath(__file__).parents[1]
STOP = FilePath("pruners/checkpoints/stop/3bfac10f82c4")
BLOCK = 16  # tokens that vLLM caches as one


def script(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.gpu", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


def has_card() -> bool:
    import torch

    return bool(torch.cuda.is_available())


# Without a card


@pytest.mark.skipif(has_card(), reason="there is a card, and the script would use it")
def test_without_a_card_each_verb_says_so_in_one_line(tmp_path: FilePath) -> None:
    code, said = script("--out", str(tmp_path / "figures.json"))
    assert code == 2 and said.count("\n") == 1 and "needs an NVIDIA card" in said
    made = subprocess.run(["make", "-s", "gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 2 and made.stdout.strip() == "make gpu needs an NVIDIA card: nvidia-smi lists none here"


@pytest.mark.long
def test_the_script_writes_every_figure_as_it_goes(tmp_path: FilePath) -> None:
    out = tmp_path / "deep" / "figures.json"
    code, said = script("--tiny", "--only", "card,hf-identity,hf", "--out", str(out))
    figures = json.loads(out.read_text())
    assert code == 0, said
    assert list(figures) == ["card", "hf-identity", "hf"]
    assert figures["hf-identity"]["identical paths"] == figures["hf-identity"]["paths"] == 8
    assert figures["hf"]["ours"] > 0 and 0 < figures["hf"]["Check's share"] < 2


@pytest.mark.long
def test_a_part_that_fails_or_has_no_time_loses_no_other(tmp_path: FilePath) -> None:
    out = tmp_path / "figures.json"
    out.write_text(json.dumps({"earlier": {"kept": 1}}))
    broken = tmp_path / "models" / "tiny"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    code, _ = script("--tiny", "--only", "hf,card", "--models", str(broken.parent), "--out", str(out))
    figures = json.loads(out.read_text())
    assert code == 1 and figures["earlier"] == {"kept": 1}
    assert "Error" in figures["hf"]["error"] and figures["card"]["torch"]
    code, _ = script("--tiny", "--only", "card", "--minutes", "0", "--out", str(out))
    assert code == 1 and json.loads(out.read_text())["card"]["error"] == "not run: no time was left"


@pytest.mark.vllm
@pytest.mark.long
def test_the_script_runs_vllm(tmp_path: FilePath) -> None:
    out = tmp_path / "figures.json"
    code, said = script("--tiny", "--only", "vllm-stock,vllm-graphs", "--minutes", "20", "--out", str(out))
    figures = json.loads(out.read_text())
    assert code == 0, said
    assert figures["vllm-stock"]["plain"] > 0
    assert figures["vllm-graphs"]["ours"] > 0 and figures["vllm-graphs"]["Check's share"] > 0


# With one


@pytest.fixture(scope="module")
def on_card(hands: Hands) -> Any:
    return registry.engine("hf", "hands", hands.defaults.sampling, device="cuda")


@pytest.fixture(scope="module")
def graphs(hands: Hands) -> Any:
    """vLLM with captured graphs: what it does beside a card by itself."""
    return registry.engine("vllm", "hands", hands.defaults.sampling, block=BLOCK, memory=2.0)


@pytest.fixture(scope="module")
def whole(hands: Hands, hands_engine: Any) -> list[Path]:
    return [p for g in hands_engine.launch(hands.problems("dev", 4), 16, 300, seed=5) for p in g]


@pytest.mark.gpu
def test_paths_in_float32_are_those_of_the_cpu(on_card: Any, hands: Hands, whole: list[Path]) -> None:
    paths = [p for g in on_card.launch(hands.problems("dev", 4), 16, 300, seed=5) for p in g]
    assert [p.tokens for p in paths] == [p.tokens for p in whole]


@pytest.mark.gpu
def test_states_are_those_of_the_cpu(on_card: Any, hands_engine: Any, whole: list[Path]) -> None:
    prefixes = [p.cut(22, hands_engine.decode) for p in whole]
    for adapter in (None, STOP):
        states = [e.probe(prefixes, adapter and e.new_adapter(adapter))[:, -1] for e in (on_card, hands_engine)]
        assert np.abs(states[0] - states[1]).max() < 1e-3


@pytest.mark.gpu
@pytest.mark.vllm
def test_vllm_with_graphs_gives_the_same_paths(graphs: Any, hands: Hands, whole: list[Path]) -> None:
    """With statistics and without; and resumed anywhere, as if uninterrupted."""
    for engine in (graphs, graphs.without(frozenset({"token_stats"}))):
        paths = [p for g in engine.launch(hands.problems("dev", 4), 16, 300, seed=5) for p in g]
        assert [p.tokens for p in paths] == [p.tokens for p in whole]
    cut = [p.cut(10 + i, graphs.decode) for i, p in enumerate(paths)]
    assert [p.tokens for p in graphs.resume(cut, 300)] == [p.tokens for p in whole]


@pytest.mark.gpu
@pytest.mark.vllm
def test_checks_beside_graphs_give_the_same_states(graphs: Any, hands_engine: Any, whole: list[Path]) -> None:
    """Twice, and with every number of tokens left to compute, one among them: then it is taken for a decode step."""
    prefixes = [p.cut(30 + i % BLOCK, hands_engine.decode) for i, p in enumerate(whole)]
    expected = hands_engine.probe(prefixes, hands_engine.new_adapter(STOP))[:, -1]
    for _ in range(3):
        assert np.abs(graphs.probe(prefixes, graphs.new_adapter(STOP))[:, -1] - expected).max() < 1e-3
