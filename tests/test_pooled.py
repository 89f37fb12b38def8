"""Reward models in vLLM's pooling runner: the numbers of the transformers runner, on tiny models in published layouts."""

from __future__ import annotations

from pathlib import Path as FilePath
from typing import Any

import pytest
import torch

from harness.api import PathpruneError
from pruners.external_learned.qwen_prm import QwenPRM
from pruners.external_learned.sequence_reward import SequenceReward
from pruners.external_learned.skywork_prm import SkyworkPRM
from tests import test_prms as made

pytestmark = pytest.mark.vllm


@pytest.fixture(autouse=True)
def wider(monkeypatch: pytest.MonkeyPatch) -> None:
    """vLLM's attention on a CPU wants heads of 32 at least."""
    monkeypatch.setitem(made.SIZES, "hidden_size", 128)


def same_in_both(one: Any, other: Any) -> None:
    checks = made.new_check(), made.new_check()
    scores = [pruner.score(made.paths(), check) for pruner, check in zip((one, other), checks, strict=True)]
    assert scores[0].std() > 1e-3
    assert scores[1].tolist() == pytest.approx(scores[0].tolist(), abs=1e-4)
    assert checks[1].cost.reread == checks[1].cold == checks[0].cold  # nothing is shared here
    with pytest.raises(PathpruneError, match="use a shorter --prefix"):
        other.score(made.paths(["a" * 500]), made.new_check())


@pytest.mark.long
def test_step_rewards(tmp_path: FilePath) -> None:
    torch.manual_seed(3)
    wide, narrow = torch.nn.Linear(128, 128), torch.nn.Linear(128, 2)
    head = {f"score.{i}.{k}": v for i, m in ((0, wide), (2, narrow)) for k, v in m.state_dict().items()}
    folder = made.Written(tmp_path / "qwen", head).folder
    same_in_both(QwenPRM(str(folder)), QwenPRM(str(folder), runner="vllm"))


@pytest.mark.long
def test_sequence_rewards(tmp_path: FilePath) -> None:
    made.saved_reward(tmp_path, made.CHATML, pad_token_id=256)
    same_in_both(SequenceReward(str(tmp_path)), SequenceReward(str(tmp_path), runner="vllm"))


def test_a_model_that_vllm_has_no_class_for() -> None:
    with pytest.raises(ValueError, match="runner is transformers"):
        SkyworkPRM(runner="vllm")
