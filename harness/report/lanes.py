"""Lanes of a frontier: pruning once, pruning repeatedly, early stopping, and combinations, at every setting.

A lane is one way to spend tokens, with the settings that a user can choose: number of paths, positions of the cuts, numbers of
paths kept, and the threshold of a stopping rule. Everything is replayed from records; nothing is sampled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any, Literal

import numpy as np

from harness import registry
from harness.api import PathpruneError
from harness.plugins.declared import Plugin
from harness.plugins.guard import blamed, is_ours
from harness.replay.policy import Played, Policy, play, play_keeps, play_sizes
from harness.replay.pool import Pool, own_rule, weighted_vote
from harness.replay.stages import Checks, from_rows
from harness.report import Group, Method, groups_of, judged_records
from harness.report.parallel import each_table
from harness.spec import At, Cut, Ended, Stage
from harness.store import records
from harness.text import unknown

Kind = Literal[
    "no pruning", "stopping", "one cut", "two cuts", "three cuts", "cut at a step", "cut at a forced answer", "dynamic cuts",
    "cut, then stopping", "own rule",
]  # fmt: skip
PLACED: Mapping[At, Kind] = {"step": "cut at a step", "forced": "cut at a forced answer"}
CUTS: Mapping[int, Kind] = {1: "one cut", 2: "two cuts", 3: "three cuts"}  # at token lengths
MOST_CUTS = max(CUTS)
Chain = tuple[Cut, ...]
LAUNCHED = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 512)  # numbers of paths that are tried
LEAST = 8  # minimum number of paths for a stopping rule
BEHIND = 4  # minimum number of paths for a stopping rule after a cut
WHOLE = "no pruning"
USUAL = "stop"  # default scorer for lanes of several cuts and of stopping rules


@dataclass(frozen=True, eq=False)
class Lane:
    """One way to spend tokens: the names of its ``settings``, and the results and costs of each on every problem, float ``[S, Q]``."""

    name: str
    kind: Kind
    quadrant: str
    settings: tuple[str, ...]
    voted: np.ndarray
    tokens: np.ndarray
    serial: np.ndarray

    @classmethod
    def of(cls, name: str, kind: Kind, quadrant: str, played: Mapping[str, Played]) -> Lane:
        """Build a lane from replays, by the settings' names."""
        columns = ((getattr(p, f) for p in played.values()) for f in ("voted", "tokens", "serial"))
        return cls(name, kind, quadrant, tuple(played), *(np.stack([*column]) for column in columns))


@dataclass(frozen=True, eq=False)
class Scorer:
    """A method's scores at each prefix length, and at each kind of place, at which it scored all problems of a pool."""

    name: str
    quadrant: str
    pointwise: bool
    cuts: Mapping[int, Checks]
    places: Mapping[Cut, Checks] = field(default_factory=dict)  # at step boundaries and forced answers

    @property
    def checks(self) -> dict[Cut, Checks]:
        """All its scores, by where paths are cut."""
        return {Cut(prefix, "token", prefix): checks for prefix, checks in self.cuts.items()} | dict(self.places)

    def schedules(self, cuts: int, limit: int) -> Iterator[tuple[Cut, ...]]:
        """All ways to cut ``cuts`` times.

        A place depends on the token at which the search for it ends, so it fits only before the stage that it was recorded
        before, or before the token limit.
        """
        for chain in combinations(sorted(self.checks), cuts):
            ends = (*(cut.prefix for cut in chain[1:]), limit)
            if all(
                c.prefix < end and (c.at == "token" or c.cap == end - 1) for c, end in zip(chain, ends, strict=True)
            ):
                yield chain


@dataclass(frozen=True, eq=False)
class Table:
    """All records of one pool: its scorers, and the methods with their own decision rule.

    ``left_out``: for each recorded method without a lane, the reason. ``fewer``: the ``rules`` on fewer of the same paths.
    """

    group: Group
    scorers: tuple[Scorer, ...]
    rules: tuple[Method, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    fewer: tuple[Method, ...] = ()

    @property
    def pool(self) -> Pool:
        """The paths."""
        return self.group.pool

    @property
    def limit(self) -> int:
        """Maximum tokens per path."""
        return int(self.group.spec["max_tokens"])


def tables_of(groups: Sequence[Group]) -> list[Table]:
    """One table per pool, with the scores at all prefix lengths in the groups.

    Raises:
        PathpruneError: a pool with a single problem, which leaves no held-out ones, or with a single path.
    """
    folders: dict[Path, list[Group]] = {}
    for group in groups:
        if len(group.pool.problems) < 2:
            raise PathpruneError(
                f"{group.folder} has one problem, and settings are chosen and evaluated on different problems; bench "
                "two or more"
            )
        if group.pool.n < 2:
            raise PathpruneError(f"{group.folder} has one path per problem, so there is nothing to choose; bench more")
        folders.setdefault(group.folder, []).append(group)
    return [_table(folder, same) for folder, same in folders.items()]


def _table(folder: Path, groups: Sequence[Group]) -> Table:
    pool = groups[0].pool
    lines = {(r.file.stem.rpartition("-")[2], r.header["spec"]["prefix"]): r.lines for r in judged_records(folder)}
    found: dict[str, list[tuple[Cut, Method]]] = {}
    left_out: dict[str, str] = {}
    for group in groups:
        for method in group.judged:
            if why := _lacks(method, pool) or _elsewhere(method, group):
                left_out[method.name] = why
            elif method.ranks:
                found.setdefault(method.name, []).append((group.cut, method))
    scorers = list[Scorer]()
    for name, methods in found.items():
        checks = {cut: _checks(m, [lines[m.key, cut.prefix][p] for p in pool.problems]) for cut, m in methods}
        at_lengths = {cut.prefix: check for cut, check in checks.items() if cut.at == "token"}
        places = {cut: check for cut, check in checks.items() if cut.at != "token"}
        scorers.append(Scorer(name, methods[0][1].quadrant, all(m.pointwise for _, m in methods), at_lengths, places))
    rules = [m for m in groups[0].judged if m.role == "own-rule" and m.name not in left_out]
    lacking = {name: why for name, why in left_out.items() if name not in found}
    return Table(groups[0], tuple(scorers), tuple(rules), lacking, tuple(_on_fewer(groups[0], rules)))


def _on_fewer(group: Group, rules: Sequence[Method]) -> Iterator[Method]:
    """Records of these rules on the first paths of a group's pool, benched with a smaller n into the same results folder."""
    pool, names = group.pool, {m.name for m in rules}
    for folder in records.pools(group.folder.parents[1]) if names else ():
        spec = records.pool_of(folder).header["spec"]
        if spec["n"] >= pool.n or spec | {"n": pool.n} != group.spec:
            continue
        for other in [*groups_of(folder, problems=pool.problems)][:1]:
            same = [getattr(other.pool, f) for f in ("problems", "lengths", "correct")]
            first = [getattr(pool.first(other.pool.n), f) for f in ("problems", "lengths", "correct")]
            if all(map(np.array_equal, same, first)):
                yield from (m for m in other.judged if m.name in names and not _lacks(m, other.pool))


def _lacks(method: Method, pool: Pool) -> str:
    """Why a recorded method cannot stand beside others, "" where it can."""
    if not (method.ranks or method.role == "own-rule" or method.errors):
        return ""  # closed-form controls, and oracles
    if method.stale:
        return "scored by older code; bench it again"
    judged, total = len(method.pool.problems), len(pool.problems)
    return f"scored on {judged} of {total} problems; bench it on all" if judged < total else ""


def _elsewhere(method: Method, group: Group) -> str:
    """Why a record's places are not those that paths are cut at now, "" where they are."""
    return "cut by older rules for places; bench it again" if method.ranks and group.key != group.cut.key else ""


def _checks(method: Method, rows: Sequence[Mapping[str, Any]]) -> Checks:
    """Scores and costs; if a row has no costs per path, its cost is split equally."""
    if all("each" in row for row in rows):
        return from_rows(rows, method.pool.n)
    shape, n = method.values.shape, method.pool.n
    tokens, flops = (np.array([getattr(c, f) for c in method.checks], float)[:, None] / n for f in ("tokens", "flops"))
    zeros = np.zeros(shape[0])
    placed = from_rows([{**row, "each": {}} for row in rows], n)
    return Checks(
        method.values, np.broadcast_to(tokens, shape), np.broadcast_to(flops, shape), zeros, zeros,
        places=placed.places, reached=placed.reached,
    )  # fmt: skip


def without_lane(left_out: Mapping[str, str]) -> list[str]:
    """A line per reason, with the methods that have no lane for it."""
    by_reason: dict[str, list[str]] = {}
    for name, why in sorted(left_out.items()):
        by_reason.setdefault(why, []).append(name)
    return [f"Left out: {', '.join(names)} ({why})." for why, names in by_reason.items()]


def lanes(
    table: Table,
    scorers: Sequence[str],
    rules: Sequence[Plugin],
    draws: int,
    progress: Callable[[int, int, str], None] = lambda done, total, name: None,
    ended: Ended = "count",
) -> list[Lane]:
    """Replay all lanes of a table, several in parallel.

    Args:
        table: the records.
        scorers: scorers with lanes of several cuts and of stopping rules; the others are cut once.
        rules: stopping rules, replayed alone and after each scorer.
        draws: random launches per setting.
        progress: called with lanes done, number of lanes, and the name of the latest.
        ended: "count" if paths that end inside a prefix use places among those kept, "bypass" if they vote in addition.

    Raises:
        PathpruneError: a scorer without scores in the table.
    """
    wanted, played = list(_wanted(table, scorers, rules, draws, ended)), list[Lane]()

    def done(lane: Lane) -> None:
        played.append(lane)
        progress(len(played), len(wanted), lane.name)

    progress(0, len(wanted), "")
    return [*each_table(_made, wanted, done), *_own_rules(table)]


def _made(make: Callable[[], Lane]) -> Lane:
    return make()


def _wanted(
    table: Table, scorers: Sequence[str], rules: Sequence[Plugin], draws: int, ended: Ended
) -> Iterator[Callable[[], Lane]]:
    """What makes each lane, the dearest first, so that no core is left with it at the end."""
    pool, chosen = table.pool, [_named(table, name) for name in scorers]
    possible = [cuts for cuts in range(MOST_CUTS, 1, -1) if next(_falling(pool.n, cuts), None)]  # not of a few paths
    for scorer in chosen:
        if scorer.cuts:
            yield from (partial(_cut_then_stopped, pool, scorer, rule, draws, ended) for rule in rules)
        if dynamic := _dynamic(scorer, table.limit, possible):
            yield partial(_cut_along, pool, scorer, "dynamic cuts", dynamic, draws, ended)
        for cuts in possible:
            if scorer.pointwise and len(scorer.cuts) >= cuts:
                yield partial(_cut_along, pool, scorer, CUTS[cuts], _at_lengths(scorer, cuts), draws, ended)
    alone = {rule.name: rule for rule in (*rules, *_stopping_rules())}
    yield from (partial(_stopping, pool, rule, draws) for rule in alone.values())
    for scorer in table.scorers:
        if scorer.cuts:
            yield partial(_cut_along, pool, scorer, CUTS[1], _at_lengths(scorer, 1), draws, ended)
        for at, kind in PLACED.items():
            if chains := [(cut,) for (cut,) in scorer.schedules(1, table.limit) if cut.at == at]:
                yield partial(_cut_along, pool, scorer, kind, chains, draws, ended)
    yield partial(no_pruning, pool, draws)


def _at_lengths(scorer: Scorer, cuts: int) -> list[Chain]:
    """All ways to cut ``cuts`` times at token lengths."""
    return list(combinations([Cut(prefix, "token", prefix) for prefix in sorted(scorer.cuts)], cuts))


def _dynamic(scorer: Scorer, limit: int, possible: Sequence[int]) -> list[Chain]:
    """All schedules with a cut at a place; empty if they are the settings of a lane of one cut at one kind of place."""
    counts = (1, *reversed(possible)) if scorer.pointwise else (1,)
    chains = [c for cuts in counts for c in scorer.schedules(cuts, limit) if any(cut.at != "token" for cut in c)]
    return chains if len({tuple(cut.at for cut in chain) for chain in chains}) > 1 else []


def scorers_of(tables: Sequence[Table], wanted: Sequence[str] | None) -> list[list[str]]:
    """The requested scorers that each table has; ``wanted`` None: stop, if benched.

    Raises:
        PathpruneError: a scorer that no table has.
    """
    names = [USUAL] if wanted is None else list(dict.fromkeys(wanted))
    chosen = [[name for name in names if any(s.name == name for s in table.scorers)] for table in tables]
    if lacking := [name for name in names if wanted is not None and not any(name in here for here in chosen)]:
        _named(tables[0], lacking[0])
    return chosen


def _named(table: Table, name: str) -> Scorer:
    known = {s.name: s for s in table.scorers}
    if name in known:
        return known[name]
    if name in table.left_out:
        raise PathpruneError(f"{name} has no lanes on {table.group.folder.name}: it was {table.left_out[name]}")
    if is_stopping(name):
        raise PathpruneError(f"{name} is a stopping rule, not a scorer; name it as a rule")
    raise PathpruneError(unknown(f"scorer of {table.group.folder.name}", name, list(known)))


def sizes(n: int) -> list[int]:
    """Numbers of paths to launch, up to ``n``."""
    return sorted({size for size in LAUNCHED if size <= n} | {n})


def no_pruning(pool: Pool, draws: int) -> Lane:
    """Fewer paths, all of them finished: the control of every figure."""
    policies = [Policy(n) for n in sizes(pool.n)]
    return Lane.of(WHOLE, "no pruning", "control", {str(p): play(pool, p, draws=4 * draws) for p in policies})


def rules_of(specs: Sequence[Any]) -> list[Plugin]:
    """Stopping rules from specs or Python objects.

    Raises:
        PathpruneError: not a stopping rule.
    """
    plugins = [_rule_of(one) if isinstance(one, str) else registry.of_object(one) for one in specs]
    for plugin in plugins:
        if not plugin.traits.stops:
            raise PathpruneError(registry.no_rule(plugin.name))
    return plugins


def _rule_of(spec: str) -> Plugin:
    head, known = spec.partition(":")[0], registry.names("pruners")
    if "@" in spec or head in known or head.endswith(".py"):
        return registry.pruner(spec)
    raise PathpruneError(unknown("stopping rule", head, list(filter(is_stopping, known))))


def _stopping_rules() -> list[Plugin]:
    plugins = [registry.pruner(name) for name in registry.names("pruners")]
    return [p for p in plugins if p.traits.stops and not p.traits.on_request]


def _swept(plugin: Plugin) -> list[Plugin]:
    """A rule at every setting of its ``grid``; a rule with options, without a grid or from a Python object stays as it is."""
    grid = plugin.traits.grid
    if not grid or plugin.options or not plugin.spec:
        return [plugin]
    every = [zip(grid, values, strict=True) for values in product(*grid.values())]
    return [registry.pruner(f"{plugin.spec}:{','.join(f'{k}={v}' for k, v in values)}") for values in every]


def _blamed(rule: Plugin) -> AbstractContextManager[None]:
    """Report exceptions of third-party rules in one line that names the rule."""
    return nullcontext() if is_ours(rule.pruner) else blamed(f"stopping rule {rule.name!r}")


def _stopping(pool: Pool, plugin: Plugin, draws: int) -> Lane:
    """A lane of a rule alone, at every number of paths."""
    launched, played = [n for n in sizes(pool.n) if n >= min(LEAST, pool.n)], dict[str, Played]()
    with _blamed(plugin):
        for rule in _swept(plugin):
            gave = play_sizes(pool, rule.pruner, launched, draws)
            played |= {str(Policy(n, (), rule.pruner, rule.name)): one for n, one in zip(launched, gave, strict=True)}
    return Lane.of(plugin.name, "stopping", plugin.traits.quadrant, played)


def name_of(scorer: str, kind: Kind) -> str:
    """The name of a scorer's lane of a kind."""
    return scorer if kind == "one cut" else f"{scorer}, {kind}"


def _cut_along(pool: Pool, scorer: Scorer, kind: Kind, chains: Sequence[Chain], draws: int, ended: Ended) -> Lane:
    """A lane of a scorer with cuts along each of some schedules, at every choice of numbers kept."""
    played = _cuts_played(pool, scorer, chains, draws, ended)
    return Lane.of(name_of(scorer.name, kind), kind, scorer.quadrant, played)


def _cuts_played(pool: Pool, scorer: Scorer, chains: Sequence[Chain], draws: int, ended: Ended) -> dict[str, Played]:
    played, known = dict[str, Played](), scorer.checks
    for chain in chains:
        checks = [known[cut] for cut in chain]
        for n, earlier, last in _falling(pool.n, len(chain)):
            stages = [
                tuple(Stage(c.prefix, keep, c.at) for c, keep in zip(chain, (*earlier, k), strict=True)) for k in last
            ]
            gave = play_keeps(pool, Policy(n, stages[0], ended=ended), last, checks, draws)
            played |= {str(Policy(n, s)): one for s, one in zip(stages, gave, strict=True)}
    return played


def _falling(most: int, cuts: int) -> Iterator[tuple[int, tuple[int, ...], list[int]]]:
    """(paths launched, kept by all cuts but the last, choices for the last); with several cuts, each keeps half or fewer."""
    for n in sizes(most):
        for earlier in combinations(reversed([size for size in LAUNCHED if size < n]), cuts - 1):
            left = (n, *earlier)
            last = [k for k in LAUNCHED if (2 * k <= left[-1] if cuts > 1 else k < n)]
            if last and all(2 * after <= before for before, after in pairwise(left)):
                yield n, earlier, last


def _cut_then_stopped(pool: Pool, scorer: Scorer, plugin: Plugin, draws: int, ended: Ended) -> Lane:
    """A lane of one cut followed by a rule at every threshold; omitting the rule is one more setting."""
    played = _cuts_played(pool, scorer, _at_lengths(scorer, 1), draws, ended)
    with _blamed(plugin):
        for rule, prefix, (n, _, kept) in product(_behind(plugin), sorted(scorer.cuts), _falling(pool.n, 1)):
            policies = [Policy(n, (Stage(prefix, k),), rule.pruner, rule.name, ended) for k in kept if k >= BEHIND]
            if policies:
                keeps = [policy.stages[0].keep for policy in policies]
                gave = play_keeps(pool, policies[0], keeps, [scorer.cuts[prefix]], draws)
                played |= dict(zip(map(str, policies), gave, strict=True))
    return Lane.of(f"{scorer.name}+{plugin.name}", "cut, then stopping", scorer.quadrant, played)


def _behind(plugin: Plugin) -> list[Plugin]:
    """A rule for use after a scorer: sequential if possible, to benefit from the order of the scores."""
    swept = _swept(plugin)
    return [rule for rule in swept if rule.traits.sequential] or swept


def _own_rules(table: Table) -> Iterator[Lane]:
    """Lanes of methods with their own decision rule; variants and numbers of paths are the settings of a lane."""
    named: dict[str, dict[str, Played]] = {}
    quadrants = {}
    for method in table.rules:
        if method.batches is None or is_stopping(method.name):
            continue
        head = method.name.partition(":")[0]
        named.setdefault(head, {}).update(_launches(method))
        quadrants[head] = method.quadrant
    for method in table.fewer:
        head, setting = method.name.partition(":")[0], str(Policy(method.pool.n, (), None, method.name))
        if head in named and setting not in named[head] and method.batches is not None:
            named[head][setting] = _launched(method, method.pool.n)
    for name, variants in named.items():
        yield Lane.of(name, "own rule", quadrants[name], variants)


def _launches(method: Method) -> Iterator[tuple[str, Played]]:
    """Replay a method's own rule on all paths, and on fewer if the record determines its decisions on those.

    A sequential rule decides on the first n paths before it sees the others. The recorded cost of a Check of all paths does not
    apply to smaller launches, so a rule with such a cost is replayed only as recorded.
    """
    n, batches, free = method.pool.n, method.batches, not any(c.tokens or c.flops for c in method.checks)
    for size in sizes(n):
        if size == n or (free and size >= LEAST and batches and batches.begins(size)):
            yield str(Policy(size, (), None, method.name)), _launched(method, size)


def _launched(method: Method, n: int) -> Played:
    """Replay the first n paths, which vote with the rule's weights."""
    pool, values = method.pool.first(n), method.values[:, :n]
    if method.spent is None or method.batches is None:
        raise ValueError(f"{method.name} has no decision rule of its own, or none with a recorded generation order")
    spent = method.spent[:, :n]
    serial, rounds = method.batches.latency(spent)
    return Played(weighted_vote(pool, values), own_rule(pool, spent, values, method.checks).tokens, serial, rounds)


def is_stopping(name: str) -> bool:
    """Is this the name of a registered stopping rule?"""
    head = name.partition(":")[0]
    return head in registry.names("pruners") and registry.pruner(head).traits.stops
