"""Launch -> Check -> Resume -> Vote for one problem. The code is the same for live and banked engines."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from harness import grading
from harness.api import (
    ASKED,
    Check,
    Cost,
    Decision,
    Engine,
    Path,
    PathpruneError,
    Problem,
    Pruner,
    Reward,
    Stopping,
    Streaming,
    Tally,
    Task,
    TokenStats,
)
from harness.ledger import Metered, MeteredProbe
from harness.places import Growth, Placer, Steps, closing_of, driven
from harness.plugins.guard import PluginError, contained
from harness.plugins.sampled import launched, resumed
from harness.plugins.undeclared import Undeclared, UndeclaredStats
from harness.public import public
from harness.reader import open_reader
from harness.rng import generator
from harness.spec import Ended as Ended
from harness.spec import RunSpec
from harness.stopping import asked, batch_of, fresh, is_rule, walk
from harness.text import reason, shown
from harness.tools.drawn import Restoring, drawn_alone
from harness.vote import vote, weights

Result = TypeVar("Result")
STAGES = ("launch", "check", "resume")  # timed by a live run
NO_TEXT: Any = Undeclared("path.text", "'text'")
NO_STRING: Any = Undeclared("check.closing or check.step", "'text'")
NO_ENGINE = Undeclared("check.engine", "'hidden', 'trace' or 'forced'")


class ScoringError(PathpruneError):
    """A method failed on one problem: it becomes an error record, never a score.

    ``__cause__`` is the exception that it raised, if any. The message goes into records, so passwords and local folders are
    stripped from it.
    """

    def __init__(self, text: str) -> None:
        super().__init__(public(text))


@dataclass(frozen=True, eq=False)
class Round:
    """One stage of one problem: indices ``[m]`` and scores ``[m]`` of the scored paths, and indices of the kept ones."""

    scored: tuple[int, ...]
    scores: np.ndarray
    kept: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True, eq=False)
class Outcome:
    """The outcome of one problem. ``finished`` and ``answers`` are those of the ``kept`` paths; ``seconds`` are per STAGES."""

    rounds: tuple[Round, ...]
    finished: tuple[Path, ...]
    answers: tuple[str | None, ...]
    voted: str | None
    cost: Cost
    seconds: tuple[float, float, float]
    tools: float | None = None  # seconds of tool calls, included in ``seconds``; None if the engine has no tools
    weights: np.ndarray = field(default_factory=lambda: np.zeros(0))  # the vote weight of each of ``answers``
    serial: int = 0  # tokens on the critical path: the longest path of each generation, summed

    @property
    def kept(self) -> tuple[int, ...]:
        """Indices of the paths that were finished, ascending."""
        return tuple(p.index for p in self.finished)

    @property
    def scores(self) -> dict[int, float]:
        """The last score of each path that was scored, by its index."""
        return {i: float(s) for r in self.rounds for i, s in zip(r.scored, r.scores, strict=True)}


def prune(
    problem: Problem,
    task: Task,
    engine: Engine,
    pruner: Pruner | None,
    spec: RunSpec,
    time_limit: float | None = None,
    rule: Any = None,
) -> Outcome:
    """Run one problem: launch -> (check, keep)* -> resume -> vote. Every token is charged to the outcome's cost.

    Args:
        problem: the problem.
        task: grades the answers.
        engine: samples the paths.
        pruner: scores the prefixes at each stage of ``spec``; None: no path is cut.
        spec: paths, stages and vote.
        time_limit: seconds that the pruner may take for one call; None: no limit.
        rule: a sequential stopping rule, evaluated while the kept paths finish, the highest score first; None: all finish.

    Raises:
        ScoringError: the pruner, the rule or the vote failed on this problem.
    """
    return driven(session(problem, task, engine, pruner, spec, time_limit, rule), partial(generated, engine))


def generated(engine: Any, growth: Growth) -> list[Path]:
    """Generate the paths that a session requested."""
    if not growth.first:
        return resumed(engine, growth.paths, growth.length)
    one = growth.paths[0]
    return launched(engine, [one.problem], len(growth.paths), growth.length, one.seed)[0]


def session(
    problem: Problem,
    task: Task,
    engine: Engine,
    pruner: Pruner | None,
    spec: RunSpec,
    time_limit: float | None = None,
    rule: Any = None,
) -> Steps[Outcome]:
    """``prune`` as a generator: it yields the paths to generate and is sent them back longer, when it suits the caller.

    Check and Vote run in the thread that advances the session.
    """
    ledger, before = Check(np.random.default_rng()), seconds_of_tools(engine)
    run = _Live(task, Metered(engine, ledger), spec, Stopwatch())
    if pruner is None:
        alive = [Path(problem, index, spec.seed) for index in range(spec.n)]
        rounds, scores = list[Round](), np.zeros(spec.n)
    else:
        prepare(pruner, engine, task)
        alive, scores, rounds = yield from _cut(run, problem, engine, pruner, time_limit)
    finished = yield from run.finish(alive, scores, rule, time_limit)
    answers = tuple(grading.answer(task, p) for p in finished)
    scored = dict(zip([p.index for p in alive], scores, strict=True))
    final = np.array([scored[p.index] for p in finished])
    try:
        voted = vote(spec.vote, answers, final)
        weight = weights(spec.vote, final, np.array([a is not None for a in answers], dtype=bool))
    except PathpruneError as error:  # a vote that does not accept these scores
        raise ScoringError(reason(error)) from error
    cost = sum((r.cost for r in rounds), ledger.cost)
    tools = None if before is None else (seconds_of_tools(engine) or 0.0) - before
    return Outcome(
        tuple(rounds), tuple(finished), answers, voted, cost, run.clock.seconds, tools, weight, run.clock.serial
    )


def representative(outcome: Outcome, task: Task) -> Path | None:
    """The path that represents the winning answer: among the paths with that answer, the one with the highest score.

    Ties go to the lowest index. If no path has an answer, it is the complete path with the highest score; None if the
    token limit cut off all paths.
    """
    complete = [i for i, path in enumerate(outcome.finished) if grading.ended(task, path)]
    winners = [i for i in complete if outcome.answers[i] == outcome.voted]
    scores = outcome.scores
    best = max(winners or complete, key=lambda i: scores.get(outcome.kept[i], 0.0), default=None)
    return None if best is None else outcome.finished[best]


def seconds_of_tools(engine: Any) -> float | None:
    """Seconds that an engine has spent in tool calls so far; None if it has no tools. Does not load the weights."""
    return float(engine.tool_seconds) if "tools" in engine.spec else None


@dataclass(frozen=True, eq=False)
class _Live:
    """The state that the stages of one problem share."""

    task: Task
    meter: Metered
    spec: RunSpec
    clock: Stopwatch

    def finish(
        self, paths: Sequence[Path], scores: np.ndarray, rule: Any, time_limit: float | None
    ) -> Steps[list[Path]]:
        """Finish all paths, or until the rule stops; the finished ones in index order."""
        if rule is None:
            return (yield from self.grown("resume", paths, self.spec.limit))
        order = [paths[i] for i in np.argsort(-scores, kind="stable")]
        rule, tally, finished = _contained(partial(fresh, rule), None), Tally(), list[Path]()
        while len(finished) < len(order):
            waiting = order[len(finished) : len(finished) + batch_of(rule)]
            batch = yield from self.grown("resume", waiting, self.spec.limit)
            finished += batch
            for path in batch:
                tally.add(grading.answer(self.task, path))
            if _contained(partial(asked, rule, tally), time_limit):
                break
        return sorted(finished, key=lambda p: p.index)

    def grown(self, phase: str, paths: Sequence[Path], length: int, first: bool = False) -> Steps[list[Path]]:
        """Generate paths up to a length, charged and timed as part of a phase."""
        began = time.perf_counter()
        longer = yield Growth(list(paths), length, first)
        self.clock.add(phase, time.perf_counter() - began)
        self.clock.serial += max((new.drawn - old.drawn for old, new in zip(paths, longer, strict=True)), default=0)
        if first:
            self.meter.charge_prompt(paths[0].problem)
        self.meter.charge_growth(paths, longer)
        return longer

    def relayed(self, phase: str, steps: Steps[Result]) -> Steps[Result]:
        """Run steps whose growths are charged and timed as part of a phase."""
        try:
            growth = next(steps)
            while True:
                growth = steps.send((yield from self.grown(phase, growth.paths, growth.length)))
        except StopIteration as end:
            result: Result = end.value
            return result


def _cut(
    run: _Live, problem: Problem, engine: Engine, pruner: Pruner, time_limit: float | None
) -> Steps[tuple[list[Path], np.ndarray, list[Round]]]:
    """(paths that survive the last stage, their scores, all rounds)."""
    spec, clock, rounds = run.spec, run.clock, list[Round]()
    known: dict[Any, Any] = {}
    placer = Placer(run.task, engine, partial(clock.time, "check"))
    started = [Path(problem, index, spec.seed) for index in range(spec.n)]
    alive = yield from run.grown("launch", started, spec.prefixes[0], first=True)
    for stage, cut in zip(spec.stages, spec.cuts, strict=True):
        reached = yield from run.relayed("resume" if rounds else "launch", placer.reaching(cut, alive))
        prefixes = reached.prefixes(engine.decode)
        scores, spent = clock.time(
            "check", partial(check, pruner, prefixes, engine, run.task, spec.seed, time_limit, known)
        )
        on = select(scores, [p.finish == "stop" for p in prefixes], stage.keep, spec.ended)
        scored = tuple(p.index for p in prefixes)
        alive, scores_on = [reached.grown[i] for i in on], scores[list(on)]
        cost = placer.spent(problem.id).cost + spent.cost
        rounds.append(Round(scored, scores, tuple(p.index for p in alive), cost))
    return alive, scores_on, rounds


class Stopwatch:
    """Accumulated seconds of each of STAGES, and the serially generated tokens (``Outcome.serial``)."""

    def __init__(self) -> None:
        self.serial = 0
        self.spent = dict.fromkeys(STAGES, 0.0)

    def time(self, stage: str, work: Callable[[], Result]) -> Result:
        """Do the work and add its duration to a stage."""
        began = time.perf_counter()
        done = work()
        self.add(stage, time.perf_counter() - began)
        return done

    def add(self, stage: str, seconds: float) -> None:
        """Add seconds to a stage."""
        self.spent[stage] += seconds

    @property
    def seconds(self) -> tuple[float, float, float]:
        """In the order of STAGES."""
        launch, check, resume = self.spent.values()
        return launch, check, resume


@dataclass(frozen=True)
class Spent:
    """The cost of a Check: in total, and by path index the part that belongs to each path; see ``harness.api.Check``."""

    cost: Cost
    each: Mapping[int, Cost]
    once: Cost = field(default_factory=Cost)
    cold: int | None = None
    cold_each: Mapping[int, int] = field(default_factory=dict)


def placed(spent: Spent, placing: Check) -> Spent:
    """The cost of a Check including the cost of finding the places at which paths are cut."""
    if not placing.each:
        return spent
    each = {i: spent.each.get(i, Cost()) + placing.each.get(i, Cost()) for i in spent.each.keys() | placing.each.keys()}
    if spent.cold is None:
        return replace(spent, cost=spent.cost + placing.cost, each=each)
    cold = {i: spent.cold_each.get(i, 0) + placing.each.get(i, Cost()).tokens for i in each}
    return replace(
        spent, cost=spent.cost + placing.cost, each=each, cold=spent.cold + placing.cost.tokens, cold_each=cold
    )


def prepare(pruner: Any, engine: Any, task: Task) -> None:
    """Let a method load what it scores with, before timing starts.

    Raises:
        ScoringError: whatever the method raises.
    """
    load = getattr(pruner, "prepare", None)
    if load is None:
        return

    def loaded() -> None:
        ledger = Check(generator("prepare", type(pruner).__name__))
        grant(ledger, pruner, engine, task)
        load(ledger)

    _contained(loaded, None)


def check(
    pruner: Pruner,
    prefixes: Sequence[Path],
    engine: Any,
    task: Task,
    seed: int,
    time_limit: float | None = None,
    known: dict[Any, Any] | None = None,
) -> tuple[np.ndarray, Spent]:
    """Score the prefixes of one problem.

    The pruner sees copies with only the signals that it declared; changes that it makes to the process are undone.
    ``known`` holds the results of earlier checks of the problem.

    Returns:
        Scores, float32 ``[n]`` as in records, and the cost of scoring.

    Raises:
        ScoringError: the pruner raises (``sys.exit`` included), takes more than ``time_limit`` seconds, or does not return
            one finite real number per prefix.
    """

    def scored() -> tuple[np.ndarray, Spent]:
        ledger, seen = opened(pruner, prefixes, engine, task, seed)
        ledger.known = {} if known is None else known
        return _real(pruner.score(seen, ledger), "scores", len(prefixes)), _spent(ledger)

    scores, spent = _contained(scored, time_limit)
    return _recorded(scores, type(pruner).__name__), spent


def decide(
    method: Streaming | Stopping,
    paths: Sequence[Path],
    engine: Any,
    task: Task,
    seed: int,
    time_limit: float | None = None,
    scorer: Pruner | None = None,
) -> tuple[Decision, Spent]:
    """Apply a decision rule to the finished paths of one problem.

    ``scorer``: the pruner that the rule may query for scores, resolved from its member ``scorer``.

    Returns:
        The decision, and its cost beyond generating the paths.

    Raises:
        ScoringError: as in ``check``; or the decision violates ``harness.api.Streaming``.
    """

    def decided() -> tuple[Decision, Spent, int]:
        if is_rule(method):
            return _stopped(method, paths, task), Spent(Cost(), {}), 0
        streaming: Any = method
        ledger, seen = opened(streaming, paths, engine, task, seed)
        if any(p.given for p in paths):
            seen = [drawn_alone(p) for p in seen]
            ledger.engine = Restoring(ledger.engine, paths, engine.decode)
        if scorer is not None:
            ledger.score = partial(_scored_by, ledger, scorer, paths, engine, task, seed)
        given = streaming.decide(seen, ledger)
        if not (hasattr(given, "spent") and hasattr(given, "weights")):
            raise ScoringError(f"gave {shown(given)}, not a Decision")
        spent = _real(given.spent, "numbers of tokens spent", len(paths))
        weights = _real(given.weights, "weights", len(paths))
        return Decision(spent, weights), _spent(ledger), streaming.warmup

    given, cost, warmup = _contained(decided, time_limit)
    if (given.spent % 1 != 0).any():
        raise ScoringError("the decision states a fractional number of spent tokens for a path")
    decision = Decision(given.spent.astype(int), _recorded(given.weights, type(method).__name__))
    _check_decision(decision, paths, warmup)
    return decision, cost


def _stopped(rule: Any, paths: Sequence[Path], task: Task) -> Decision:
    """The decision of a stopping rule on a problem's finished paths, generated in index order."""
    order = sorted(range(len(paths)), key=lambda i: paths[i].index)
    lengths = [paths[i].drawn for i in order]
    spent = np.zeros(len(paths), dtype=int)
    spent[order] = walk(rule, [grading.answer(task, paths[i]) for i in order], lengths)
    finished = spent == [p.drawn for p in paths]
    return Decision(spent, finished.astype(float))


def _check_decision(decision: Decision, paths: Sequence[Path], warmup: int) -> None:
    lengths = np.array([p.drawn for p in paths])
    if (decision.spent < 0).any() or (decision.spent > lengths).any():
        raise ScoringError("the decision states more spent tokens than a path has, or fewer than 0")
    warming = np.argsort(np.argsort([p.index for p in paths])) < warmup
    if (decision.spent < lengths)[warming].any():
        raise ScoringError(f"the decision aborts one of the {warmup} warm-up paths")
    if (decision.weights < 0).any():
        raise ScoringError("the decision gives a path a negative weight")
    if (decision.weights[decision.spent < lengths] > 0).any():
        raise ScoringError("the decision gives an aborted path a weight above 0")


def _contained(work: Callable[[], Result], time_limit: float | None) -> Result:
    try:
        return contained(work, time_limit)
    except PluginError as error:
        if isinstance(error.__cause__, ScoringError):
            raise error.__cause__ from None
        raise ScoringError(str(error)) from error.__cause__


def _real(given: Any, what: str, count: int) -> np.ndarray:
    """Validate a method's result: one finite real number per path, float64 ``[count]``."""
    if isinstance(given, str | bytes) or not (isinstance(given, Sequence) or hasattr(given, "__array__")):
        raise ScoringError(f"gave {shown(given)}, not {count} {what}")
    values = np.asarray(given)
    if values.shape != (count,):
        raise ScoringError(f"gave {what} of shape {values.shape} for {count} paths")
    if values.dtype.kind not in "fiub":
        raise ScoringError(f"gave {shown(given)} as {what}: {values.dtype} values, not real numbers")
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        raise ScoringError(f"{int((~np.isfinite(values)).sum())} of {count} {what} are not finite")
    return values


def _recorded(values: np.ndarray, name: str) -> np.ndarray:
    """Convert numbers to float32, as in records; warn if that makes many of them equal."""
    with np.errstate(over="ignore", under="ignore"):
        short = values.astype(np.float32)
    if not np.isfinite(short).all():
        raise ScoringError(f"{np.abs(values).max():g} is beyond the largest float32, as which it is recorded")
    if 2 * len(np.unique(short)) < len(np.unique(values)):
        warnings.warn(
            f"scores of {name} differ by less than the precision of float32, in which they are recorded; ties go to the "
            "lower index. Subtract their common offset",
            stacklevel=2,
        )
    return short


def _spent(ledger: Check) -> Spent:
    """The charged costs, validated, because a method may have written into its ledger directly."""
    each = {index: cost.checked() for index, cost in ledger.each.items()}
    return Spent(ledger.cost.checked(), each, ledger.once.checked(), ledger.cold, ledger.cold_each)


def opened(
    method: Pruner | Streaming, paths: Sequence[Path], engine: Any, task: Task, seed: int
) -> tuple[Check, list[Path]]:
    """A new ledger with the tools that the method may use, and copies of the paths with only its declared signals."""
    ledger = Check(generator(seed, paths[0].problem.id, type(method).__name__))
    grant(ledger, method, engine, task)
    return ledger, [_declared(p, frozenset(method.needs)) for p in paths]


def _scored_by(
    ledger: Check,
    scorer: Pruner,
    paths: Sequence[Path],
    engine: Any,
    task: Task,
    seed: int,
    asked: Sequence[Path],
    length: int,
) -> np.ndarray:
    """The scorer's scores of the first ``length`` tokens of some of a rule's paths, charged to the rule."""
    whole = {p.index: p for p in paths}
    prefixes = [whole[p.index].cut(length, engine.decode) for p in asked]
    if not prefixes:
        return np.zeros(0, dtype=np.float32)
    inner, seen = opened(scorer, prefixes, engine, task, seed)
    inner.known = ledger.known
    scores = _real(scorer.score(seen, inner), "scores", len(prefixes))
    ledger.cost, ledger.once = ledger.cost + inner.cost, ledger.once + inner.once
    for index, cost in inner.each.items():
        ledger.each[index] = ledger.each.get(index, Cost()) + cost
    if inner.cold is not None:
        ledger.cold = (ledger.cold or 0) + inner.cold
    return _recorded(scores, type(scorer).__name__)


def grant(ledger: Check, method: Any, engine: Any, task: Task) -> None:
    """Give a ledger everything that a method may use besides its paths, according to its needs."""
    needs = frozenset(method.needs)
    equip(ledger, method, engine, task)
    ledger.engine = MeteredProbe(engine, ledger, needs) if needs & ASKED else NO_ENGINE
    if "rewards" in needs:
        ledger.rewards = partial(_rewards, engine)


def equip(ledger: Check, method: Any, engine: Any, task: Task) -> None:
    """Give a ledger the engine's device and, if the method needs text, the text tools."""
    ledger.device = str(getattr(engine, "device", None) or "")
    if "text" not in method.needs:
        ledger.closing = ledger.step = NO_STRING
        return
    # Plain functions: nothing that a method receives has the task, which knows the gold answers, as an attribute.
    ledger.answer = lambda text: grading.read(task, text)
    ledger.final = lambda path: grading.answer(task, path)
    ledger.decode = lambda tokens: str(engine.decode(tokens))
    ledger.closing, ledger.step = task.defaults.closing, task.defaults.step
    if "forced" in method.needs:  # only then, because reading the engine's closing opens its tokenizer
        ledger.closing = closing_of(task, engine)
    ledger.reader = partial(open_reader, ledger)


def _rewards(engine: Any, path: Path) -> dict[str, list[Reward]]:
    """Recorded reward-model scores of a path, without scores at positions beyond its end."""
    known = engine.rewards(path)
    return {name: [r for r in scores if r.position <= len(path.tokens)] for name, scores in known.items()}


def _declared(path: Path, needs: frozenset[str]) -> Path:
    stats: TokenStats | None = UndeclaredStats()
    if "token_stats" in needs:
        stats = path.stats.cut(path.drawn) if path.stats is not None else None
    return replace(
        path,
        problem=replace(path.problem, answer=""),
        text=path.text if "text" in needs else NO_TEXT,
        stats=stats,
    )


def select(scores: np.ndarray, ended: Sequence[bool], keep: int, policy: Ended) -> tuple[int, ...]:
    """Indices of the kept paths, ascending: the ``keep`` highest scores, ties to the lower index.

    Args:
        scores: ``[m]``.
        ended: which paths ended inside the prefix, ``[m]``.
        keep: number of paths to keep.
        policy: "count": paths that ended compete like the others. "bypass" (the official STOP code): they are kept in
            addition to the ``keep`` best of the others.
    """
    order = np.argsort(-scores, kind="stable")
    free = [int(i) for i in order if ended[i]] if policy == "bypass" else []
    rest = [int(i) for i in order if not (policy == "bypass" and ended[i])]
    return tuple(sorted(free + rest[:keep]))
