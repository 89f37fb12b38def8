"""Lanes of a frontier: what pruning once, pruning more than once, stopping in time and both give, at every setting.

A lane is one way to spend tokens, with the settings that a user would choose among: how many paths, cut where, how many kept,
and which bar a stopping rule has. Everything is replayed from records; nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness import registry
from harness.api import PathpruneError
from harness.plugins.declared import Plugin
from harness.replay.policy import Played, Policy, play, play_keeps
from harness.replay.pool import Pool, own_rule
from harness.replay.stages import Checks, from_rows
from harness.report import Group, Method, judged_records
from harness.report.parallel import each
from harness.spec import Stage
from harness.text import unknown

Kind = Literal["no pruning", "stopping", "one cut", "two cuts", "three cuts", "cut, then stopping", "own rule"]
LAUNCHED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)  # numbers of paths that are tried
BEHIND = 4  # a stopping rule behind a cut has so many paths at least to choose from
WHOLE = "no pruning"


@dataclass(frozen=True, eq=False)
class Lane:
    """One way to spend tokens: ``settings`` by name, and float ``[S, Q]`` what each gives and costs on every problem."""

    name: str
    kind: Kind
    quadrant: str
    settings: tuple[str, ...]
    voted: np.ndarray
    tokens: np.ndarray
    serial: np.ndarray

    @classmethod
    def of(cls, name: str, kind: Kind, quadrant: str, played: Mapping[str, Played]) -> Lane:
        """From what was played, by the settings' names."""
        columns = ((getattr(p, f) for p in played.values()) for f in ("voted", "tokens", "serial"))
        return cls(name, kind, quadrant, tuple(played), *(np.stack([*column]) for column in columns))


@dataclass(frozen=True, eq=False)
class Scorer:
    """A method's scores at every prefix length at which it has judged all problems of a pool."""

    name: str
    quadrant: str
    pointwise: bool
    cuts: Mapping[int, Checks]


@dataclass(frozen=True, eq=False)
class Table:
    """Everything recorded on one pool: its scorers, and the methods with a rule of their own."""

    group: Group
    scorers: tuple[Scorer, ...]
    rules: tuple[Method, ...]

    @property
    def pool(self) -> Pool:
        """The paths."""
        return self.group.pool


def tables_of(groups: Sequence[Group]) -> list[Table]:
    """One table for each pool that the groups are of, with its scores at all prefix lengths among them."""
    folders: dict[Path, list[Group]] = {}
    for group in groups:
        folders.setdefault(group.folder, []).append(group)
    return [_table(folder, same) for folder, same in folders.items()]


def _table(folder: Path, groups: Sequence[Group]) -> Table:
    pool = groups[0].pool
    lines = {(r.file.stem.rpartition("-")[2], r.header["spec"]["prefix"]): r.lines for r in judged_records(folder)}
    found: dict[str, list[tuple[int, Method]]] = {}
    for group in groups:
        for method in group.judged:
            if method.ranks and method.pool.problems == pool.problems and not method.stale:
                found.setdefault(method.name, []).append((group.prefix, method))
    scorers = [
        Scorer(
            name, methods[0][1].quadrant, all(m.pointwise for _, m in methods),
            {prefix: _checks(m, [lines[m.key, prefix][p] for p in pool.problems]) for prefix, m in methods},
        )
        for name, methods in found.items()
    ]  # fmt: skip
    rules = [m for m in groups[0].judged if m.role == "own-rule" and m.pool.problems == pool.problems and not m.stale]
    return Table(groups[0], tuple(scorers), tuple(rules))


def _checks(method: Method, rows: Sequence[Mapping[str, Any]]) -> Checks:
    """Scores and costs; where a row does not say what is each path's, all paths cost the same."""
    if all("each" in row for row in rows):
        return from_rows(rows, method.pool.n)
    shape, n = method.values.shape, method.pool.n
    tokens, flops = (np.array([getattr(c, f) for c in method.checks], float)[:, None] / n for f in ("tokens", "flops"))
    zeros = np.zeros(shape[0])
    return Checks(method.values, np.broadcast_to(tokens, shape), np.broadcast_to(flops, shape), zeros, zeros)


def lanes(
    table: Table,
    scorers: Sequence[str],
    rules: Sequence[str],
    draws: int,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
) -> list[Lane]:
    """All lanes of a table, several at a time.

    Args:
        scorers: those that get lanes of several cuts and of stopping rules behind them; the others are cut once.
        rules: stopping rules that stand behind scorers.
        draws: random launches per setting.
        progress: told how many lanes of how many are done, and which was the last.

    Raises:
        PathpruneError: a scorer that has no scores here.
    """
    wanted = list(_wanted(table, scorers, rules, draws))
    done: list[str] = []

    def played(make: Callable[[], Lane]) -> Lane:
        lane = make()
        done.append(lane.name)
        progress(len(done), len(wanted), lane.name)
        return lane

    return [*each(played, wanted), *_own_rules(table)]


def _wanted(table: Table, scorers: Sequence[str], rules: Sequence[str], draws: int) -> Iterator[Callable[[], Lane]]:
    """What makes each lane, the dearest first, so that no core is left with it at the end."""
    pool, chosen = table.pool, [_named(table, name) for name in scorers]
    behind = _by_name(rule for name in rules for rule in _swept(registry.pruner(name)))
    for scorer in chosen:
        for name, swept in behind:
            yield partial(_cut_then_stopped, pool, scorer, name, swept, draws)
        for cuts in (3, 2):
            if scorer.pointwise and len(scorer.cuts) >= cuts:
                yield partial(_cut, pool, scorer, cuts, draws)
    yield from (partial(_stopping, pool, rule, draws) for rule in _stopping_rules())
    yield from (partial(_cut, pool, scorer, 1, draws) for scorer in table.scorers)
    yield partial(no_pruning, pool, draws)


def _named(table: Table, name: str) -> Scorer:
    known = {s.name: s for s in table.scorers}
    if name not in known:
        raise PathpruneError(unknown("scorer with scores of all problems", name, list(known)))
    return known[name]


def sizes(n: int) -> list[int]:
    """Numbers of paths that are launched, up to ``n``."""
    return sorted({size for size in LAUNCHED if size <= n} | {n})


def no_pruning(pool: Pool, draws: int) -> Lane:
    """Fewer paths, all of them finished: the control of every figure."""
    policies = [Policy(n) for n in sizes(pool.n)]
    return Lane.of(WHOLE, "no pruning", "control", {str(p): play(pool, p, draws=4 * draws) for p in policies})


def _stopping_rules() -> list[Plugin]:
    plugins = [registry.pruner(name) for name in registry.names("pruners")]
    return [p for p in plugins if p.traits.stops and not p.traits.on_request]


def _swept(plugin: Plugin) -> list[Plugin]:
    """A rule at every value of its ``grid``; one that is given options, or has no grid, as it is."""
    grid = getattr(plugin.pruner, "grid", None)
    if not grid or plugin.options:
        return [plugin]
    values = product(*grid.values())
    return [
        registry.pruner(f"{plugin.name}:{','.join(f'{k}={v}' for k, v in zip(grid, v, strict=True))}") for v in values
    ]


def _by_name(plugins: Iterable[Plugin]) -> list[tuple[str, list[Plugin]]]:
    named: dict[str, list[Plugin]] = {}
    for plugin in plugins:
        named.setdefault(plugin.name.partition(":")[0], []).append(plugin)
    return [*named.items()]


def _stopping(pool: Pool, plugin: Plugin, draws: int) -> Lane:
    """A rule alone, on every number of paths."""
    policies = [
        Policy(n, (), rule.pruner, rule.name) for rule in _swept(plugin) for n in sizes(pool.n) if n >= min(8, pool.n)
    ]
    return Lane.of(
        plugin.name, "stopping", plugin.traits.quadrant, {str(p): play(pool, p, draws=draws) for p in policies}
    )


def _cut(pool: Pool, scorer: Scorer, cuts: int, draws: int) -> Lane:
    """A scorer with so many cuts, at every choice of its prefix lengths and of the numbers kept."""
    kinds: dict[int, Kind] = {1: "one cut", 2: "two cuts", 3: "three cuts"}
    played: dict[str, Played] = {}
    for prefixes in combinations(sorted(scorer.cuts), cuts):
        checks = [scorer.cuts[p] for p in prefixes]
        for n, earlier, last in _falling(pool.n, cuts):
            stages = [tuple(map(Stage, prefixes, (*earlier, keep))) for keep in last]
            gave = play_keeps(pool, Policy(n, stages[0]), last, checks, draws)
            played |= {str(Policy(n, s)): one for s, one in zip(stages, gave, strict=True)}
    name = scorer.name if cuts == 1 else f"{scorer.name}, {kinds[cuts]}"
    return Lane.of(name, kinds[cuts], scorer.quadrant, played)


def _falling(most: int, cuts: int) -> Iterator[tuple[int, tuple[int, ...], list[int]]]:
    """Paths launched, kept by all cuts but the last, and by the last: of several cuts each keeps half or fewer."""
    for n in sizes(most):
        for earlier in combinations(reversed([size for size in LAUNCHED if size < n]), cuts - 1):
            left = (n, *earlier)
            last = [k for k in LAUNCHED if (2 * k <= left[-1] if cuts > 1 else k < n)]
            if last and all(2 * after <= before for before, after in pairwise(left)):
                yield n, earlier, last


def _cut_then_stopped(pool: Pool, scorer: Scorer, name: str, rules: Sequence[Plugin], draws: int) -> Lane:
    """One cut, and a sequential rule at every bar among what is kept; no rule is one more setting of it."""
    by_setting: dict[str, Played] = {}
    for rule in rules:
        for prefix, (n, _, kept) in product(sorted(scorer.cuts), _falling(pool.n, 1)):
            keeps = [keep for keep in kept if keep >= BEHIND]
            if not keeps or not rule.traits.sequential:
                continue
            policies = [Policy(n, (Stage(prefix, keep),), rule.pruner, rule.name) for keep in keeps]
            played = play_keeps(pool, policies[0], keeps, [scorer.cuts[prefix]], draws)
            by_setting |= dict(zip(map(str, policies), played, strict=True))
    whole = _cut(pool, scorer, 1, draws)
    for setting, voted, tokens, serial in zip(whole.settings, whole.voted, whole.tokens, whole.serial, strict=True):
        by_setting[setting] = Played(voted, tokens, serial, np.full(len(voted), 2.0))
    return Lane.of(f"{scorer.name}+{name}", "cut, then stopping", scorer.quadrant, by_setting)


def _own_rules(table: Table) -> Iterator[Lane]:
    """Methods with a rule of their own, as they were recorded: a method's variants are the settings of one lane."""
    named: dict[str, dict[str, Played]] = {}
    quadrants = {}
    for method in table.rules:
        if method.spent is None or method.latency is None or _is_stopping(method.name):
            continue
        result = own_rule(method.pool, method.spent, method.values, method.checks)
        head = method.name.partition(":")[0]
        played = Played(result.voted, result.tokens, method.latency.serial, method.latency.rounds)
        named.setdefault(head, {})[method.name] = played
        quadrants[head] = method.quadrant
    for name, variants in named.items():
        yield Lane.of(name, "own rule", quadrants[name], variants)


def _is_stopping(name: str) -> bool:
    """Is it a rule that has a lane of its own already?"""
    head = name.partition(":")[0]
    return head in registry.names("pruners") and registry.pruner(head).traits.stops
