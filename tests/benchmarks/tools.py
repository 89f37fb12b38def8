"""Seconds of a call in the sandbox, cold and warm, alone and for 64 paths at once, and what lives meanwhile.

``make perf NAME=tools [ARGS="--paths 64 --calls 20"]``
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import psutil

from harness.tools import bubble
from harness.tools.interpreter import Interpreter
from harness.tools.limits import Limits
from harness.tools.sandbox import Call, Sandbox

PLAIN = "total = sum(n * n for n in range(1000))\ntotal"
SYMBOLIC = "import sympy\nx = sympy.symbols('x')\nsympy.solve(x**2 - 2, x)"


def told(seconds: list[float]) -> dict[str, float]:
    """Median and 99th percentile, in milliseconds."""
    return {
        "median": round(1e3 * float(np.median(seconds)), 1),
        "p99": round(1e3 * float(np.quantile(seconds, 0.99)), 1),
    }


def starts(count: int) -> list[float]:
    """A new interpreter and its first call, without spares."""
    limits, seconds = Limits(), []
    launch = bubble.sandboxed(limits)
    for _ in range(count):
        began = time.perf_counter()
        interpreter = Interpreter(launch, limits)
        interpreter.run(PLAIN, 1)
        seconds.append(time.perf_counter() - began)
        interpreter.end()
    return seconds


def one_path(code: str, calls: int) -> list[float]:
    """Calls of one path, one behind the other; the first finds a spare."""
    sandbox, earlier, seconds = Sandbox(), (), []
    sandbox.open()
    for number in range(1, calls + 1):
        began = time.perf_counter()
        sandbox.run([Call("path", number, code, earlier)])
        seconds.append(time.perf_counter() - began)
        earlier = (*earlier, (number, code))
    sandbox.close()
    return seconds


def together(paths: int, calls: int) -> dict[str, float]:
    """Calls of many paths at once, each behind its own earlier ones."""
    sandbox, earlier = Sandbox(most=paths + 4), ()
    sandbox.open()
    rounds = []
    for number in range(1, calls + 1):
        began = time.perf_counter()
        sandbox.run([Call(path, number, PLAIN, earlier) for path in range(paths)])
        rounds.append(time.perf_counter() - began)
        earlier = (*earlier, (number, PLAIN))
    processes = psutil.Process().children(recursive=True)
    memory = sum(p.memory_full_info().uss for p in processes)
    began = time.perf_counter()
    sandbox.close()
    warm = told([r / paths for r in rounds[1:]])
    return {
        "first_ms_a_path": round(1e3 * rounds[0] / paths, 1), "warm_ms_a_path": warm["median"], "processes": len(processes),
        "mib": round(memory / 2**20), "close_s": round(time.perf_counter() - began, 2),
    }  # fmt: skip


def show(result: dict[str, Any]) -> None:
    """Print one result as a line of JSON, at once."""
    print(json.dumps(result), flush=True)


def main() -> None:
    """Print one line of JSON for each."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--paths", type=int, default=64)
    parser.add_argument("--calls", type=int, default=20)
    given = parser.parse_args()
    show({"cold": told(starts(given.calls))})
    plain = one_path(PLAIN, 10 * given.calls)
    show({"spare": round(1e3 * plain[0], 1), "warm": told(plain[1:])})
    symbolic = one_path(SYMBOLIC, given.calls)
    show({"sympy_first_ms": round(1e3 * symbolic[0], 1), "sympy": told(symbolic[1:])})
    show({"paths": given.paths, **together(given.paths, given.calls)})
