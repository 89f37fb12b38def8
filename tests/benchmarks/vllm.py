"""``make perf-vllm``: launch and resume against vLLM's own ``generate(n=64)``, and what a Check costs.

Both sides run in one engine, in turns, on the same prompt, for the same number of tokens (no path ends by itself):
plain generation with nothing asked for, plain with 20 log-probabilities per token, and ours: whole paths, paths that are cut
and resumed half-way, and these with token statistics over the whole vocabulary. A ratio is the median over turns of the
ratio within a turn. The models are the embedded one and a randomly
initialised Llama with a vocabulary of 32k, whose weights make no difference to time. Check appends STOP's tokens to 64
prefixes of L tokens; its share is of the time that generating the prefixes took.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
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


def ways(engine: Any, problem: Any, tokens: int) -> dict[str, Callable[[int], int]]:
    """Ways to generate N paths of so many tokens, each a function of a seed that returns how many tokens it gave."""
    from vllm import SamplingParams

    prompt = {"prompt_token_ids": list(engine.ids(problem.prompt))}
    lean = engine.without(frozenset({"token_stats"}))

    def plain(**options: Any) -> int:
        wanted = SamplingParams(n=N, max_tokens=tokens, temperature=1.0, ignore_eos=True, detokenize=False, **options)
        outputs = engine.llm.generate([prompt], wanted, use_tqdm=False)[0].outputs
        return sum(len(o.token_ids) for o in outputs)

    def whole(ours: Any, seed: int) -> int:
        return sum(len(p.tokens) for p in ours.launch([problem], N, tokens, seed)[0])

    def halves(ours: Any, seed: int) -> int:
        half = ours.launch([problem], N, tokens // 2, seed)[0]
        return sum(len(p.tokens) for p in ours.resume(half, tokens))

    return {
        "plain": lambda seed: plain(),
        "plain, 20 log-probabilities": lambda seed: plain(logprobs=20, flat_logprobs=True),
        "ours": lambda seed: whole(lean, seed),
        "ours, cut and resumed": lambda seed: halves(lean, seed),
        "ours, cut and resumed, statistics": lambda seed: halves(engine, seed),
    }


@dataclass
class Speed:
    """What a way took in each turn, for each token: seconds on the clock and of processors."""

    seconds: list[float] = field(default_factory=list)
    processor: list[float] = field(
        default_factory=list
    )  # less noisy where others use the machine, nothing beside a GPU


def speeds(engine: Any, problem: Any, tokens: int, repeats: int) -> dict[str, Speed]:
    """Of each way, in ``repeats`` turns after a warm-up."""
    measured: dict[str, Speed] = {}
    for turn in range(repeats + 1):
        for name, way in ways(engine, problem, tokens).items():
            began, used = time.perf_counter(), time.process_time()
            done = way(turn)
            if turn:
                speed = measured.setdefault(name, Speed())
                speed.seconds.append((time.perf_counter() - began) / done)
                speed.processor.append((time.process_time() - used) / done)
    return measured


def of_plain(plain: list[float], other: list[float]) -> float:
    """Median over turns of another way's speed as a share of plain generation's in the same turn."""
    return median(p / o for p, o in zip(plain, other, strict=True))


def check_shares(
    engine: Any, problem: Any, folder: Path, lengths: tuple[int, ...]
) -> list[tuple[int, float, float, float]]:
    """(L, seconds of generating 64 prefixes, median seconds of Check, tokens computed per path)."""
    stop, out, generating = engine.new_adapter(folder), [], 0.0
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
        noted(f"  L = {length}: generated in {generating:.1f} s, Check {median(seconds):.3f} s")
        out.append((length, generating, median(seconds), (engine.counters.computed - before) / 3 / N))
    return out


def main() -> None:
    from harness import registry
    from harness.api import Sampling
    from tasks.embedded.hands import Hands

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=("hands", "larger"), help="one of the two models")
    parser.add_argument("--tokens", type=int, help="of a path, instead of 256 and 192")
    parser.add_argument("--no-check", action="store_true", help="leave out what a Check costs")
    parser.add_argument("--model", help="another model folder, instead of the random Llama")
    args = parser.parse_args()
    problem = Hands().problems("dev", 1)[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if not args.model:
            medium(folder / "medium", registry.engine("hf", "hands", Sampling()).tokenizer, LENGTHS[-1] + 128)
        for name, where, tokens in (("hands", "hands", 256), ("larger", args.model or str(folder / "medium"), 192)):
            if args.only not in (None, name):
                continue
            adapter(where, folder / f"stop-{name}")
            engine = registry.engine("vllm", where, Sampling(), block=32, memory=4)
            engine.resume([], 1)
            engine._engine.ends = []  # no path ends by itself
            begun(f"{name}: tokens per second")
            measured = speeds(engine, problem, args.tokens or tokens, args.repeats)
            plain = measured["plain"]
            speed = Lines("model", "way", "tokens / s", "of plain", "by processor time", widths=(6, 33))
            for way, taken in measured.items():
                shares = of_plain(plain.seconds, taken.seconds), of_plain(plain.processor, taken.processor)
                speed.add(name, way, f"{1 / median(taken.seconds):,.0f}", *(f"{s:.3f}" for s in shares))
            begun(f"{name}: STOP's Check")
            share = Lines("model", "L", "generating s", "Check s", "share", "computed tokens per path", widths=(6, 5))
            for length, generating, check, computed in check_shares(
                engine,
                problem,
                folder / f"stop-{name}",
                () if args.no_check else tuple(x for x in LENGTHS if x < engine.context - 100),
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
