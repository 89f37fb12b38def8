"""Launches of ``hf`` on a CPU with ``packed=true`` against those without, on a model of yours.

``make perf NAME=packed ARGS='--model FOLDER'``. Every turn is a process of its own. Sides alternate; a rate is of tokens behind those that paths of one problem may share, which are computed once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

from harness import registry
from tests.benchmarks.lines import Lines, noted

SHARED = 8  # tokens behind which few paths of one problem are equal
SIDES: dict[str, dict[str, bool]] = {"plain": {}, "packed": {"packed": True}}


def rate(side: str, model: str, rows: int, tokens: int) -> float:
    """Tokens per second of ``rows`` paths, 32 of a problem."""
    task = registry.task("toy")
    engine = registry.engine("hf", model, task.defaults.sampling, device="cpu", rows=rows, **SIDES[side])
    problems = task.problems("dev", max(1, rows // 32))

    def seconds(length: int) -> float:
        engine.forget()
        began = time.perf_counter()
        engine.launch(problems, min(rows, 32), length, 0)
        return time.perf_counter() - began

    seconds(2)
    return rows * tokens / (seconds(SHARED + tokens) - seconds(SHARED))


def main() -> None:
    """Print tokens per second of both sides, medians and their ratio, for each number of paths side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder or hub id")
    parser.add_argument("--rows", default="64,256", help="paths side by side (64,256)")
    parser.add_argument("--tokens", type=int, default=24, help="tokens of a path that are timed (24)")
    parser.add_argument("--turns", type=int, default=3, help="turns of each side (3)")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(rate(options.side, options.model, int(options.rows), options.tokens))
        return
    lines = Lines("rows", "plain tokens/s", "packed tokens/s", "ratio")
    for rows in options.rows.split(","):
        rates: dict[str, list[float]] = {side: [] for side in SIDES}
        for turn in range(options.turns):
            for side, seen in rates.items():
                command = [sys.executable, "-m", "tests.benchmarks", "packed", "--model", options.model, "--rows", rows]
                command += ["--tokens", str(options.tokens), "--side", side]
                seen.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
                noted(f"  turn {turn + 1}: {side} {seen[-1]:,.1f} tokens/s")
        plain, packed = (median(seen) for seen in rates.values())
        lines.add(rows, f"{plain:,.1f}", f"{packed:,.1f}", f"{packed / plain:.2f}")
