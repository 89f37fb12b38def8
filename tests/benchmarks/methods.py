"""Seconds and peak memory of every method's Check at N = 64, 256 and 1,024 paths of 2,048 tokens.

``make perf NAME=methods``. Paths are made up (a Zipf vocabulary, thoughts of some 60 tokens), so nothing is sampled; what is timed is the method.
Methods that read hidden states, force answers or re-read text with a model run on the embedded architecture with a
longer context, random weights, and their KV cold: an upper bound, at N = 16 and 64 unless ``--large``. ``growth`` is the
exponent of seconds in N between the two largest runs: 1 is linear, 2 is pairwise. What takes a second and grows faster
than N is marked.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from harness import registry
from harness.api import STATISTICS, Path, Problem, Sampling, TokenStats
from harness.learn import checkpoints
from harness.loop import check, decide
from tests.benchmarks.lines import Lines, begun
from tests.benchmarks.memory import peak, reset_peak

TOKENS = 2048
SIZES = (64, 256, 1024)
MODEL_SIZES = (16, 64)
SUPERLINEAR = 1.2
NOTICEABLE = 1.0  # seconds


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
    stats = [rng.random((len(STATISTICS), TOKENS)).astype(np.float16) for _ in range(n)]
    decode = Words().decode
    problem = Problem("made-up", "a = 5 ; b = a + 3 ; b ?", "8")
    return [
        Path(problem, i, 0, tuple(row), decode(row), TokenStats(*s))
        for i, (row, s) in enumerate(zip(draws.tolist(), stats, strict=True))
    ]


def measure(plugin: Any, paths: list[Path], engine: Any, task: Any) -> tuple[float, float]:
    """(seconds, MiB that the process grew by at its peak) of one Check."""
    run = decide if hasattr(plugin.pruner, "decide") else check
    before = reset_peak()
    began = time.perf_counter()
    run(plugin.pruner, paths, engine, task, 0)
    return time.perf_counter() - began, peak() - before


def longer(where: str, folder: FilePath, made: Any, **options: Any) -> str:
    """The embedded architecture with random weights and room for 2,048 tokens and more."""
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(where, max_position_embeddings=4096, **options)
    made.from_config(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(where).save_pretrained(folder)
    return str(folder)


def opened(name: str, reader: str) -> Any:
    """The method ready to run; what re-reads text reads with the longer model. None if it lacks a checkpoint."""
    if name in ("verifier", "reward-model"):
        return registry.pruner(f"reward-model:model={reader}")
    plugin, hands = registry.pruner(name), registry.engine("hf", "hands", Sampling())
    if checkpoints.unavailable(plugin, hands):
        return None
    checkpoints.attach(plugin, hands)
    return plugin


def grown(before: tuple[int, float], last: tuple[int, float]) -> str:
    """The exponent of seconds in N between two (N, seconds), marked where it matters."""
    growth = np.log(last[1] / before[1]) / np.log(last[0] / before[0])
    return f"{growth:.1f}" + (" *" if growth > SUPERLINEAR and last[1] > NOTICEABLE else "")


def main() -> None:
    from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

    from harness.engines.identity import locate

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", help="one method's name")
    parser.add_argument("--large", action="store_true", help="models too at N = 64 to 1,024: hours")
    args = parser.parse_args()
    task = registry.task("hands")
    table = Lines("method", "cost", "N", "seconds", "peak MiB", "growth", widths=(22, 8, 5))
    with tempfile.TemporaryDirectory() as folder:
        place = FilePath(folder)
        generator = longer(locate("hands"), place / "generator", AutoModelForCausalLM)
        reader = longer(locate("hands"), place / "reader", AutoModelForTokenClassification, num_labels=1)
        engine = registry.engine("hf", generator, Sampling(), device="cpu")
        for name in [args.only] if args.only else registry.names("pruners"):
            plugin = opened(name, reader)
            if plugin is None:
                continue
            cost = getattr(plugin.pruner, "cost_class", "free")
            reads, before = cost != "free", (0, 0.0)
            sizes = MODEL_SIZES if reads and not args.large else SIZES
            for n in sizes:
                begun(f"{name}, N = {n}")
                paths = made_up(n, 60 if reads else 3000)
                seconds, memory = measure(plugin, paths, engine if reads else Words(), task)
                growth = grown(before, (n, seconds)) if n == sizes[-1] else ""
                table.add(name, cost, f"{n:,}", f"{seconds:.3f}", f"{memory:,.0f}", growth)
                before = (n, seconds)
    print(f"* grows faster than N^{SUPERLINEAR}")
