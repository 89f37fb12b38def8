"""The contracts of pathprune: Problem, Path, Task, Engine, Pruner, and the types that they exchange.

This module does not import torch. A third-party task, engine or pruner needs to import nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from pathlib import Path as FilePath
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np

Signal = Literal["text", "token_stats", "hidden", "trace", "forced", "rewards"]
ASKED: frozenset[Signal] = frozenset({"hidden", "trace", "forced"})  # what a method asks an engine for
Role = Literal["method", "control", "closed-form", "oracle", "own-rule"]  # what a row of a table is
ROLES: tuple[Role, ...] = get_args(Role)
CostClass = Literal["free", "probe", "re-read", "generate"]
Quadrant = Literal["control", "external-fixed", "external-learned", "internal-fixed", "internal-learned"]
RankedBy = Literal["paths", "votes"]
Origin = Literal["code", "paper", "adapted", "ours"]
Order = Literal["sequential", "parallel"]


class PathpruneError(Exception):
    """An error that the user can fix. Shown as one line that names the fix, with exit code 2 and no traceback."""


class UnavailableError(PathpruneError):
    """Something that a method needs is missing, such as weights or a package. It is not tried again in the same run."""


@dataclass(frozen=True)
class Problem:
    """A question with its canonical answer. ``prompt`` is the text before any chat template is applied."""

    id: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Origins:
    """The origin of each part of a method. The fidelity label follows from them.

    ``signal`` is what the method measures, ``decision`` how it acts on the paths, ``training`` how its weights were trained
    (empty: no training). Each is "code" (as in the authors' code; a test compares the numbers), "paper" (as described in
    the paper), "adapted" (changed or not verifiable; the docstring states how) or "ours". ``by`` names the authors of a
    re-implementation that was published under the original method's name.
    """

    signal: Origin = "ours"
    decision: Origin = "ours"
    training: Origin | Literal[""] = ""
    by: str = ""

    def __post_init__(self) -> None:
        for part, origin in self.parts.items():
            if origin not in get_args(Origin):
                raise PathpruneError(f"origins: {part} must be one of {', '.join(get_args(Origin))}, not {origin!r}")

    @property
    def parts(self) -> dict[str, str]:
        """The origin of each part; a method without training has no such part."""
        named = {"signal": self.signal, "decision": self.decision, "training": self.training}
        return {part: origin for part, origin in named.items() if part != "training" or origin}

    @property
    def fidelity(self) -> str:
        """The label in tables: exact, paper-specified, adapted (which parts), as re-implemented by ..., or definition."""
        if self.by:
            return f"as re-implemented by {self.by}"
        origins = set(self.parts.values())
        if origins == {"ours"}:
            return "definition"
        if origins == {"code"}:
            return "exact"
        foreign = [part for part, origin in self.parts.items() if origin in ("adapted", "ours")]
        return f"adapted ({', '.join(foreign)})" if foreign else "paper-specified"


@dataclass(frozen=True)
class Sampling:
    """How tokens are sampled: temperature, then top-k, then top-p.

    Temperature 0 is greedy decoding. ``top_k`` 0 and ``top_p`` 1.0 switch the filters off.

    Raises:
        PathpruneError: a value out of range.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        given = [getattr(self, f.name) for f in fields(self)]
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
        whole = isinstance(self.top_k, int)
        if not (
            numbers and whole and 0 <= self.temperature <= 1000 and 0 < self.top_p <= 1 and 0 <= self.top_k < 2**31
        ):
            raise PathpruneError(
                f"{self}: temperature must be from 0 to 1000, top_p in (0, 1], and top_k an integer of 0 or more"
            )


MOST_TOKENS, MOST_FLOPS = 2**53 - 1, 1e100  # per problem: token sums stay exact, FLOPs and their squares finite
STATISTICS = ("logprob", "confidence", "entropy", "self_certainty", "margin", "top_entropy")


class TokenStats:
    """One float16 per generated token, from the raw (temperature 1, unfiltered) next-token distribution P_t.

    Each statistic has shape ``[T]``; the unit is nats, except for ``margin``, a difference of probabilities. An engine
    may lack some of them. Reading a missing statistic raises ``UnavailableError``, so no score is computed from a
    placeholder; ``known`` lists the available ones. The arrays are read-only; copy one to change it.
    """

    logprob: np.ndarray  # log P_t(y_t) of the token that was sampled
    confidence: np.ndarray  # DeepConf's C_t = -(1/K) sum of the K = 20 largest log P_t(j)
    entropy: np.ndarray  # -sum_v P_t(v) log P_t(v), full vocabulary
    self_certainty: np.ndarray  # KL(uniform || P_t), full vocabulary
    margin: np.ndarray  # P_t of the most likely token minus P_t of the second
    top_entropy: np.ndarray  # entropy of the K = 20 largest P_t(j), renormalised

    def __init__(
        self,
        logprob: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
        entropy: np.ndarray | None = None,
        self_certainty: np.ndarray | None = None,
        margin: np.ndarray | None = None,
        top_entropy: np.ndarray | None = None,
    ) -> None:
        values = (logprob, confidence, entropy, self_certainty, margin, top_entropy)
        self.__dict__.update((n, _frozen(n, v)) for n, v in zip(STATISTICS, values, strict=True) if v is not None)
        if len({len(v) for v in self.__dict__.values()}) > 1:
            raise ValueError(f"token statistics differ in length: { {n: len(v) for n, v in self.__dict__.items()} }")

    def __getattr__(self, name: str) -> np.ndarray:
        if name in STATISTICS:
            raise UnavailableError(
                f"these paths have no token statistic {name!r}; they have {', '.join(self.known) or 'none'}"
            )
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError("token statistics are read-only")

    @property
    def known(self) -> tuple[str, ...]:
        """Names of the available statistics, in the order of ``STATISTICS``."""
        return tuple(n for n in STATISTICS if n in self.__dict__)

    def cut(self, length: int) -> TokenStats:
        """The statistics of the first ``length`` tokens."""
        return TokenStats(**{n: getattr(self, n)[:length] for n in self.known})

    def join(self, rest: TokenStats) -> TokenStats:
        """These statistics followed by ``rest``; only the statistics that both have."""
        both = [n for n in self.known if n in rest.known]
        return TokenStats(**{n: np.concatenate([getattr(self, n), getattr(rest, n)]) for n in both})


def _frozen(name: str, values: Any) -> np.ndarray:
    """A read-only array backed by bytes, which cannot be made writable again; such an array is not copied."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise ValueError(f"token statistic {name} is {array.dtype} of shape {array.shape}, not one number per token")
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return array if isinstance(root.base, bytes) else np.frombuffer(array.tobytes(), array.dtype)


@dataclass(frozen=True, eq=False)
class Path:
    """The generated tokens of one path, end-of-sequence token included. Prefixes and finished paths share this type.

    ``finish`` is "stop" if the model ended the path, and "length" if the path was cut and can be resumed. ``seed`` and
    ``index`` identify its random stream. ``given`` lists the tokens that the model read but did not sample, such as tool
    output: ascending spans ``(start, stop)`` of ``tokens``, none at the end. A length L, a token limit and ``stats`` count
    the sampled tokens only (``drawn``). A given token occupies a position of the random stream but uses no random number.
    """

    problem: Problem
    index: int
    seed: int
    tokens: tuple[int, ...] = ()
    text: str = ""
    stats: TokenStats | None = None
    finish: Literal["stop", "length"] = "length"
    given: tuple[tuple[int, int], ...] = ()

    @property
    def drawn(self) -> int:
        """Number of tokens that the model sampled."""
        return len(self.tokens) - sum(stop - start for start, stop in self.given)

    def place(self, length: int) -> int:
        """Index in ``tokens`` just after the first ``length`` sampled tokens, before any given tokens that follow."""
        for start, stop in self.given:
            if length <= start:
                break
            length += stop - start
        return length

    def cut(self, length: int, decode: Callable[[Sequence[int]], str]) -> Path:
        """The first ``length`` sampled tokens and the given tokens between them, as a launch would have returned them."""
        if length >= self.drawn:
            return self
        place = self.place(length)
        stats = self.stats.cut(length) if self.stats is not None else None
        given = tuple(span for span in self.given if span[0] < place)
        tokens = self.tokens[:place]
        return replace(self, tokens=tokens, text=decode(tokens), stats=stats, finish="length", given=given)


def pieces(paths: Sequence[Path]) -> list[Sequence[Hashable]]:
    """The token ids of each path; the words of every path if the ids of at least one were not recorded.

    Raises:
        UnavailableError: imported paths with neither ids nor texts.
    """
    try:
        return [tuple(p.tokens) for p in paths]
    except UnavailableError:
        return [getattr(p.tokens, "words", ()) for p in paths]


@dataclass(frozen=True)
class Reward:
    """A reward model's recorded score of the first ``position`` tokens of a path."""

    position: int
    score: float


@dataclass(frozen=True)
class Cost:
    """The cost of a method on one problem. Tokens are the generator's unless stated otherwise."""

    generated: int = 0  # sampled tokens, dropped paths included
    # Tokens fed, not sampled: a cached prefix's last token, [STOP] tokens, forced answers, prefixes re-encoded for states, tool output.
    probed: int = 0
    reread: int = 0  # tokens that another model encodes; a shared prefix counts once if that model can share it
    verifier: int = 0  # tokens that another model generates
    flops: float = 0.0

    @property
    def tokens(self) -> int:
        """Sum of all token counts."""
        return self.generated + self.probed + self.reread + self.verifier

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def checked(self) -> Cost:
        """The cost converted to Python numbers.

        Raises:
            PathpruneError: a negative, fractional, non-finite or too large value.
        """
        plain: dict[str, Any] = {}
        given: dict[str, Any] = vars(self)
        for name, value in given.items():
            value = value.item() if isinstance(value, np.generic) else value  # a float16 compares as one
            is_number = isinstance(value, Real)
            most = MOST_FLOPS if name == "flops" else MOST_TOKENS
            if is_number and most < value < math.inf:
                raise PathpruneError(f"a cost's {name} must be at most {most:g}")
            if not is_number or not 0 <= value <= most:
                raise PathpruneError(f"a cost must be finite and 0 or more, not {name}={value!r}")
            if name != "flops" and value != int(value):
                raise PathpruneError(f"a cost in tokens must be an integer, not {name}={value!r}")
            plain[name] = float(value) if name == "flops" else int(value)
        return Cost(**plain)


@dataclass(frozen=True)
class FlopModel:
    """FLOPs of a decoder: ``per_token`` = 2 x active parameters, ``attention`` = 4 x layers x heads x head_dim."""

    per_token: float
    attention: float

    def __call__(self, start: Any, stop: Any) -> Any:
        """FLOPs to compute positions ``start`` to ``stop`` (exclusive) over the cached earlier ones; numbers or arrays."""
        count = stop - start
        return self.per_token * count + self.attention * (start + stop + 1) * count / 2


@runtime_checkable
class Task(Protocol):
    """Problems and the grading of answers. Registered in the entry-point group ``pathprune.tasks``.

    ``version`` must change whenever problems, grading, ``defaults.closing`` or ``defaults.step`` change: records of
    different versions are never mixed. A class that inherits from this one gets the defaults of ``ended`` and ``recorded``.
    """

    name: str
    version: str
    defaults: TaskDefaults

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        """At most ``n`` problems of a split, starting at number ``start``; None: all of them.

        Splits are "test", "dev" and "label". The same call must return the same problems, and splits must not overlap;
        only a task without dev problems of its own may return its test problems as "dev".

        Raises:
            UnavailableError: the task has no such split, and the message says how to give it one.
        """

    def answer(self, text: str) -> str | None:
        """The answer in a text, in canonical form, or None. Equal strings count as the same answer in a vote."""

    def correct(self, answer: str | None, problem: Problem) -> bool:
        """Whether an answer, as ``answer`` returns it, is right. None never is."""

    def ended(self, text: str) -> bool:
        """Whether the text of a path is complete although the path reached the token limit.

        Optional. A path that is cut off has no answer, unless this returns True, for example because a stop string
        occurs in the text.
        """
        return False

    def recorded(self, path: Path) -> tuple[str | None, bool] | None:
        """The stored answer of a finished path and whether it is right.

        Optional. None (the default): the answer is parsed from the text and graded.
        """
        return None


END_OF_THINKING = "\n</think>\n\n"


@dataclass(frozen=True)
class TaskDefaults:
    """The operating point of a task, fixed on calibration problems before any pruner was run."""

    model: str
    sampling: Sampling
    max_tokens: int
    problems: int
    prefixes: tuple[int, ...]  # prefix lengths L in tokens; the first is the one `bench` uses
    closing: str = END_OF_THINKING + "The final answer is \\boxed{"  # appended to a prefix to force an answer
    step: str = "\n\n"  # ends a reasoning step
    labels: Mapping[str, int] = field(default_factory=dict)  # label recipe, where it differs from STOP's
    engine: Mapping[str, Any] = field(default_factory=dict)  # default options of the engine


@dataclass(frozen=True)
class Heads:
    """Common prefixes ("heads") of some prompts, as token ids.

    ``new``: the heads to compute, each with the number of its leading tokens that an earlier head covers. ``of``: for
    each prompt the longest head that it starts with, () for none.
    """

    new: tuple[tuple[tuple[int, ...], int], ...] = ()
    of: tuple[tuple[int, ...], ...] = ()


@runtime_checkable
class Engine(Protocol):
    """A language model that samples paths. Registered in the entry-point group ``pathprune.engines``.

    The registered factory is called as ``open(model, sampling, **options)``. Inherit from this class to get the defaults of
    optional members. Every engine must define the methods without a default, ``spec``, ``provides`` and ``flops``.

    ``spec``: everything that determines the tokens, as JSON. Two engines with equal specs sample equal paths. Tables read
    the keys ``engine`` and ``model`` (names), ``fingerprint`` (of the weights, any string), ``dtype`` and ``sampling``
    (``dataclasses.asdict(sampling)``).
    ``provides``: the available signals. "text" requires ``decode``; "token_stats" paths with ``stats``; "forced"
    ``encode``; "hidden" and "trace" the methods of ``Probing``; "rewards" ``rewards``.
    ``flops``: FLOPs per token. ``rows``: preferred number of paths per batch. ``closing``: the text that ends the model's
    thinking, if known; it replaces the start of a task's closing.
    """

    spec: Mapping[str, Any]
    provides: frozenset[Signal]
    flops: FlopModel
    rows: int = 256
    closing: str = ""

    @property
    def fingerprint(self) -> str:
        """Identifies the weights. A learned pruner's checkpoint belongs to one fingerprint."""
        return str(self.spec["fingerprint"])

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """Sample the first ``max_tokens`` tokens of ``n`` paths per problem, with indices 0 to n - 1.

        The tokens of a path depend on (seed, problem.id, index) only, not on ``n`` or on the rest of the batch. The KV
        cache of prefixes is kept where possible.
        """

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """Continue cut paths to at most ``max_tokens`` generated tokens in total, as if never interrupted.

        Returns the paths in the order given. A path that has stopped or already has that many tokens is returned
        unchanged. A path without tokens is started.
        """

    def without(self, signals: frozenset[Signal]) -> Engine:
        """An engine that samples the same paths without these signals; itself if leaving them out saves nothing."""
        return self

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens."""

    def prompt_length(self, problem: Problem) -> int:
        """Number of tokens of the problem's prompt, chat template included."""

    def thinking(self, problem: Problem) -> int:
        """Distance in tokens from the tag that opens thinking to the prompt's end: 1 if ``<think>`` is last, 0 if there is none."""
        return 0

    def encode(self, text: str) -> tuple[int, ...]:
        """Token ids of a text that continues others, without special tokens. Needed for "forced" and for readers."""
        raise PathpruneError(f"engine {self.spec['engine']} does not encode text, which this needs")

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        """Log-probability of each of ``tokens`` as the next token, in nats, float32 ``[len(paths), len(tokens)]``. For judges."""
        raise PathpruneError(
            f"engine {self.spec['engine']} does not provide log-probabilities of chosen tokens, which this needs"
        )

    def rewards(self, path: Path) -> Mapping[str, Sequence[Reward]]:
        """Recorded reward-model scores of a stored path, by model name and ascending position, none beyond ``path``.

        Raises:
            UnavailableError: no score was recorded for this path; the message states why.
        """
        raise UnavailableError(f"engine {self.spec['engine']} has no recorded rewards, which this needs")

    def share(self, problems: Sequence[Problem], known: Sequence[tuple[int, ...]] = ()) -> Heads:
        """Compute the common prefixes of the prompts of ``problems`` once, for later calls; ``known`` ones are cached already.

        Optional. An engine that shares nothing returns no heads, and the prompts that it reads are charged in full.
        """
        return Heads(of=((),) * len(problems))

    def describe(self) -> dict[str, str]:
        """The hardware and software, for records of timed runs: ``device`` and versions."""
        return {"device": "not stated"}


class Probing(Engine, Protocol):
    """An engine that can read hidden states: ``probe`` if it provides "hidden", ``trace`` if it provides "trace"."""

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        """Last-layer hidden states over the cached prefix, float32. The cache is left bit-identical.

        Returns:
            Without an adapter ``[n, 1, d]``, at the prefix's last token. With one ``[n, t, d]``, at the last t of its T_s
            appended tokens, 1 <= t <= T_s.
        """

    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        """``reduce(states, path)`` of every path, with the hidden states of all layers; only its results are kept.

        Args:
            paths: prefixes of T generated tokens each.
            reduce: called with states float32 ``[layers + 1, before + T, d]``; entry 0 is the embedding output.
            before: number of the prompt's last tokens whose states come first. The last of them produced the first
                generated token.
        """

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Adapter:
        """Appended tokens and LoRA weights over this engine's frozen model, loaded from ``folder`` or new and trainable.

        Args:
            folder: a saved adapter; None for a new one.
            options: of a new adapter: ``tokens`` T_s, ``rank`` and ``alpha`` of the LoRA, ``dropout``, ``seed``, ``targets``
                (names of linear layers, joined with +) and ``experts`` (also adapt fused experts).
        """

    def reader(self, paths: Sequence[Path], adapter: Adapter) -> Callable[[Any], Any]:
        """For training: a function that maps indices ``[b]`` to the adapter's states ``[b, T_s, d]`` on those paths, with gradient."""


class Adapter(Protocol):
    """The result of ``Probing.new_adapter``: ``tokens`` = T_s appended tokens, and the LoRA's number of parameters."""

    @property
    def tokens(self) -> int: ...

    @property
    def low_rank_parameters(self) -> int: ...


TURN = "\x1e"  # in a prompt, ``TURN role TURN`` starts a "system", "user" or "assistant" turn; a text without any is a user turn
PREFILL = f"{TURN}assistant{TURN}"  # as a prompt's last turn: the text after it is the start of the answer


class Reader(Protocol):
    """Another language model that a pruner uses to score or generate text. Every token is charged to the check."""

    def generate(self, prompts: Sequence[str], max_tokens: int, n: int = 1, then_read: bool = False) -> list[list[str]]:
        """Sample ``n`` texts for each prompt.

        Args:
            prompts: user messages, or plain texts if the model has no chat template. Text after ``PREFILL`` is the start of
                the answer; the returned texts continue it.
            max_tokens: limit of each text.
            n: texts per prompt.
            then_read: keep the KV cache of these texts, because ``choices`` continues from them; it is not charged again.
        """

    def choices(self, prompts: Sequence[str], texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """Log-probability of each word's first token after prompt and text, in nats, ``[len(prompts), len(words)]``."""

    def load(self) -> None:
        """Load the model now instead of at first use. Call it in ``Pruner.prepare``."""


def _unavailable(*_: Any, **__: Any) -> Any:
    raise PathpruneError("a pruner may use this only if it declares that it needs text")


def _unasked(paths: Sequence[Path], length: int) -> Any:
    raise PathpruneError("a decision rule may use this only if its member scorer names the pruner that scores")


def _unrecorded(path: Path) -> Any:
    raise PathpruneError("a pruner may use this only if it declares that it needs rewards")


@dataclass
class Check:
    """Everything that a pruner may use while it scores. Availability follows from the signals that it needs.

    "hidden", "trace" and "forced": ``engine``, metered, with ``probe``, ``trace`` and ``force``.
    "text": the task's ``answer`` parser; ``final(path)``, the answer with which a finished path votes (None if the path was
    cut off or gives none); ``closing``, the text that makes this model state its answer; ``step``, the text that ends a
    reasoning step; and ``reader(model, sampling, engine="hf", **options)``, which opens another model.
    "rewards": ``rewards(path)``, the recorded reward-model scores of the path, by model name.
    A decision rule with a ``scorer``: ``score(paths, length)``, float32 scores of the first ``length`` tokens of some of its
    paths, charged as the scorer charges them.
    During training: ``scratch``, a folder that persists if the process is killed, and ``progress(done, total, note)``.
    """

    rng: np.random.Generator
    engine: Any = None
    cost: Cost = field(default_factory=Cost)
    each: dict[int, Cost] = field(default_factory=dict)  # by path index, the part of ``cost`` that belongs to the path
    once: Cost = field(default_factory=Cost)  # the part of ``cost`` that later checks of the problem do not pay again
    cold: int | None = None  # tokens if nothing were shared between texts; None: no text was read
    cold_each: dict[int, int] = field(
        default_factory=dict
    )  # by path index, the part of ``cold`` that belongs to the path
    known: dict[Any, Any] = field(default_factory=dict)  # results that earlier checks of the problem have paid for
    device: str = ""  # of the engine, as torch names it; "" if it has none
    answer: Callable[[str], str | None] = _unavailable
    final: Callable[[Path], str | None] = _unavailable
    closing: str = ""
    step: str = "\n\n"
    decode: Callable[[Sequence[int]], str] = _unavailable
    reader: Callable[..., Reader] = _unavailable
    rewards: Callable[[Path], Mapping[str, Sequence[Reward]]] = _unrecorded
    score: Callable[[Sequence[Path], int], np.ndarray] = _unasked
    scratch: FilePath | None = None
    progress: Callable[[int, int, str], None] = lambda done, total, note: None

    def charge(self, cost: Cost, path: Path | None = None, cold: int | None = None, once: bool = False) -> None:
        """Charge a computation outside the engine: tokens and FLOPs of the method's own models.

        Args:
            cost: the tokens and FLOPs spent.
            path: the path that the cost belongs to. None: the problem (a shared prompt), however many paths are scored.
            cold: the tokens that a text-reading method would spend if nothing were shared.
            once: later checks of the same problem do not pay this again; the method must then look in ``known`` first.

        Raises:
            PathpruneError: an invalid cost, such as negative tokens, or an invalid path.
        """
        if not isinstance(cost, Cost):
            raise PathpruneError(f"charge() takes a Cost, not {cost!r}")
        if path is not None and not isinstance(path, Path):
            raise PathpruneError(f"charge() takes one of the scored paths or None as path, not {path!r}")
        cost = cost.checked()
        self.cost = self.cost + cost
        if once:
            self.once = self.once + cost
        if path is not None:
            self.each[path.index] = self.each.get(path.index, Cost()) + cost
        if cold is not None:
            cold = Cost(reread=cold).checked().reread
            self.cold = (self.cold or 0) + cold
            if path is not None:
                self.cold_each[path.index] = self.cold_each.get(path.index, 0) + cold


@runtime_checkable
class Pruner(Protocol):
    """Scores the prefixes of one problem. Registered in the entry-point group ``pathprune.pruners``.

    Every pruner must define ``quadrant``, ``needs`` and ``score``. Inherit from this class to get the defaults of the other
    members; a class that does not inherit may omit them.

    ``needs``: the signals that it reads.
    ``origins``: the origin of each part, which determines the fidelity label. ``fidelity``: a label used without ``origins``.
    ``vote``: its native vote over the kept paths, a name in ``harness.vote``.
    ``cost_class``: the kind of computation that a Check needs.
    ``pointwise``: True if the score of a prefix depends on that prefix alone. Any schedule of cuts can then be replayed.
    ``keeps_all``: True if it keeps every path, whatever number is requested.
    ``closed_form``: the control that reports compute exactly instead of running it, "all" or "random".
    ``on_request``: why ``all-registered`` leaves it out, such as a download.
    ``ranked_by``: whether its gain in a table counts right "paths" or right "votes" (for methods that prune redundancy).
    """

    quadrant: Quadrant
    needs: frozenset[Signal]
    origins: Origins | None = None
    fidelity: str = "not stated"
    ranked_by: RankedBy = "paths"
    vote: str = "majority"
    cost_class: CostClass = "free"
    pointwise: bool = False
    keeps_all: bool = False
    closed_form: str = ""
    on_request: str = ""

    def score(self, prefixes: Sequence[Path], check: Check) -> Sequence[float] | np.ndarray:
        """One finite score per prefix, ``[n]``; the highest are kept. The order of the prefixes must not matter."""

    def identity(self) -> dict[str, Any]:
        """Identifies the external weights that it uses, as JSON, for the record."""
        return {}

    def prepare(self, check: Check) -> None:
        """Load adapters and other models before a timed Check. Must not do anything that is charged."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The outcome of a decision rule for the N paths of one problem, in the order given."""

    spent: np.ndarray  # int [N]: generated tokens of each path, up to its end or to the point where it was aborted
    weights: np.ndarray  # float [N], >= 0: the path's vote; 0 for an aborted path


@runtime_checkable
class Streaming(Protocol):
    """A method with its own decision rule instead of top-k at L, replayed on finished paths. Registered like a pruner.

    The first ``warmup`` paths by index always finish. The fate of any other path up to token t may depend only on the
    warm-up paths and on the first t tokens of the others. A ``sequential`` rule generates ``batch`` paths at a time; its
    decisions and votes may also depend on all paths of earlier batches. A path that is never started has spent 0 tokens.
    Latency follows: the warm-up is one round of generation; the other paths are one more round, or one per batch if the
    rule is sequential.

    ``scorer``: a pruner or a pruner's spec that scores paths one by one (pointwise). The rule can query it with
    ``Check.score``, inherits its needs, and belongs to its quadrant.
    """

    quadrant: Quadrant
    needs: frozenset[Signal]
    warmup: int
    sequential: bool = False
    batch: int = 1
    origins: Origins | None = None
    fidelity: str = "not stated"
    ranked_by: RankedBy = "paths"
    vote: str = "majority"
    cost_class: CostClass = "free"
    on_request: str = ""
    scorer: Any = None

    def decide(self, paths: Sequence[Path], check: Check) -> Decision:
        """The decision for the problem's paths, one entry per path in the order given."""

    def identity(self) -> dict[str, Any]:
        """Identifies the external weights that it uses, as JSON, for the record."""
        return {}


class Tally:
    """The input of a stopping rule: the answers of the paths that have finished so far, in order of finishing.

    ``answers``: one entry per path, None without an answer. ``counts``: votes by answer. ``leader``: the leading answer.
    ``first`` and ``second``: votes of the two leading answers, 0 if there is none. ``answered``: number of paths with an
    answer.
    """

    def __init__(self) -> None:
        self.answers: list[Hashable] = []
        self.counts: dict[Hashable, int] = {}
        self.leader: Hashable = None
        self.first = self.second = self.answered = 0

    def add(self, answer: Hashable) -> None:
        """Count the answer of one more finished path."""
        self.answers.append(answer)
        if answer is None:
            return
        self.answered += 1
        votes = self.counts[answer] = self.counts.get(answer, 0) + 1
        if answer == self.leader or not self.first:
            self.leader, self.first = answer, votes
        elif votes > self.first:
            self.leader, self.first, self.second = answer, votes, self.first
        elif votes > self.second:
            self.second = votes


@runtime_checkable
class Stopping(Protocol):
    """A rule that decides when enough paths have finished. Registered like a pruner; used alone (``asc``) or after a scorer (``stop+asc``).

    It sees only the answers of finished paths, so it can be replayed on any pool. Paths that have finished when it stops
    have one vote each.
    ``order`` "sequential": ``batch`` paths are generated at a time, by index or, after a scorer, from the highest score down;
    the rule is evaluated after each batch. "parallel": all paths are generated at once, the rule is evaluated whenever
    paths finish, and paths that are still running when it stops are aborted at that token.
    ``grid``: by option, the values that a frontier tries.
    """

    quadrant: Quadrant
    order: Order = "sequential"
    batch: int = 1
    grid: Mapping[str, Sequence[Any]] = {}
    origins: Origins | None = None
    fidelity: str = "not stated"
    on_request: str = ""

    def stops(self, tally: Tally) -> bool:
        """Whether enough paths have finished."""


@dataclass(frozen=True, eq=False)
class LabelledPrefix:
    """A prefix with its Monte Carlo success rate: the share of its ``continuations`` that reached the right answer.

    ``validation``: held out from training.
    """

    prefix: Path
    success: float
    continuations: int
    validation: bool


@runtime_checkable
class Learnable(Pruner, Protocol):
    """A pruner that is trained. ``labels`` is the kind of label: "monte-carlo", "single" or "outcome"."""

    labels: str

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        """Train on ``examples``; returns the metrics for the checkpoint's card, as JSON."""

    def save(self, folder: FilePath) -> None:
        """Write the learned weights; the folder may not exist yet."""

    def load(self, folder: FilePath) -> None:
        """Load the weights that ``save`` wrote."""
