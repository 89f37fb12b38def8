"""Labels and training under SIGKILL at random moments, and in several processes: the same files in the end."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

from harness.learn import checkpoints

KILLS = 12
SMALL = ["--problems", "48", "--n", "8", "--group", "2"]


def run(*args: str, seconds: float | None = None, launcher: Sequence[str] = ()) -> bool:
    """Start the command and kill it, children included, after so many seconds; did it come to its end?"""
    command = [sys.executable, "-m", *launcher, "harness.cli", *args]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    try:
        _, said = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return False
    assert process.returncode == 0, said.decode()
    return True


def timed(*args: str) -> float:
    """Seconds of the whole command, by which kills are timed: machines differ."""
    began = time.monotonic()
    assert run(*args)
    return time.monotonic() - began


def killed(*args: str, whole: float) -> int:
    """Run a command to its end through ``KILLS`` kills, or as many as it lived to see; returns their number."""
    draw = random.Random(0)
    for kills in range(KILLS):
        if run(*args, seconds=whole * draw.uniform(0.1, 0.3)):
            return kills
    assert run(*args)
    return KILLS


@pytest.mark.slow
def test_killed_labels_and_trainings_end_as_uninterrupted_ones(tmp_path: Path) -> None:
    kills, whole = 0, 0.0
    for name, workers in (("whole", "1"), ("killed", "1"), ("together", "2")):
        command = ["label", *SMALL, "--labels", str(tmp_path / name), "--workers", workers]
        if name == "whole":
            whole = timed(*command)
        else:
            kills += killed(*command, whole=whole)
    assert kills >= 6  # with those of the training ten and more
    files = {n: sorted((tmp_path / n).rglob("*.parquet")) for n in ("whole", "killed", "together")}
    names = {n: [f.name for f in found] for n, found in files.items()}
    assert len(names["whole"]) == 24 and names["whole"] == names["killed"] == names["together"]
    for one, two, three in zip(*files.values(), strict=True):
        assert pq.read_table(one).equals(pq.read_table(two)) and pq.read_table(one).equals(pq.read_table(three))
    assert not list((tmp_path / "killed").rglob("*.part"))

    slowly = "stop:epochs=10,batch=8,lr=3e-5"  # which does not stop early
    train = ["train", slowly, *SMALL, "--labels", str(tmp_path / "whole"), "--out"]
    kills = killed(*train, str(tmp_path / "broken"), whole=timed(*train, str(tmp_path / "straight")))
    assert kills >= 5, kills
    straight, broken = (next((tmp_path / n).rglob(checkpoints.CARD)).parent for n in ("straight", "broken"))
    assert checkpoints.digest_of(straight) == checkpoints.digest_of(broken)
    assert checkpoints.read_card(straight)["metrics"]["history"] == checkpoints.read_card(broken)["metrics"]["history"]


@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path: Path) -> None:
    """``accelerate launch`` splits every batch; sums of gradients in another order differ by rounding alone."""
    train = ["train", "stop:epochs=2,batch=16", *SMALL, "--labels", str(tmp_path / "labels"), "--out"]
    launcher = ["accelerate.commands.launch", "--cpu", "--num_processes", "2", "--main_process_port", "0", "-m"]
    assert run(*train, str(tmp_path / "one"))
    assert run(*train, str(tmp_path / "two"), launcher=launcher)
    one, two = (next((tmp_path / n).rglob(checkpoints.CARD)).parent for n in ("one", "two"))
    for file in ("adapter_model.safetensors", "head.safetensors", "stop_embeddings.safetensors"):
        ours, theirs = load_file(one / file), load_file(two / file)
        assert ours.keys() == theirs.keys()
        assert all(torch.allclose(ours[k], theirs[k], atol=2e-3) for k in ours)
    losses = [[e["validation"] for e in checkpoints.read_card(c)["metrics"]["history"]] for c in (one, two)]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
