"""Ctrl-C and readers that go away: one short line or none, the exit code that a shell expects, and never a traceback."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from harness import cli
from harness.signals import Interrupts, deferred

LAUNCH = [
    sys.executable,
    "-c",
    "import sys; print('on', file=sys.stderr, flush=True); sys.argv = ['pathprune', *sys.argv[1:]]; from pathprune.__main__ import main; main()",
]


@pytest.mark.parametrize("seconds", [0.2, 0.6])
def test_ctrl_c_while_everything_is_imported(seconds: float) -> None:
    command = subprocess.Popen([*LAUNCH, "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stderr and command.stderr.readline() == "on\n"
    with pytest.raises(subprocess.TimeoutExpired):
        command.wait(seconds)
    command.send_signal(signal.SIGINT)
    _, said = command.communicate(timeout=60)
    assert command.returncode == 130 and re.fullmatch(r"\n?interrupted.*\n", said)  # click ends the line of a ^C first


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = subprocess.Popen([*LAUNCH, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout and command.stderr
    command.stdout.close()
    assert command.stderr.read() == "on\n" and command.wait(60) == 141


def test_no_output_at_all_is_no_error() -> None:
    closed = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *LAUNCH, "--help"], capture_output=True, text=True, check=False
    )
    assert closed.returncode == 0 and closed.stderr == "on\n"


FULL = Path("/dev/full")
BENCH = "bench --task toy --engine toy --pruner logprob --problems 2 --n 4 --keep 2"


@pytest.mark.skipif(not FULL.exists(), reason="needs a device that is always full")
@pytest.mark.parametrize(("line", "code"), [(BENCH, 0), (BENCH.replace("logprob", "logprb"), 2)])
def test_a_bar_that_cannot_be_written_costs_nothing(line: str, code: int, tmp_path: Path) -> None:
    launch = [sys.executable, "-m", "pathprune", *line.split()]
    with FULL.open("w") as full:
        done = subprocess.run(launch, cwd=tmp_path, stdout=subprocess.PIPE, stderr=full, text=True, check=False)
    assert done.returncode == code
    assert ("cons@2" in done.stdout) == (len(list(tmp_path.rglob("L*-logprob-*.jsonl"))) == 1) == (code == 0)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort(), RuntimeError("an import that was cut off")])
def test_whatever_an_interruption_becomes_it_is_one(
    error: BaseException, run_cli: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        if isinstance(error, RuntimeError):
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        raise error

    monkeypatch.setattr(cli.cli, "main", interrupted)
    before = signal.getsignal(signal.SIGINT)
    assert run_cli("list") == (130, f"{cli.CONTINUES}\n")
    assert signal.getsignal(signal.SIGINT) is before


def test_our_own_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.cli, "main", lambda **_: {}["nothing"])
    with pytest.raises(KeyError):
        cli.main()


def test_a_process_that_is_started_meanwhile_never_sees_ctrl_c(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), deferred():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        signal.raise_signal(signal.SIGINT)
        (tmp_path / "reached").touch()
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.3)
    child.kill()
    child.wait()
    assert (tmp_path / "reached").exists()


def test_a_process_that_ignores_ctrl_c_goes_on_ignoring_it() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Interrupts().caught(lambda *_: None):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
