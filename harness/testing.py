"""The conformance suite: properties that every pruner, task and engine must have, third-party ones included.

Each check yields (name, None) if it passes and (name, reason) if it fails. ``pathprune check NAME`` runs the suite from the
command line; our tests run it on everything that is registered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import isclose
from pathlib import Path as FilePath
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from harness import registry
from harness.api import (
    ASKED,
    Check,
    Cost,
    Decision,
    Engine,
    Path,
    PathpruneError,
    Problem,
    Stopping,
    Streaming,
    Task,
    UnavailableError,
)
from harness.ledger import Metered
from harness.loop import ScoringError, check, decide
from harness.plugins.declared import Plugin, identity_of
from harness.runners.bench import Done, bench
from harness.runners.run import Run
from harness.spec import RunSpec, Stage
from harness.store.records import Record
from harness.text import shown

TOLERANCE = 1e-4  # relative, between scores of one prefix in different batches, fp32
PATHS = 8
FUTURES = 2  # of each prefix

Finding = tuple[str, str | None]


def conformance(plugin: Plugin, task: Task, engine: Any, prefix: int, seed: int = 0) -> Iterator[Finding]:
    """Check a pruner or a decision rule on the dev split.

    Its declarations were checked when it was loaded (``harness.plugins.declared.traits_of``).
    """
    named, flaw = _named(plugin)
    yield "identity() names the same every time", flaw or _renamed(plugin, named)
    suite = _conformance_of_rule if plugin.traits.decides else _conformance_of_scores
    try:
        yield from suite(plugin, task, engine, prefix, seed)
    except ScoringError as error:  # the first call had succeeded
        yield "never fails on prefixes that it has scored", str(error)
    yield "identity() names the same after its work", flaw or _renamed(plugin, named)


def _named(plugin: Plugin) -> tuple[dict[str, Any], str | None]:
    """(what ``identity()`` names, why it names nothing valid)."""
    try:
        return identity_of(plugin.pruner, plugin.name), None
    except PathpruneError as error:
        return {}, str(error)


def _renamed(plugin: Plugin, named: Mapping[str, Any]) -> str | None:
    again, flaw = _named(plugin)
    return flaw or (f"it names {shown(named)} and then {shown(again)}" if again != named else None)


def _conformance_of_scores(plugin: Plugin, task: Task, engine: Any, prefix: int, seed: int) -> Iterator[Finding]:
    method, traits = plugin.pruner, plugin.traits
    groups = engine.launch(task.problems("dev", 2), PATHS, prefix, seed)

    def score(paths: Sequence[Path]) -> np.ndarray:
        return check(method, paths, engine, task, seed)[0]

    untouched = _continued(engine, groups[0], task) if traits.needs & ASKED else []  # before the pruner sees the engine
    try:
        scores = [score(paths) for paths in groups]
    except ScoringError as error:
        yield "scores every prefix with one finite number, from its declared signals alone", str(error)
        return
    yield "scores every prefix with one finite number, from its declared signals alone", None
    yield "is deterministic", _differs(scores[0], score(groups[0]))
    order = np.random.default_rng(seed).permutation(PATHS)
    if "text" in traits.needs:
        yield "reads no gold answer", _differs_blind(scores[0], method, groups[0], task, engine, seed)
    yield "permuting the prefixes permutes the scores", _differs(scores[0][order], score([groups[0][i] for i in order]))
    # Two futures of the same prefixes: nothing that the engine or the pruner remembers of either may affect the scores.
    futures = _futures(engine, groups[0], task, FUTURES)
    alike = _alike(futures[0], futures[1], prefix)
    for number, future in enumerate(futures, 1):
        cuts = [p.cut(prefix, engine.decode) for p in future]
        yield (
            f"text after the prefix changes nothing (continuation {number})",
            alike or _differs(scores[0], score(cuts)),
        )
    if traits.pointwise:
        yield from _conformance_of_pointwise(method, groups[0], scores[0], task, engine, seed)
    if traits.needs & ASKED:
        counting = _Counting(engine)
        spent = check(method, groups[0], counting, task, seed)[1].cost
        yield "its engine calls are all charged", _uncharged(counting.read, spent)
        changed = sum(a != b for a, b in zip(untouched, _continued(engine, groups[0], task), strict=True))
        wrong = f"{changed} of {len(untouched)} continuations changed" if changed else None
        yield "probing leaves the continuation as it was", wrong


def _conformance_of_pointwise(
    method: Any, paths: Sequence[Path], scores: np.ndarray, task: Task, engine: Any, seed: int
) -> Iterator[Finding]:
    """A pointwise method must give a subset of the paths the same scores, for their share of the cost."""
    some = list(range(0, len(paths), 2))
    alone, spent = check(method, [paths[i] for i in some], engine, task, seed)
    yield "scores a path the same whatever stands beside it, as pointwise says", _differs(scores[some], alone)
    together = check(method, paths, engine, task, seed)[1]
    rest = sum((c for i, p in enumerate(paths) if i not in some for c in [together.each.get(p.index, Cost())]), Cost())
    expected, paid = together.cost.tokens - rest.tokens, spent.cost.tokens
    name = "some of the paths cost what is charged to each of them"
    wrong = f"{paid} tokens, and {expected} by what all of them were charged" if paid != expected else None
    flops = together.cost.flops - rest.flops
    if not wrong and not isclose(flops, spent.cost.flops, rel_tol=TOLERANCE):
        wrong = f"{spent.cost.flops:g} FLOPs, and {flops:g} by what all of them were charged"
    yield name, wrong


def _futures(engine: Any, prefixes: Sequence[Path], task: Task, count: int) -> list[list[Path]]:
    """Finished paths that continue the same prefixes differently."""
    reseeded = [[replace(p, seed=p.seed + 1 + k) for p in prefixes] for k in range(count)]
    finished = [engine.resume(paths, task.defaults.max_tokens) for paths in reseeded]
    return [[replace(p, seed=o.seed) for p, o in zip(paths, prefixes, strict=True)] for paths in finished]


def _alike(one: Sequence[Path], other: Sequence[Path], prefix: int) -> str | None:
    """Why nothing follows from two futures of the same prefixes: they are the same."""
    if any(a.tokens != b.tokens for a, b in zip(one, other, strict=True)):
        return None
    return f"cannot be tried: no path goes on in two ways after {prefix} tokens; try a shorter prefix or a temperature above 0"


def _continued(engine: Any, prefixes: Sequence[Path], task: Task) -> list[tuple[int, ...]]:
    """The tokens of each path once it is finished."""
    return [p.tokens for p in engine.resume(prefixes, task.defaults.max_tokens)]


def _uncharged(read: int, spent: Cost) -> str | None:
    """What is wrong with the charge for a pruner's calls that made the engine read so many tokens."""
    if not read:
        return "it asks the engine nothing, although it needs its states or answers; does it remember earlier calls?"
    if spent.probed != read:
        return f"read {read} tokens, was charged {spent.probed}"
    return None if spent.flops else f"read {read} tokens, was charged no FLOPs"


def _conformance_of_rule(plugin: Plugin, task: Task, engine: Any, prefix: int, seed: int) -> Iterator[Finding]:
    method: Streaming | Stopping = plugin.pruner

    def decided(paths: Sequence[Path]) -> Decision:
        return decide(method, paths, engine, task, seed, scorer=plugin.scores_by)[0]

    warmup = plugin.traits.warmup or 0
    n = warmup + 2 * PATHS
    prefixes = engine.launch(task.problems("dev", 1), n, prefix, seed)[0]
    one, other = _futures(engine, prefixes, task, FUTURES)
    same_until = n - PATHS if plugin.traits.sequential else warmup
    alike = _alike(one[same_until:], other[same_until:], prefix)
    other = one[:same_until] + other[same_until:]
    try:
        first, again, second = (decided(paths) for paths in (one, one, other))
    except ScoringError as error:
        yield "decides on every path, from its declared signals alone", str(error)
        return
    yield "decides on every path, from its declared signals alone", None
    same = np.array_equal(first.spent, again.spent) and np.array_equal(first.weights, again.weights)
    yield "is deterministic", None if same else "two calls differ"
    order = np.random.default_rng(seed).permutation(n)
    shuffled = decided([one[i] for i in order])
    wrong = int(((first.spent[order] != shuffled.spent) | (first.weights[order] != shuffled.weights)).sum())
    yield "permuting the paths permutes the decision", f"{wrong} paths differ" if wrong else None
    if plugin.traits.sequential:
        differ = (first.spent != second.spent) | (first.weights != second.weights)
        wrong = int(differ[:same_until].sum())
        yield (
            "later paths change nothing of earlier ones",
            alike or (f"{wrong} earlier paths differ" if wrong else None),
        )
        yield "text after an abort changes nothing", _undone(decided, one, first, engine, task)
        return
    early = np.zeros(n, dtype=bool)
    for decision, paths in ((first, one), (second, other)):
        early |= (decision.spent <= prefix) & (decision.spent < [p.drawn for p in paths])
    wrong = int((first.spent != second.spent)[early].sum())
    yield "text after an abort changes nothing before it", alike or (f"{wrong} aborted paths differ" if wrong else None)
    yield "text after an abort changes nothing", _undone(decided, one, first, engine, task)


def _undone(
    decided: Callable[[Sequence[Path]], Decision], paths: Sequence[Path], first: Decision, engine: Any, task: Task
) -> str | None:
    """Let every aborted path go on in another way from where it was aborted: the rule did not see how it went on."""
    aborted = [i for i, p in enumerate(paths) if first.spent[i] < p.drawn]
    if not aborted:
        return None
    cut = [paths[i].cut(int(first.spent[i]), engine.decode) for i in aborted]
    other = _futures(engine, [replace(p, seed=p.seed + FUTURES) for p in cut], task, 1)[0]
    changed = {i: replace(p, seed=paths[i].seed) for i, p in zip(aborted, other, strict=True)}
    again = decided([changed.get(i, p) for i, p in enumerate(paths)])
    wrong = int((again.spent != first.spent).sum())
    return f"{wrong} paths are aborted elsewhere" if wrong else None


class _Blind(Task):
    """A task that parses answers but has no problems and grades nothing right."""

    def __init__(self, task: Task) -> None:
        self.name, self.version, self.defaults = task.name, task.version, task.defaults
        self._read = task.answer

    def answer(self, text: str) -> str | None:
        return self._read(text)

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        return []

    def correct(self, answer: str | None, problem: Problem) -> bool:
        return False


def _differs_blind(
    scores: np.ndarray, method: Any, paths: Sequence[Path], task: Task, engine: Any, seed: int
) -> str | None:
    """Detect a method that reaches the task behind ``check.answer``: it scores differently if that task knows no answers."""
    try:
        return _differs(scores, check(method, paths, engine, _Blind(task), seed)[0])
    except ScoringError as error:
        return str(error)


def _differs(one: np.ndarray, other: np.ndarray) -> str | None:
    worst = float(np.abs(one - other).max())
    return None if worst <= TOLERANCE * max(1.0, float(np.abs(one).max())) else f"scores differ by {worst:.2g}"


class _Counting:
    """An engine that counts the tokens fed by a pruner's calls."""

    def __init__(self, engine: Any) -> None:
        self._engine, self.read, self._appended = engine, 0, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def probe(self, paths: Sequence[Path], adapter: Any = None) -> np.ndarray:
        states: np.ndarray = self._engine.probe(paths, adapter)
        self.read += len(states) * (1 + (0 if adapter is None else adapter.tokens))  # the prefix's last token first
        return states

    def trace(self, paths: Sequence[Path], reduce: Any, before: int = 0) -> Any:
        self.read += sum(before + len(p.tokens) for p in paths)
        return self._engine.trace(paths, reduce, **({"before": before} if before else {}))

    def encode(self, text: str) -> tuple[int, ...]:
        self._appended = len(self._engine.encode(text))
        return tuple(self._engine.encode(text))

    def resume(self, paths: Sequence[Path], max_tokens: int) -> Any:
        longer = self._engine.resume(paths, max_tokens)
        grown = sum(len(b.tokens) - len(a.tokens) for a, b in zip(paths, longer, strict=True))
        self.read += grown + self._appended * len(paths)
        return longer


def engine_conformance(engine: Engine, task: Task, cuts: Sequence[int], seed: int = 0) -> Iterator[Finding]:
    """Check an engine: interruption and batch composition change no token, all tokens are charged, and a bench runs on it."""
    problems = task.problems("dev", 3)
    max_tokens = task.defaults.max_tokens
    whole = engine.launch(problems, PATHS, max_tokens, seed)
    flat = [p.tokens for group in whole for p in group]
    for cut in cuts:
        launched = engine.launch(problems, PATHS, cut, seed)
        resumed = engine.resume([p for group in launched for p in group], max_tokens)
        yield (
            f"launch to {cut} and resume is one uninterrupted sample",
            _other([p.tokens for p in resumed], flat)
            or (
                None
                if any(p.drawn > cut for group in whole for p in group)
                else f"cannot be tried: no path is longer than {cut}"
            ),
        )
    alone = engine.launch(problems[1:2], PATHS // 2, max_tokens, seed)[0]
    some = [p.tokens for p in whole[1][: PATHS // 2]]
    yield "a path does not depend on its batch", _other([p.tokens for p in alone], some)
    ledger = Check(np.random.default_rng(0))
    metered = Metered(engine, ledger)
    cut_paths = [p for group in metered.launch(problems, PATHS, cuts[0], seed) for p in group]
    metered.resume(cut_paths, max_tokens)
    total = sum(p.drawn for group in whole for p in group)
    short = f"{ledger.cost.generated} of {total} tokens" if ledger.cost.generated != total else None
    yield "every generated token is in the ledger", short
    yield from _bench_on(engine, task, cuts[0], seed)


def _other(tokens: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> str | None:
    """How many paths have other tokens than expected."""
    if len(tokens) != len(expected):
        return f"{len(tokens)} paths instead of {len(expected)}"
    changed = sum(a != b for a, b in zip(tokens, expected, strict=True))
    return f"{changed} paths differ" if changed else None


def _bench_on(engine: Engine, task: Task, prefix: int, seed: int) -> Iterator[Finding]:
    """A bench of the controls must store the engine's paths, read them back and score them, whatever signals it provides."""
    with TemporaryDirectory() as folder:
        plugins = [registry.pruner(name) for name in ("first", "random")]

        def benched(results: str) -> tuple[Done, dict[str, Any]]:
            """A bench whose records are new and whose bank is not."""
            spec = RunSpec.of(task, engine, PATHS, task.defaults.max_tokens, [Stage(prefix, PATHS // 2)], seed=seed)
            run = Run(spec, task, engine, 3, FilePath(folder) / results, FilePath(folder) / "bank")
            done = bench(run, plugins, lambda done, note: None)
            return done, {**Record.read(run.folder / "pool.jsonl").lines}

        try:
            (first, rows), (again, same) = benched("one"), benched("two")
        except PathpruneError as error:
            yield "a bench runs on it", str(error)
            return
        yield "a bench runs on it", f"failed: {first.failures}" if first.failures else None
        sampled = f"{again.sampled} tokens were sampled again" if again.sampled else None
        yield "a second bench samples nothing", sampled
        changed = sum(rows[name] != same.get(name) for name in rows)
        yield "a second bench reads the same paths", f"those of {changed} problems differ" if changed else None


SEEN = 20  # problems of a split that are tried


def task_conformance(task: Task) -> Iterator[Finding]:
    """Check a task: its problems are stable and distinct, its splits disjoint, and its gold answers are graded right."""
    problems = task.problems("test", SEEN)
    yield "has test problems", None if problems else "there are none"
    yield "is the same every time", None if problems == task.problems("test", SEEN) else "two calls differ"
    yield "has distinct ids", None if len({p.id for p in problems}) == len(problems) else "an id repeats"
    yield "keeps its splits apart", _overlap(*(_prompts(task, split) for split in ("test", "dev", "label")))
    wrong = [p.id for p in problems if not task.correct(p.answer, p)]
    yield "grades its own answers right", f"not for {wrong[0]}" if wrong else None
    # One answer may be right for two problems, but not every answer for every problem.
    others = [(q.answer, p) for p in problems for q in problems if q.answer != p.answer]
    lenient = bool(others) and all(task.correct(answer, p) for answer, p in others)
    yield "grades answers of other problems wrong", "all of them are right" if lenient else None
    yield "grades no answer wrong", "None is correct" if any(task.correct(None, p) for p in problems) else None


def _prompts(task: Task, split: str) -> set[str]:
    """The first prompts of a split; none if the task has no such split."""
    try:
        return {p.prompt for p in task.problems(split, SEEN)}
    except UnavailableError:
        return set()


def _overlap(test: set[str], dev: set[str], label: set[str]) -> str | None:
    """Which splits share prompts. A task may return its test problems as its dev problems, but then all of them."""
    pairs = {
        "test and dev": (set() if dev == test else dev, test),
        "test and label": (label, test),
        "dev and label": (label, dev),
    }
    return ", ".join(f"{names} share prompts" for names, (one, other) in pairs.items() if one & other) or None
