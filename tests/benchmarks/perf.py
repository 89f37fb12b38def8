"""Our sampling loop against transformers' ``generate``, Check's share, and peak memory.

``make perf``. Every figure is a ratio of medians within one run: both sides alternate on the same prompts and settings (N = 64
paths, temperature 1, no filter), so a noisy machine hits both. Paths end by themselves, as in use, or all have the same
number of tokens, so that every step does the same work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from harness import registry
from harness.api import Sampling
from harness.engines.identity import locate
from tasks.embedded.hands import Hands
from tests.benchmarks.lines import Lines, begun, noted
from tests.benchmarks.memory import peak, reset_peak

N = 64


def larger_model(folder: Path, tokenizer: Any) -> None:
    """A randomly initialised Llama of about 35 M parameters with a 32k vocabulary."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=2048, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def alternate(ours: Callable[[], int], theirs: Callable[[], int], repeats: int) -> tuple[list[float], list[float]]:
    """Tokens per second of each, taken in turns after one warm-up."""
    rates: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):
        for side, call in enumerate((ours, theirs)):
            began = time.perf_counter()
            tokens = call()
            rate = tokens / (time.perf_counter() - began)
            noted(f"  turn {turn or 'of warm-up'}: {('ours', 'generate')[side]} {rate:,.0f} tokens/s")
            if turn:
                rates[side].append(rate)
    return rates


def against_generate(
    model: str, prompts: int, new_tokens: int, repeats: int, fixed: bool
) -> tuple[float, float, float]:
    """(our tokens/s, generate's tokens/s, median ratio) for N paths of each of some prompts.

    ``fixed``: neither side may stop before ``new_tokens``, so both do the same work at every step. Otherwise paths end by
    themselves, as in use, and only their own tokens count.
    """
    engine = registry.engine("hf", model, Sampling(), device="cpu")
    problems = Hands().problems("dev", prompts)
    # As anybody would load it: our engine switches its own copy to another decode step.
    reference_model = AutoModelForCausalLM.from_pretrained(locate(model), dtype=torch.float32).eval()
    texts = [p.prompt for p in problems]
    encoded = engine.tokenizer(texts, return_tensors="pt", padding=True, padding_side="left")
    shape: dict[str, Any] = {"max_new_tokens": new_tokens}
    if fixed:
        engine._engine._ends = torch.tensor([], dtype=torch.long)
        shape["min_new_tokens"] = new_tokens

    def ours() -> int:
        groups = engine.launch(problems, N, new_tokens, 0)
        engine.store.clear()
        return sum(len(p.tokens) for group in groups for p in group)

    def theirs() -> int:
        out = reference_model.generate(
            encoded.input_ids, attention_mask=encoded.attention_mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=N, pad_token_id=0, **shape,
        )  # fmt: skip
        new = out[:, encoded.input_ids.shape[1] :]
        return new.numel() if fixed else int((new != 0).sum())

    mine, reference = alternate(ours, theirs, repeats)
    return median(mine), median(reference), median(m / r for m, r in zip(mine, reference, strict=True))


def check_share(repeats: int) -> tuple[float, float, float]:
    """(seconds to generate N paths, seconds of STOP's Check on their prefixes, median share)."""
    engine = registry.engine("hf", "hands", Hands().defaults.sampling, device="cpu")
    problem = Hands().problems("dev", 1)[0]
    adapter = engine.new_adapter(tokens=4, rank=16)
    spent: list[tuple[float, float]] = []
    for turn in range(repeats + 1):
        marks = [time.perf_counter()]
        prefixes = engine.launch([problem], N, 22, turn)[0]
        marks.append(time.perf_counter())
        engine.probe(prefixes, adapter)
        marks.append(time.perf_counter())
        engine.resume(prefixes, 300)
        marks.append(time.perf_counter())
        if turn:
            spent.append((marks[1] - marks[0] + marks[3] - marks[2], marks[2] - marks[1]))
    return median(g for g, _ in spent), median(c for _, c in spent), median(c / g for g, c in spent)


def peak_memory(n: int) -> float:
    """MiB that launching and finishing ``n`` paths adds to a process of its own, model and libraries loaded."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "perf", "--peak", str(n)], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def print_peak(n: int) -> None:
    engine = registry.engine("hf", "hands", Hands().defaults.sampling, device="cpu")
    problem = Hands().problems("dev", 1)
    engine.launch(problem, 2, 10, 1)
    before = reset_peak()  # loading the libraries had a higher one
    engine.resume(engine.launch(problem, n, 22, 0)[0], 300)
    print(peak() - before)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peak:
        print_peak(arguments.peak)
        return
    table = Lines(
        "model", "prompts x 64", "paths", "ours, tokens/s", "generate, tokens/s", "ratio", "goal", widths=(18, 0, 18)
    )
    with tempfile.TemporaryDirectory() as folder:
        embedded = registry.engine("hf", "hands", Sampling(), device="cpu")
        larger_model(Path(folder), embedded.tokenizer)
        cases = (
            ("hands, 1.0 M", "hands", 16, 300, False, 1.5),  # what the bench runs: 1,024 rows
            ("hands, 1.0 M", "hands", 1, 300, False, 1.5),
            ("hands, 1.0 M", "hands", 16, 128, True, 1.5),
            ("hands, 1.0 M", "hands", 1, 128, True, 1.5),
            ("random Llama, 33 M", folder, 1, 96, True, 1.0),
        )
        for name, model, prompts, tokens, fixed, goal in cases:
            begun(f"{name}, {prompts} x {N} paths")
            mine, reference, ratio = against_generate(model, prompts, tokens, arguments.repeats, fixed)
            ending = f"{tokens} tokens each" if fixed else "end by themselves"
            table.add(name, str(prompts), ending, f"{mine:,.0f}", f"{reference:,.0f}", f"{ratio:.2f}", f">= {goal}")
    generation, check, share = check_share(arguments.repeats)
    print(
        f"STOP's Check of {N} prefixes: {check * 1e3:.0f} ms, {share:.2%} of generating them ({generation:.2f} s)",
        flush=True,
    )
    for n in (64, 1024):
        print(f"peak memory added by {n} paths of one problem: {peak_memory(n):,.0f} MiB", flush=True)
