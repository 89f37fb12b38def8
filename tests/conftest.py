"""Shared pieces: a toy world without weights, and the embedded model loaded once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, at the hub's import: no test waits for a network

from harness import registry
from harness.api import Sampling
from harness.bench import Settings
from tasks.embedded.hands import Hands
from tasks.toy import Toy


@pytest.fixture
def toy_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings over the toy engine in an empty folder; every call opens a fresh engine."""

    def make(**options: Any) -> Settings:
        given: dict[str, Any] = {"problems": 6, "n": 8, "prefix": 5, "max_tokens": 48, "seed": 0}
        engine = options.pop("engine", None) or registry.engine("toy", "toy", Sampling())
        folders = {"results": tmp_path / "results", "bank": tmp_path / "bank"}
        return Settings(task=Toy(), engine=engine, **(given | folders | options))

    return make


@pytest.fixture(scope="session")
def hands() -> Hands:
    return Hands()


@pytest.fixture(scope="session")
def hands_engine(hands: Hands) -> Any:
    """The embedded model in fp32 on the CPU."""
    return registry.engine("hf", "hands", hands.defaults.sampling, device="cpu")


@pytest.fixture
def run_cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Run the console script's own entry; returns (exit code, everything it printed)."""
    from harness import cli

    def run(*args: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["pathprune", *args])
        code = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out = capfd.readouterr()
        return code, out.out + out.err

    return run
