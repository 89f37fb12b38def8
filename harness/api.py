"""Every contract of pathprune on two screens: Problem, Path, Task, Engine, Pruner, and what they exchange.

Nothing here imports torch. A task, an engine or a pruner of somebody else needs this module and no other.
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
class Origins:
    """Whose each part of a method is; how close the method is to what was published follows from that.

    ``signal`` is what it measures, ``decision`` what it does with the paths, ``training`` how its weights came about (empty:
    it trains none). Each is "code" (what the authors' code does, held to its numbers by a test), "paper" (what the paper
    says), "adapted" (changed, or not verifiable: the docstring says what) or "ours". ``by`` names who published the
    method anew, under the name of another one.
    """

    signal: Origin = "ours"
    decision: Origin = "ours"
    training: Origin | Literal[""] = ""
    by: str = ""

    def __post_init__(self) -> None:
        for part, origin in self.parts.items():
            if origin not in get_args(Origin):
                raise PathpruneError(f"origins: {part} is one of {', '.join(get_args(Origin))}, not {origin!r}")

    @property
    def parts(self) -> dict[str, str]:
        """The parts that there are, with their origins."""
        named = {"signal": self.signal, "decision": self.decision, "training": self.training}
        return {part: origin for part, origin in named.items() if part != "training" or origin}

    @property
    def fidelity(self) -> str:
        """The label of a table: exact, paper-specified, adapted (what of it), as re-implemented by ..., or definition."""
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
    """How tokens are drawn. Filters apply in the order temperature, top-k, top-p; 0 and 1.0 switch them off."""

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
                f"{self}: temperature is from 0 to 1000, top_p in (0, 1], top_k a whole number, 0 or more"
            )


MOST_TOKENS, MOST_FLOPS = 2**53 - 1, 1e100  # of a problem: sums and squares of them stay exact, or finite
STATISTICS = ("logprob", "confidence", "entropy", "self_certainty", "margin", "top_entropy")


class TokenStats:
    """One float16 per generated token, from the raw (temperature 1, unfiltered) next-token distribution P_t.

    All in nats, shapes ``[T]``. Each statistic may be missing: an engine gives those that it has, by name. Reading one
    that is missing raises ``UnavailableError``, so that no score is ever made of a number that nobody measured;
    ``known`` names those that are there. The arrays are read-only for good: whoever wants to change one takes a copy.
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
            raise ValueError(f"token statistics of unlike lengths: { {n: len(v) for n, v in self.__dict__.items()} }")

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
        """Names of the statistics that are there, in the order of ``STATISTICS``."""
        return tuple(n for n in STATISTICS if n in self.__dict__)

    def cut(self, length: int) -> TokenStats:
        """The statistics of the first ``length`` tokens."""
        return TokenStats(**{n: getattr(self, n)[:length] for n in self.known})

    def join(self, rest: TokenStats) -> TokenStats:
        """These and, behind them, those of the tokens that follow: the statistics that both have."""
        both = [n for n in self.known if n in rest.known]
        return TokenStats(**{n: np.concatenate([getattr(self, n), getattr(rest, n)]) for n in both})


def _frozen(name: str, values: Any) -> np.ndarray:
    """Numbers over bytes, which no flag makes writable again; what is that already is not copied."""
    array = np.asarray(values)
    if array.ndim != 1 or array.dtype.kind not in "fiu":
        raise ValueError(f"token statistic {name} is {array.dtype} of shape {array.shape}, not one number per token")
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return array if isinstance(root.base, bytes) else np.frombuffer(array.tobytes(), array.dtype)


@dataclass(frozen=True, eq=False)
class Path:
    """Generated tokens of one path, end-of-sequence token included; a prefix and a finished path are one type.

    ``finish`` is "stop" when the model ended the path itself and "length" when it was cut and can be resumed.
    ``seed`` and ``index`` name the random stream that drives it. ``given`` says which tokens the model read and did not write,
    as the output of a tool: spans ``(start, stop)`` of ``tokens``, ascending, none at the end. A length L, a token limit and ``stats``
    count the others, ``drawn`` of them; a given token takes a position of the random stream and no number of it.
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
        """How many of its tokens the model wrote."""
        return len(self.tokens) - sum(stop - start for start, stop in self.given)

    def place(self, length: int) -> int:
        """Where its first ``length`` drawn tokens end in ``tokens``: behind the last of them, before what is given there."""
        for start, stop in self.given:
            if length <= start:
                break
            length += stop - start
        return length

    def cut(self, length: int, decode: Callable[[Sequence[int]], str]) -> Path:
        """The first ``length`` drawn tokens and what is given between them, as a launch would have returned them."""
        if length >= self.drawn:
            return self
        place = self.place(length)
        stats = self.stats.cut(length) if self.stats is not None else None
        given = tuple(span for span in self.given if span[0] < place)
        tokens = self.tokens[:place]
        return replace(self, tokens=tokens, text=decode(tokens), stats=stats, finish="length", given=given)


def pieces(paths: Sequence[Path]) -> list[Sequence[Hashable]]:
    """What each path consists of: its token ids, or the words of all paths where nobody recorded the ids of one or more.

    Raises:
        UnavailableError: imported paths with neither ids nor texts.
    """
    try:
        return [tuple(p.tokens) for p in paths]
    except UnavailableError:
        return [getattr(p.tokens, "words", ()) for p in paths]


@dataclass(frozen=True)
class Reward:
    """A score that a reward model gave the first ``position`` tokens of a path, recorded with it."""

    position: int
    score: float


@dataclass(frozen=True)
class Cost:
    """What a method spends on a problem. Token counts are of the generator unless said otherwise."""

    generated: int = 0  # sampled tokens, those of dropped paths included
    # Fed to read: a cached prefix's last token, [STOP] tokens, forced answers, whole prefixes for their states, outputs of tools.
    probed: int = 0
    reread: int = 0  # tokens another model encodes; what texts begin with in common once, where it can share that
    verifier: int = 0  # tokens another model generates
    flops: float = 0.0

    @property
    def tokens(self) -> int:
        """All tokens, whoever computed them."""
        return self.generated + self.probed + self.reread + self.verifier

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def checked(self) -> Cost:
        """The same in plain numbers.

        Raises:
            PathpruneError: a negative or fractional number of tokens, or what is no finite number.
        """
        plain: dict[str, Any] = {}
        given: dict[str, Any] = vars(self)
        for name, value in given.items():
            value = value.item() if isinstance(value, np.generic) else value  # a float16 compares as one
            is_number = isinstance(value, Real)
            most = MOST_FLOPS if name == "flops" else MOST_TOKENS
            if is_number and most < value < math.inf:
                raise PathpruneError(f"a cost is no more than {most:g} in {name}, and this one is")
            if not is_number or not 0 <= value <= most:
                raise PathpruneError(f"a cost is 0 or more and finite, not {name}={value!r}")
            if name != "flops" and value != int(value):
                raise PathpruneError(f"a cost in tokens is a whole number, not {name}={value!r}")
            plain[name] = float(value) if name == "flops" else int(value)
        return Cost(**plain)


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
    """Problems, and the judgement of an answer. Registered in the entry-point group ``pathprune.tasks``.

    ``version`` changes whenever problems, grading, ``defaults.closing`` or ``defaults.step`` do: records of another
    version are never mixed. A class that inherits from this one has ``ended`` and ``recorded`` at their defaults.
    """

    name: str
    version: str
    defaults: TaskDefaults

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        """At most ``n`` problems of a split from number ``start`` on, all of them where ``n`` is None.

        Splits are "test", "dev" and "label". The same call gives the same problems, and no problem is in two splits.
        """

    def answer(self, text: str) -> str | None:
        """The answer a text gives, in canonical form, or None; equal strings are one vote."""

    def correct(self, answer: str | None, problem: Problem) -> bool:
        """Is this answer, as ``answer`` returns it, the problem's? None never is."""

    def ended(self, text: str) -> bool:
        """Is the text of a path complete although the token limit cut it? A path that is cut off answers nothing.

        Optional. True where an answer can be complete before the model stops, as with stop strings that are read
        afterwards.
        """
        return False

    def recorded(self, path: Path) -> tuple[str | None, bool] | None:
        """The answer of a whole path and whether it is right, where they are stored with it.

        Optional. None (the default): its text is read and judged.
        """
        return None


END_OF_THINKING = "\n</think>\n\n"


@dataclass(frozen=True)
class TaskDefaults:
    """The operating point of a task, fixed on calibration problems before any pruner was looked at."""

    model: str
    sampling: Sampling
    max_tokens: int
    problems: int
    prefixes: tuple[int, ...]  # prefix lengths L in tokens; the first is the one `bench` uses
    closing: str = END_OF_THINKING + "The final answer is \\boxed{"  # appended to a prefix to force an answer
    step: str = "\n\n"  # ends a reasoning step
    labels: Mapping[str, int] = field(default_factory=dict)  # the label recipe where it is not STOP's
    engine: Mapping[str, Any] = field(default_factory=dict)  # options of its engine where they are not given


@dataclass(frozen=True)
class Heads:
    """What some prompts begin with in common, as token ids.

    ``new``: what is to be computed, each with how many of its tokens an earlier one covers; ``of``: by prompt, the longest
    that it begins with, () for none.
    """

    new: tuple[tuple[tuple[int, ...], int], ...] = ()
    of: tuple[tuple[int, ...], ...] = ()


@runtime_checkable
class Engine(Protocol):
    """A language model that samples paths. Registered in the entry-point group ``pathprune.engines``.

    The factory that is registered is called as ``open(model, sampling, **options)``. Inherit from this class to have what is
    optional at its default; the methods without a default, ``spec``, ``provides`` and ``flops`` are every engine's own.

    ``spec``: everything that decides the tokens, as JSON: two engines of equal specs sample equal paths. Keys that tables
    read: ``engine`` and ``model`` (names), ``fingerprint`` (of the weights, any string), ``dtype``, and ``sampling`` (of
    ``dataclasses.asdict(sampling)``).
    ``provides``: the signals it can give. "text" needs ``decode``; "token_stats" that its paths carry ``stats``; "forced"
    ``encode``; "hidden" and "trace" the methods of ``Probing``; "rewards" ``rewards``.
    ``flops``: what a token costs. ``rows``: how many paths it likes to work on at once. ``closing``: what ends the model's
    thinking, where that is known; a task's closing then begins with it.
    """

    spec: Mapping[str, Any]
    provides: frozenset[Signal]
    flops: FlopModel
    rows: int = 256
    closing: str = ""

    @property
    def fingerprint(self) -> str:
        """Names the weights: a learned pruner's checkpoint belongs to one fingerprint."""
        return str(self.spec["fingerprint"])

    def launch(self, problems: Sequence[Problem], n: int, max_tokens: int, seed: int) -> list[list[Path]]:
        """The first ``max_tokens`` tokens of ``n`` paths, with index 0 to n - 1, for each problem.

        A path's tokens depend on (seed, problem.id, index) and on nothing else: not on ``n``, nor on what shares its
        batch. Prefix KV is kept where possible.
        """

    def resume(self, paths: Sequence[Path], max_tokens: int) -> list[Path]:
        """Continue cut paths to at most ``max_tokens`` generated tokens in all, as if never interrupted.

        In the order given. A path that has stopped, or is that long already, is returned as it is. A path may have no
        tokens yet: then it is launched.
        """

    def without(self, signals: frozenset[Signal]) -> Engine:
        """An engine that samples the same paths and need not give these signals; this one where that saves nothing."""
        return self

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens."""

    def prompt_length(self, problem: Problem) -> int:
        """Tokens of the problem's prompt, as the model reads it."""

    def thinking(self, problem: Problem) -> int:
        """How many tokens before its end the prompt opens the model's thinking; 0 where it does not. ``<think>`` at its end: 1."""
        return 0

    def encode(self, text: str) -> tuple[int, ...]:
        """Tokens of a text that goes on behind others: no special tokens. For "forced", and for models that read."""
        raise PathpruneError(f"engine {self.spec['engine']} does not encode text, which this needs")

    def next_logprobs(self, paths: Sequence[Path], tokens: Sequence[int]) -> np.ndarray:
        """log P of each of ``tokens`` to come next, nats, float32 ``[len(paths), len(tokens)]``. For models that judge."""
        raise PathpruneError(
            f"engine {self.spec['engine']} gives no log-probabilities of chosen tokens, which this needs"
        )

    def rewards(self, path: Path) -> Mapping[str, Sequence[Reward]]:
        """What reward models said of a stored path's beginnings, by name and ascending position, none beyond ``path``.

        Raises:
            UnavailableError: nothing was recorded up to there; says why.
        """
        raise UnavailableError(f"engine {self.spec['engine']} has no recorded rewards, which this needs")

    def share(self, problems: Sequence[Problem], known: Sequence[tuple[int, ...]] = ()) -> Heads:
        """Compute once what the prompts of ``problems`` begin with in common, for later calls; ``known`` is there already.

        Optional: an engine that shares nothing returns no heads, and prompts that it reads are charged in full."""
        return Heads(of=((),) * len(problems))

    def describe(self) -> dict[str, str]:
        """What it runs on, for records of timed runs: ``device`` and versions."""
        return {"device": "not stated"}


class Probing(Engine, Protocol):
    """An engine that can read hidden states: ``probe`` if it provides "hidden", ``trace`` if it provides "trace"."""

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        """Last-layer states over the cached prefix, float32, which is left bit-identical. Without adapter ``[n, 1, d]``
        at the prefix's last token; with one ``[n, t, d]`` at the last t of its T_s appended tokens, 1 <= t <= T_s."""

    def trace(
        self, paths: Sequence[Path], reduce: Callable[[np.ndarray, Path], np.ndarray], before: int = 0
    ) -> list[np.ndarray]:
        """``reduce(states, path)`` of every path; states float32 ``[layers + 1, T, d]`` at its T generated tokens.

        Entry 0 is the embedding output. Only what ``reduce`` returns is kept. ``before``: states ``[layers + 1, before + T, d]``,
        which begin with those at the prompt's last tokens; the last of these produced the first generated one."""

    def new_adapter(self, folder: FilePath | None = None, **options: Any) -> Adapter:
        """Appended tokens and LoRA weights over this engine's frozen model: loaded from ``folder``, or to be trained.

        ``options`` of a new one: ``tokens`` T_s, ``rank`` and ``alpha`` of the LoRA, ``dropout``, ``seed``, ``targets`` (names of
        linear layers, joined with +) and ``experts`` (fused ones, too)."""

    def reader(self, paths: Sequence[Path], adapter: Adapter) -> Callable[[Any], Any]:
        """For training: ``read(indices)`` gives the adapter's states ``[b, T_s, d]`` over those paths, with gradient."""


class Adapter(Protocol):
    """What ``Probing.new_adapter`` gives: ``tokens`` = T_s appended tokens read with a LoRA of so many parameters."""

    @property
    def tokens(self) -> int: ...

    @property
    def low_rank_parameters(self) -> int: ...


TURN = "\x1e"  # in a prompt: ``TURN role TURN`` begins a turn of "system", "user" or "assistant"; a text without any is a user's
PREFILL = f"{TURN}assistant{TURN}"  # the last turn of a prompt: behind it stands what the answer begins with


class Reader(Protocol):
    """Another language model that reads and writes text for a pruner; every token is charged to the check."""

    def generate(self, prompts: Sequence[str], max_tokens: int, n: int = 1, then_read: bool = False) -> list[list[str]]:
        """``n`` texts for each prompt, which is a user message (or bare text where the model has no chat template).

        What stands behind ``PREFILL`` in a prompt is what the model's answer begins with; texts go on behind it.
        ``then_read``: ``choices`` reads on from these texts, so that what was computed for them is kept and not paid again."""

    def choices(self, prompts: Sequence[str], texts: Sequence[str], words: Sequence[str]) -> np.ndarray:
        """log P of each word's first token after prompt and text, nats, ``[len(prompts), len(words)]``."""

    def load(self) -> None:
        """Load the model now, and not at the first text: for ``Pruner.prepare``."""


def _unavailable(*_: Any, **__: Any) -> Any:
    raise PathpruneError("a pruner may use this only if it declares that it needs text")


def _unasked(paths: Sequence[Path], length: int) -> Any:
    raise PathpruneError("a decision rule may use this only if its member scorer names the pruner that scores")


def _unrecorded(path: Path) -> Any:
    raise PathpruneError("a pruner may use this only if it declares that it needs rewards")


@dataclass
class Check:
    """All that a pruner may touch while it scores.

    ``engine`` is there if it needs "hidden" (``probe``), "trace" or "forced" (``force``), all metered. The rest is
    there if it needs "text": the task's ``answer`` parser, ``final(path)``, the answer that a finished path votes with (None
    where it was cut off or gives none), the ``closing`` that makes a path of this model state its answer, the ``step`` that ends a reasoning step, and ``reader(model, sampling, engine="hf", **options)``, which opens another model.
    ``score(paths, length)`` is there for a decision rule that has a ``scorer``: its scores of the first ``length`` tokens of
    some of the rule's paths, float32, charged as the scorer charges them.
    ``rewards(path)`` is there if it needs "rewards": what reward models said of the path's beginnings, recorded with it, by name.
    While it is trained, ``scratch`` is a folder of its own that outlives a kill, and ``progress(done, total, note)`` a bar.
    """

    rng: np.random.Generator
    engine: Any = None
    cost: Cost = field(default_factory=Cost)
    each: dict[int, Cost] = field(default_factory=dict)  # by a path's index, what of ``cost`` is its own
    once: Cost = field(default_factory=Cost)  # what of ``cost`` later checks of the same problem need not pay again
    cold: int | None = None  # tokens if nothing were shared between texts; None: no text was read
    cold_each: dict[int, int] = field(default_factory=dict)  # by a path's index, what of ``cold`` is its own
    known: dict[Any, Any] = field(default_factory=dict)  # what earlier checks of the same problem have paid for
    device: str = ""  # of the engine, as torch names it; "" where it has none
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
        """Add what the method computes outside the engine: its own models' tokens and FLOPs.

        Args:
            cost: what is spent.
            path: whom it belongs to. What is spent on no single path (a shared prompt) is charged to the problem, once,
                however many of its paths are scored.
            cold: tokens that this would be if nothing were shared, of a method that reads text.
            once: later checks of the same problem need not pay it again; such a method looks into ``known`` first.

        Raises:
            PathpruneError: what is no cost, as negative tokens, and what is no path.
        """
        if not isinstance(cost, Cost):
            raise PathpruneError(f"what is charged is a Cost, not {cost!r}")
        if path is not None and not isinstance(path, Path):
            raise PathpruneError(f"a cost is charged to one of the paths that are scored, or to none, not to {path!r}")
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

    ``quadrant``, ``needs`` and ``score`` are every pruner's own. Inherit from this class to have the rest at its default;
    a class that does not inherit may leave the same members out.

    ``needs``: the signals that it reads. ``origins``: whose its parts are, from which the table's fidelity follows;
    ``fidelity``: a label of one's own in its place.
    ``vote``: its native vote over the kept paths, a name in ``harness.vote``. ``cost_class``: what a Check costs.
    ``pointwise``: True if a prefix's score depends on that prefix alone, not on those beside it; then any schedule of
    cuts can be replayed from its scores.
    ``keeps_all``: True if it keeps every path, whatever number is asked for.
    ``closed_form``: the control that reports draw in closed form in its place, "all" or "random".
    ``on_request``: why ``all-registered`` leaves it out, such as a download.
    ``ranked_by``: what its gain in a table is of, right "paths" or right "votes": who prunes redundancy does not aim at the former.
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
        """One finite number per prefix, higher means keep. Order of the prefixes must not matter."""

    def identity(self) -> dict[str, Any]:
        """Names the external weights that it reads with, for the record, as JSON."""
        return {}

    def prepare(self, check: Check) -> None:
        """Load what scoring needs, before a timed Check: adapters, other models. Nothing that is charged belongs here."""


@dataclass(frozen=True, eq=False)
class Decision:
    """What a decision rule of its own did to one problem's N paths, in the order given."""

    spent: np.ndarray  # int [N]: generated tokens of each path, up to its end or to where it was aborted
    weights: np.ndarray  # float [N], >= 0: the path's vote; 0 for an aborted path


@runtime_checkable
class Streaming(Protocol):
    """A method with its own decision rule instead of top-k at L, replayed on finished paths; also a pruner plugin.

    ``warmup`` paths, the first by index, always finish. What happens to any other path up to token t may depend only
    on the warm-up paths and on the first t tokens of the others; of a ``sequential`` rule, which generates ``batch`` paths
    at a time, on all of the paths of earlier batches by index, and so may its vote. It may launch fewer paths: those have
    spent 0 tokens.
    Latency follows from that: the warm-up is one round of generation, and so is each batch; of a rule that is not
    sequential all other paths are one round.

    ``scorer``: a pruner's spec, such as an option of the rule, or a pruner, which scores paths one by one. The rule may ask it
    (``Check.score``), needs what it needs, and stands in its quadrant.
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
        """What becomes of the problem's paths, one entry each in the order given."""

    def identity(self) -> dict[str, Any]:
        """Names the external weights that it reads with, for the record, as JSON."""
        return {}


class Tally:
    """What a stopping rule sees: the answers of the paths that have finished so far, in that order.

    ``answers`` holds them all, None for a path without one; equal answers are one vote. ``counts`` has the votes of each
    answer, ``first`` and ``second`` those of the two that lead (0 where there is none), ``leader`` the answer that leads, and
    ``answered`` the number of paths with an answer.
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
    """A rule that says when enough paths have finished; also a pruner plugin, alone (``asc``) or behind a scorer (``stop+asc``).

    It sees the answers of finished paths and nothing else, so any pool replays it. Paths that have finished when it stops
    have one vote each. ``order`` "sequential": ``batch`` paths are generated at a time, by index, or behind a scorer from the
    highest score down, and the rule is asked after each batch. "parallel": all paths are generated at once, the rule is
    asked whenever some finish, and those that still run when it stops are aborted at that token. ``grid``: by option, the values
    at which a frontier tries the rule.
    """

    quadrant: Quadrant
    order: Order = "sequential"
    batch: int = 1
    grid: Mapping[str, Sequence[Any]] = {}
    origins: Origins | None = None
    fidelity: str = "not stated"
    on_request: str = ""

    def stops(self, tally: Tally) -> bool:
        """Have enough paths finished?"""


@dataclass(frozen=True, eq=False)
class LabelledPrefix:
    """A prefix with its Monte-Carlo success rate: the share of ``continuations`` that reached the right answer."""

    prefix: Path
    success: float
    continuations: int
    validation: bool


@runtime_checkable
class Learnable(Pruner, Protocol):
    """A pruner that is trained, on ``labels`` of a kind: "monte-carlo", "single" or "outcome"."""

    labels: str

    def fit(self, examples: Sequence[LabelledPrefix], check: Check, log: Callable[[str], None]) -> dict[str, Any]:
        """Train on ``examples``; returns the metrics that the checkpoint's card holds, as JSON."""

    def save(self, folder: FilePath) -> None:
        """Write what was learned; the folder may not exist yet."""

    def load(self, folder: FilePath) -> None:
        """Take up what ``save`` wrote."""
