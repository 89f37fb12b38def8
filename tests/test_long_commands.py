"""Benchmarks of this repository print what they measure when it is measured, and Ctrl-C ends them in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
INTERRUPTED = """
import os, signal
from tests.benchmarks.lines import Lines, interruptible

def main():
    table = Lines("case", "seconds")
    table.add("first", "1.0")
    os.kill(os.getpid(), signal.SIGINT)
    table.add("second", "2.0")

interruptible(main)
"""


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_row_is_printed_before_the_next_is_measured_and_an_interruption_keeps_it() -> None:
    done = python("-c", INTERRUPTED)
    assert done.returncode == 130 and done.stdout.splitlines() == ["case  seconds", "first  1.0"]
    assert "Traceback" not in done.stderr and "interrupted" in done.stderr


@pytest.mark.parametrize("arguments", [(), ("no-such-benchmark",)])
def test_a_benchmark_that_is_not_there_lists_those_that_are(arguments: tuple[str, ...]) -> None:
    done = python("-m", "tests.benchmarks", *arguments)
    assert done.returncode == 1 and all(name in done.stderr for name in ("perf", "methods", "imports", "vllm"))


def test_no_benchmark_keeps_its_results_for_the_end() -> None:
    """A table of rich is printed whole: ``Lines`` is for what takes minutes."""
    for file in (ROOT / "tests/benchmarks").glob("*.py"):
        assert "rich.table" not in file.read_text(), file.name


def test_a_step_that_is_not_there_is_one_line() -> None:
    done = python("results/publish.py", "row")
    assert done.returncode == 1 and done.stderr.startswith("error: unknown step 'row'; known: all, rows")
