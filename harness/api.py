"""Every contract of pathprune on two screens: Problem, Path, Task, Engine, Pruner, and what they exchange.

Nothing here imports torch. A task, an engine or a pruner of somebody else needs this module and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path as FilePath
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np

Signal = Literal["text", "token_stats", "hidden", "trace", "forced"]
ASKED: frozenset[Signal] = frozenset({"hidden", "trace", "forced"})  # what a method asks an engine for
CostClass = Literal["free", "probe", "re-read", "generate"]
Quadrant = Literal["control", "external-fixed", "external-learned", "internal-fixed", "internal-learned"]


class PathpruneError(Exception):
    """Something a user can cause and mend: shown as one line that names the fix, exit code 2, no traceback."""


class UnavailableError(PathpruneError):
    """What a method needs is not there (weights, a package): within one run it is not tried again."""


@dataclass(frozen=True)
class Problem:
    """A question with its canonical answer. ``prompt`` is what the model reads, before any chat template."""

    id: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Filters apply in the order temperature, top-k, top-p; 0 and 1.0 switch them off."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        numbers = all(isinstance(getattr(self, f.name), int | float) for f in fields(self))
        if not numbers or self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or self.top_k % 1:
            raise PathpruneError(f"{self}: temperature is 0 or more, top_p in (0, 1], top_k a whole number, 0 or more")


@dataclass(frozen=True, eq=False)
class TokenStats:
    """One float16 per generated token, from the raw (temperature 1, unfiltered) next-token distribution P_t.

    All in nats. Shapes ``[T]``.
    """

    logprob: np.ndarray  # log P_t(y_t) of the token that was sampled
    confidence: np.ndarray  # DeepConf's C_t = -(1/K) sum of the K = 20 largest log P_t(j)
    entropy: np.ndarray  # -sum_v P_t(v) log P_t(v), full vocabulary
    self_certainty: np.ndarray  # KL(uniform || P_t), full vocabulary
    margin: np.ndarray  # P_t of the most likely token minus P_t of the second
    top_entropy: np.ndarray  # entropy of the K = 20 largest P_t(j), renormalised

    def cut(self, length: int) -> TokenStats:
        return TokenStats(*(getattr(self, f.name)[:length] for f in fields(self)))

    def join(self, rest: TokenStats) -> TokenStats:
        return TokenStats(*(np.concatenate([getattr(self, f.name), getattr(rest, f.name)]) for f in fields(self)))


@dataclass(frozen=True, eq=False)
class Path:
    """Generated tokens of one path, end-of-sequence token included; a prefix and a finished path are one type.

    ``finish`` is "stop" when the model ended the path itself and "length" when it was cut and can be resumed.
    ``seed`` and ``index`` name the random stream that drives it.
    """

    problem: Problem
    index: int
    seed: int
    tokens: tuple[int, ...] = ()
    text: str = ""
    stats: TokenStats | None = None
    finish: Literal["stop", "length"] = "length"

    def cut(self, length: int, decode: Callable[[Sequence[int]], str]) -> Path:
        """The first ``length`` tokens, as a launch would have returned them."""
        if length >= len(self.tokens):
            return self
        tokens = self.tokens[:length]
        stats = self.stats.cut(length) if self.stats else None
        return replace(self, tokens=tokens, text=decode(tokens), stats=stats, finish="length")


@dataclass(frozen=True)
class Cost:
    """What a method spends on a problem. Token counts are of the generator unless said otherwise."""

    generated: int = 0  # sampled tokens, those of dropped paths included
    probed: int = (
        0  # tokens appended to cached prefixes to read them: [STOP] tokens, forced answers, a last token again
    )
    reread: int = 0  # tokens another model encodes
    verifier: int = 0  # tokens another model generates
    flops: float = 0.0

    @property
    def tokens(self) -> int:
        return self.generated + self.probed + self.reread + self.verifier

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True)
class FlopModel:
    """FLOPs of a decoder: ``per_token`` = 2 x active parameters, ``attention`` = 4 x layers x heads x head_dim."""

    per_token: float
    attention: float

    def __call__(self, start: Any, stop: Any) -> Any:
        """FLOPs to compute positions ``start..stop`` over cached earlier ones; numbers or arrays."""
        count = stop - start
        return self.per_token * count + self.attention * (start + stop + 1) * count / 2


@runtime_checkable
class Task(Protocol):
    """Problems, and the judgement of an answer. Registered in the entry-point group ``pathprune.tasks``."""

    name: str
    version: str
    defaults: TaskDefaults

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]: ...

    def answer(self, text: str) -> str | None:
        """The answer a text gives, in canonical form, or None; equal strings are one vote.

        Of a path that reached the token limit it is not asked, unless the task has a method ``ended(text) -> bool``
        that says the text is complete all the same.
        """

    def correct(self, answer: str | None, problem: Problem) -> bool: ...


@dataclass(frozen=True)
class TaskDefaults:
    """The operating point of a task, fixed on calibration problems before any pruner was looked at."""

    model: str
    sampling: Sampling
    max_tokens: int
    problems: int
    prefixes: tuple[int, ...]  # prefix lengths L in tokens; the first is the one `bench` uses
    closing: str = "\n</think>\n\nThe final answer is \\boxed{"  # appended to a prefix to force an answer
    step: str = "\n\n"  # ends a reasoning step
    labels: Mapping[str, int] = field(default_factory=dict)  # the label recipe where it is not STOP's


@runtime_checkable
class Engine(Protocol):
    """A language model that samples paths. ``spec`` holds everything that decides its tokens."""

    spec: Mapping[str, Any]
    provides: frozenset[Signal]
    flops: FlopModel
    rows: int  # how many paths it likes to work on at once

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """The first ``max_tokens`` tokens of ``n`` paths for each problem; prefix KV is kept where possible."""

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """Continue cut paths to at most ``max_tokens`` generated tokens in all, as if never interrupted."""

    def decode(self, tokens: Sequence[int]) -> str: ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a text that goes on behind others: no special tokens."""

    def prompt_length(self, problem: Problem) -> int: ...


class Probing(Engine, Protocol):
    """An engine that can read hidden states: ``probe`` if it provides "hidden", ``trace`` if it provides "trace"."""

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        """Last-layer states over the cached prefix, float32, which is left bit-identical. Without adapter ``[n, 1, d]``
        at the prefix's last token; with one ``[n, t, d]`` at the last t of its T_s appended tokens, 1 <= t <= T_s."""

    def trace(self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray]) -> list[np.ndarray]:
        """``reduce(states, path)`` of every path; states float32 ``[layers + 1, T, d]`` at its T generated tokens.

        Entry 0 is the embedding output. Only what ``reduce`` returns is kept."""

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Any:
        """A trainable or loaded set of appended tokens and LoRA weights over this engine's frozen model."""


class Reader(Protocol):
    """Another language model that reads and writes text for a pruner; every token is charged to the check."""

    def generate(self, prompts: Sequence[str], max_tokens: int, n: int = 1) -> list[list[str]]:
        """``n`` texts for each prompt, which is a user message (or bare text where the model has no chat template)."""

    def choices(self, prompts: Sequence[str], texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """log P of each word's first token after prompt and text, nats, ``[len(prompts), len(words)]``."""


def _unavailable(*_: Any, **__: Any) -> Any:
    raise PathpruneError("a pruner may use this only if it declares that it needs text")


@dataclass
class Check:
    """All that a pruner may touch while it scores.

    ``engine`` is there if it needs "hidden" (``probe``), "trace" or "forced" (``force``), all metered. The rest is
    there if it needs "text": the task's ``answer`` parser and the ``closing`` that makes a path state its answer,
    the ``step`` that ends a reasoning step, and ``reader(model, sampling, engine="hf", **options)``, which opens another model.
    While it is trained, ``scratch`` is a folder of its own that outlives a kill, and ``progress(done, total, note)`` a bar.
    """

    rng: np.random.Generator
    engine: Any = None
    cost: Cost = field(default_factory=Cost)
    answer: Callable[[str], str | None] = _unavailable
    closing: str = ""
    step: str = "\n\n"
    decode: Callable[[Sequence[int]], str] = _unavailable
    reader: Callable[..., Reader] = _unavailable
    scratch: FilePath | None = None
    progress: Callable[[int, int, str], None] = lambda done, total, note: None

    def charge(self, cost: Cost) -> None:
        """Add what the method computes outside the engine: its own models' tokens and FLOPs."""
        self.cost = self.cost + cost


@runtime_checkable
class Pruner(Protocol):
    """Scores the prefixes of one problem. Registered in the entry-point group ``pathprune.pruners``.

    Optional attributes: ``cost_class`` (CostClass, default "free"), ``vote`` (name of the method's native vote in
    ``harness.vote``), ``on_request`` (why ``all-registered`` leaves it out, e.g. a download), and a method
    ``identity() -> dict`` that names external weights for the record.
    """

    quadrant: Quadrant
    needs: frozenset[Signal]
    fidelity: str

    def score(self, prefixes: Sequence[Path], check: Check) -> Sequence[float] | np.ndarray:
        """One finite number per prefix, higher means keep. Order of the prefixes must not matter."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What a decision rule of its own did to one problem's N paths, in the order given."""

    spent: np.ndarray  # int [N]: generated tokens of each path, up to its end or to where it was aborted
    weights: np.ndarray  # float [N], >= 0: the path's vote; 0 for an aborted path


@runtime_checkable
class Streaming(Protocol):
    """A method with its own decision rule instead of top-k at L, replayed on finished paths; also a pruner plugin.

    ``warmup`` paths, the first by index, always finish. What happens to any other path up to token t may depend only
    on the warm-up paths and on the first t tokens of the others.
    """

    quadrant: Quadrant
    needs: frozenset[Signal]
    fidelity: str
    warmup: int

    def decide(self, paths: Sequence[Path], check: Check) -> Decision: ...


@dataclass(frozen=True, eq=False)
class LabelledPrefix:
    """A prefix with its Monte-Carlo success rate: the share of ``continuations`` that reached the right answer."""

    prefix: Path
    success: float
    continuations: int
    validation: bool


@runtime_checkable
class Learnable(Pruner, Protocol):
    """A pruner that is trained. ``fit`` returns its metrics; ``save`` and ``load`` use a folder."""

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]: ...

    def save(self, folder: FilePath) -> None: ...

    def load(self, folder: FilePath) -> None: ...
