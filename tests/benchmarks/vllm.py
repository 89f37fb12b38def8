"""Launch and resume against vLLM's own ``generate(n=64)``, and what a Check costs.

``make perf NAME=vllm``. Both sides run in one engine, in turns, on the same prompt, for the same number of tokens (no path ends by itself):
plain generation with nothing asked for, plain with 20 log-probabilities per token, and ours, which brings token
statistics over the whole vocabulary and is cut and resumed half-way. The models are the embedded one and a randomly
initialised Llama with a vocabulary of 32k, whose weights make no difference to time. Check appends STOP's tokens to 64
prefixes of L tokens; its share is of the time that generating the prefixes took.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

from tests.benchmarks.lines import Lines, begun, noted

N = 64
LENGTHS = (64, 256, 1024, 2048)


def medium(folder: Path, tokenizer: Any, context: int) -> None:
    """A random Llama of 34 M parameters (6 layers, width 512, grouped heads) and room for the longest prefix."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000, hidden_size=512, intermediate_size=1408, num_hidden_layers=6, num_attention_heads=8,
        num_key_value_heads=2, max_position_embeddings=context, bos_token_id=1, eos_token_id=2, pad_token_id=0,
        tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def adapter(model: str, folder: Path) -> None:
    """An untrained [STOP] adapter of the paper's shape: 4 tokens, LoRA on all linear layers."""
    from harness import registry
    from harness.api import Sampling

    registry.engine("hf", model, Sampling(), device="cpu").new_adapter(tokens=4, rank=16).save(folder)


def rates(engine: Any, problem: Any, tokens: int, repeats: int) -> dict[str, float]:
    """Tokens per second of each way, medians of ``repeats`` turns after a warm-up."""
    from vllm import SamplingParams

    prompt = {"prompt_token_ids": list(engine.ids(problem.prompt))}

    def plain(**options: Any) -> int:
        wanted = SamplingParams(n=N, max_tokens=tokens, temperature=1.0, ignore_eos=True, detokenize=False, **options)
        said = engine.llm.generate([prompt], wanted, use_tqdm=False)[0].outputs
        return sum(len(o.token_ids) for o in said)

    def ours(seed: int) -> int:
        half = engine.launch([problem], N, tokens // 2, seed)[0]
        return sum(len(p.tokens) for p in engine.resume(half, tokens))

    ways: dict[str, Callable[[int], int]] = {
        "plain": lambda seed: plain(),
        "plain, 20 log-probabilities": lambda seed: plain(logprobs=20, flat_logprobs=True),
        "ours, cut and resumed": ours,
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(repeats + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            rate = way(turn) / (time.perf_counter() - began)
            noted(f"  turn {turn or 'of warm-up'}: {name} {rate:,.0f} tokens/s")
            if turn:
                found[name].append(rate)
    return {name: median(values) for name, values in found.items()}


def check_shares(
    engine: Any, problem: Any, folder: Path, lengths: tuple[int, ...]
) -> Iterator[tuple[int, float, float, float]]:
    """(L, seconds of generating 64 prefixes, median seconds of Check, tokens computed per path)."""
    stop, generating = engine.new_adapter(folder), 0.0
    paths = engine.launch([problem], N, 1, 0)[0]
    engine.probe(paths, stop)  # vLLM's first request of a kind is slow
    for length in lengths:
        began = time.perf_counter()
        paths = engine.resume(paths, length)
        generating += time.perf_counter() - began
        seconds, before = [], engine.counters.computed
        for _ in range(3):
            began = time.perf_counter()
            engine.probe(paths, stop)
            seconds.append(time.perf_counter() - began)
        yield length, generating, median(seconds), (engine.counters.computed - before) / 3 / N


def main() -> None:
    from harness import registry
    from harness.api import Sampling
    from tasks.embedded.hands import Hands

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", help="another model folder, instead of the random Llama")
    args = parser.parse_args()
    problem = Hands().problems("dev", 1)[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if not args.model:
            medium(folder / "medium", registry.engine("hf", "hands", Sampling()).tokenizer, LENGTHS[-1] + 128)
        for name, where, tokens in (("hands", "hands", 256), ("larger", args.model or str(folder / "medium"), 192)):
            adapter(where, folder / f"stop-{name}")
            engine = registry.engine("vllm", where, Sampling(), block=32, memory=4)
            engine.resume([], 1)
            engine._engine.ends = []  # no path ends by itself
            begun(f"{name}: tokens per second")
            found = rates(engine, problem, tokens, args.repeats)
            speed = Lines("model", "way", "tokens / s", "of plain", "of plain with 20", widths=(6, 27))
            plain, twenty, _ = found.values()
            for way, rate in found.items():
                speed.add(name, way, f"{rate:,.0f}", f"{rate / plain:.2f}", f"{rate / twenty:.2f}")
            begun(f"{name}: STOP's Check")
            share = Lines("model", "L", "generating s", "Check s", "share", "computed tokens per path", widths=(6, 5))
            for length, generating, check, computed in check_shares(
                engine, problem, folder / f"stop-{name}", tuple(x for x in LENGTHS if x < engine.context - 100)
            ):
                share.add(
                    name,
                    f"{length:,}",
                    f"{generating:.1f}",
                    f"{check:.3f}",
                    f"{check / generating:.2%}",
                    f"{computed:.0f}",
                )
            del engine
    print(f"{os.cpu_count()} cores; {N} paths of one prompt; float32")
