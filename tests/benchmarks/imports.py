"""A large pool of made-up statistics: seconds per GB and peak memory of importing and benching it.

``make perf NAME=imports [ARGS="--share 0.02 --problems 2"]``; the whole of it is 30 problems x 512 paths x 30,000 tokens.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

PROBLEMS, PATHS, TOKENS = 30, 512, 30_000
METHODS = "logprob,logprob-min,logprob-lowest,perplexity,deepconf,deepconf-lowest,deepconf-bottom,deepconf-tail"
RULES = "deepconf-online,deepconf-online:eta=90,deepconf-offline,deepconf-offline:top=0.1"
GIB = 1 << 30


def write(folder: Path, problems: int, paths: int, tokens: int) -> int:
    """Files of one row per path, one problem each; returns their bytes."""
    folder.mkdir()
    for number in range(problems):
        rng = np.random.default_rng(number)
        file = folder / f"problem-{number:03d}.parquet"
        with pq.ParquetWriter(file, SCHEMA, compression="zstd") as stream:
            for start in range(0, paths, 64):
                stream.write_table(_rows(rng, number, range(start, min(paths, start + 64)), tokens))
    return sum(f.stat().st_size for f in folder.iterdir())


SCHEMA = pa.schema(
    [
        ("problem_id", pa.string()), ("problem", pa.string()), ("gold", pa.string()), ("idx_answer", pa.int32()), ("text", pa.string()),
        ("pred", pa.string()), ("correct", pa.bool_()), ("logprobs", pa.list_(pa.float16())), ("confidence", pa.list_(pa.float16())),
    ]
)  # fmt: skip


def _rows(rng: np.random.Generator, number: int, indices: range, tokens: int) -> pa.Table:
    answers = rng.integers(0, 4, len(indices))
    drawn = [(-rng.exponential(0.3, tokens)).astype(np.float16) for _ in indices]
    wide = [rng.gamma(8.0, 1.5, tokens).astype(np.float16) for _ in indices]
    return pa.table(
        {
            "problem_id": [f"q{number}"] * len(indices),
            "problem": [f"problem {number}"] * len(indices),
            "gold": ["2"] * len(indices),
            "idx_answer": pa.array(indices, pa.int32()),
            "text": [f"a path of {tokens} tokens \\boxed{{{a}}}" for a in answers],
            "pred": [str(a) for a in answers],
            "correct": [bool(a == 2) for a in answers],
            "logprobs": pa.array(drawn, pa.list_(pa.float16())),
            "confidence": pa.array(wide, pa.list_(pa.float16())),
        },
        SCHEMA,
    )


def timed(label: str, size: int, work: Callable[[], Any]) -> Any:
    """Do the work, and say what it took."""
    began = time.perf_counter()
    done = work()
    seconds, peak = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(
        f"{label}: {seconds:.1f} s, {seconds / (size / 1e9):.1f} s per GB, peak memory so far {peak / GIB:.2f} GiB",
        flush=True,
    )
    return done


def main() -> None:
    """Write, import and bench the pool."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=1.0, help="of the tokens of each path")
    parser.add_argument("--problems", type=int, default=PROBLEMS)
    given = parser.parse_args()
    share, problems = given.share, given.problems
    with tempfile.TemporaryDirectory() as name:
        here, tokens = Path(name), max(64, round(TOKENS * share))
        size = write(here / "data", problems, PATHS, tokens)
        print(f"{problems} problems x {PATHS} paths x {tokens:,} tokens: {size / 1e9:.2f} GB of Parquet", flush=True)
        import pathprune as pp

        pool = timed("import", size, lambda: pp.import_pool(here / "data", "large", pools=here / "pools"))
        bench = lambda pruners: pp.bench(pruners, pool, prefix=0.2, results=here / "results")  # noqa: E731
        timed("8 methods", size, lambda: bench(METHODS))
        timed("4 rules", size, lambda: bench(RULES))
