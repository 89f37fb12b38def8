"""``make perf-methods``: seconds and peak memory of every method's Check at N = 64, 256 and 1,024 paths of 2,048 tokens.

Paths are made up (a Zipf vocabulary, thoughts of some 60 tokens), so nothing is sampled; what is timed is the method.
Methods that read hidden states or force answers run on the embedded architecture with a longer context, random
weights, and their KV cold: an upper bound. ``growth`` is the exponent of seconds in N between the two largest runs: 1 is
linear, 2 is pairwise. Growth well above 1 is marked.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path as FilePath
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from harness import checkpoints, registry
from harness.api import Path, Problem, Sampling, TokenStats
from harness.loop import check, decide

TOKENS = 2048
SIZES = (64, 256, 1024)
HIDDEN_SIZES = (16, 64)
SUPERLINEAR = 1.2


class Words:
    """An engine that knows its vocabulary and nothing else: enough for what needs text and token statistics."""

    def __init__(self) -> None:
        self.vocabulary = [f"word{i}" for i in range(3000)]
        self.vocabulary[:3] = ["wait ", "\n\n", "alternatively "]

    def decode(self, tokens: Any) -> str:
        return " ".join(self.vocabulary[t] for t in tokens)


def made_up(n: int, vocabulary: int) -> list[Path]:
    rng = np.random.default_rng(0)
    draws = np.minimum(rng.zipf(1.3, (n, TOKENS)) + 2, vocabulary - 1)
    draws[:, ::60] = rng.integers(0, 3, draws[:, ::60].shape)
    stats = [rng.random((len(TokenStats.__dataclass_fields__), TOKENS)).astype(np.float16) for _ in range(n)]
    decode = Words().decode
    problem = Problem("made-up", "a = 5 ; b = a + 3 ; b ?", "8")
    return [
        Path(problem, i, 0, tuple(row), decode(row), TokenStats(*s))
        for i, (row, s) in enumerate(zip(draws.tolist(), stats, strict=True))
    ]


def measure(plugin: Any, paths: list[Path], engine: Any, task: Any) -> tuple[float, float]:
    """(seconds, peak MiB of Python and NumPy allocations) of one Check."""
    run = decide if hasattr(plugin.pruner, "decide") else check
    tracemalloc.start()
    began = time.perf_counter()
    run(plugin.pruner, paths, engine, task, 0)
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    return seconds, peak


def long_engine(folder: FilePath) -> Any:
    """The embedded architecture with room for 2,048 tokens and more."""
    from transformers import AutoTokenizer

    from harness.engines.identity import locate
    from tasks.embedded.pretrain import build_model

    model = build_model(0)
    model.config.max_position_embeddings = 4096
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(locate("hands")).save_pretrained(folder)
    return registry.engine("hf", str(folder), Sampling(), device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="one method's spec")
    args = parser.parse_args()
    task = registry.task("hands")
    served = [n for n in registry.names("pruners") if not getattr(registry.pruner(n).pruner, "on_request", "")]
    console = Console(width=140)
    table = Table("method", "cost", "N", "seconds", "peak MiB", "growth")
    with tempfile.TemporaryDirectory() as folder:
        reading = long_engine(FilePath(folder))
        for name in [args.only] if args.only else served:
            plugin = registry.pruner(name)
            hidden = bool(plugin.pruner.needs & {"hidden", "forced"})
            hands = registry.engine("hf", "hands", Sampling())
            if reason := checkpoints.unavailable(plugin, hands):
                console.print(f"left out {name}: {reason}", markup=False)
                continue
            checkpoints.attach(plugin, hands)
            rows = []
            for n in HIDDEN_SIZES if hidden or hasattr(plugin.pruner, "fit") else SIZES:
                try:
                    rows.append(
                        (n, *measure(plugin, made_up(n, 60 if hidden else 3000), reading if hidden else Words(), task))
                    )
                except Exception as error:  # a benchmark goes on with the next method, and says so
                    console.print(f"{name}: {error}", style="red", markup=False)
                    break
            growth = np.log(rows[-1][1] / rows[-2][1]) / np.log(rows[-1][0] / rows[-2][0]) if len(rows) > 1 else np.nan
            for n, seconds, peak in rows:
                shown = "" if n != rows[-1][0] else f"{growth:.1f}" + (" *" if growth > SUPERLINEAR else "")
                table.add_row(
                    name,
                    getattr(plugin.pruner, "cost_class", "free"),
                    f"{n:,}",
                    f"{seconds:.3f}",
                    f"{peak:,.0f}",
                    shown,
                )
    console.print(table)
    console.print(f"* grows faster than N^{SUPERLINEAR}")


if __name__ == "__main__":
    main()
