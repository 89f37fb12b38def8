"""The paths of one problem: what each method kept and dropped, and whether that was right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Group as Lines
from rich.padding import Padding
from rich.table import Table as Grid
from rich.text import Text

from harness import advice, registry, vote
from harness.api import Path, PathpruneError
from harness.ledger import IMPORTED
from harness.report import Group, Method
from harness.report.rows import judge
from harness.store.records import pool_of
from harness.text import folded, one_line, shorten, shown, unknown

if TYPE_CHECKING:
    import pandas as pd

WHICH = ("all", "kept", "dropped", "right", "wrong")
CHARACTERS = 160  # characters shown in a terminal from the end of a prefix
QUESTION = 1200  # characters shown in a terminal of a question
NAME = 15  # characters of a line of a method's name in a terminal
USUAL = "stop"  # method shown by default


@dataclass(frozen=True, eq=False)
class Choice:
    """A method's decisions on the N paths of a problem.

    ``scores`` float ``[N]``: scores at L, or vote weights of a method with its own decision rule. ``spent`` int ``[N]``: tokens that
    such a rule generated per path; None for a method that keeps the best paths at L.
    """

    name: str
    quadrant: str
    scores: np.ndarray
    kept: np.ndarray  # bool [N]
    spent: np.ndarray | None

    def order(self) -> np.ndarray:
        """Path indices in descending order of score, ties by index; int ``[N]``."""
        return np.argsort(-self.scores, kind="stable")


@dataclass(frozen=True, eq=False, repr=False)
class Shown:
    """The N paths of one problem, with the choices of some methods; displays as a table in a terminal and a notebook.

    ``prefixes`` and ``texts`` contain each path's first L tokens and its full text; they are empty if no texts were found.
    ``correct`` is bool ``[N]``; ``notes`` lists missing data with remedies.
    """

    group: Group
    problem: str
    keep: int
    question: str
    answers: Sequence[str | None]
    correct: np.ndarray
    lengths: np.ndarray
    choices: Sequence[Choice]
    prefixes: Sequence[str] = ()
    texts: Sequence[str] = ()
    notes: Sequence[str] = ()
    which: Collection[str] = field(default=("all",))
    characters: int = CHARACTERS

    def frame(self) -> pd.DataFrame:
        """One row per path, in descending order of the first method's score: answer, correct, length, and each method's score and kept."""
        import pandas as pd

        columns: dict[str, Any] = {"index": np.arange(len(self.correct)), "answer": self.answers}
        columns |= {"correct": self.correct, "length": self.lengths}
        for choice in self.choices:
            columns |= {choice.name: choice.scores, f"{choice.name} kept": choice.kept}
        if self.prefixes:
            columns |= {"prefix": self.prefixes, "text": self.texts}
        return pd.DataFrame(columns).iloc[self.chosen()].reset_index(drop=True)

    def chosen(self) -> list[int]:
        """Indices of the paths selected by ``which``, in descending order of the first method's score."""
        first = self.choices[0]
        tests = {"kept": first.kept, "dropped": ~first.kept, "right": self.correct, "wrong": ~self.correct}
        wanted = [tests[name] for name in self.which if name != "all"]
        return [int(i) for i in first.order() if all(test[i] for test in wanted)]

    def only(self, *which: str, characters: int = CHARACTERS) -> Shown:
        """Restrict to the paths that satisfy all conditions.

        Args:
            which: conditions among kept, dropped, right and wrong; kept and dropped refer to the first method.
            characters: characters shown in a terminal from the end of each prefix; 0: the whole prefix.

        Raises:
            PathpruneError: an unknown condition.
        """
        for name in which:
            if name not in WHICH:
                raise PathpruneError(unknown("kind of path", name, list(WHICH)))
        return replace(self, which=which or ("all",), characters=characters)

    def summaries(self) -> list[str]:
        """One line per method: numbers of kept and dropped paths, right paths in each, and the vote of the kept ones."""
        n, right = len(self.correct), int(self.correct.sum())
        return [self._summary(choice, right, n) for choice in self.choices]

    def _summary(self, choice: Choice, right: int, n: int) -> str:
        kept = int(choice.kept.sum())
        good = int((self.correct & choice.kept).sum())
        line = f"{choice.name} keeps {kept} of {n} paths, {good} of them right; {right - good} of the {n - kept} dropped are right."
        if choice.spent is None:
            line += f" At random {kept * right / n:.1f} of {kept} would be right."
        return f"{line} The kept vote {self._vote(np.flatnonzero(choice.kept), choice)}."

    def _vote(self, paths: np.ndarray, choice: Choice | None = None) -> str:
        """The majority answer of these paths, its number of votes, and whether it is right."""
        answers = [self.answers[i] for i in paths]
        own = choice is not None and choice.spent is not None
        weights = choice.scores[paths] if choice is not None and own else np.ones(len(paths))
        winner = vote.heaviest(answers, weights)
        if winner is None:
            return "for nothing"
        elected = [i for i in paths if self.answers[i] == winner]
        verdict = "right" if self.correct[elected].any() else "wrong"
        return f"{shorten(winner, 60)} ({len(elected)} of {len(paths)}), which is {verdict}"

    def everyone(self) -> str:
        """A line with the number of right paths, and the vote of all paths."""
        n = len(self.correct)
        return f"{int(self.correct.sum())} of {n} paths are right. All of them vote {self._vote(np.arange(n))}."

    def __rich__(self) -> Any:
        return _terminal(self)

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=120, force_jupyter=False, markup=False, emoji=False)
        with console.capture() as text:
            console.print(self.__rich__())
        return text.get()

    def _repr_html_(self) -> str:
        from html import escape

        said = "".join(f"<p>{escape(line)}</p>" for line in _said(self))
        return f"{said}{self.frame().drop(columns='text', errors='ignore').to_html(index=False)}"

    def data(self) -> dict[str, Any]:
        """The data for the HTML page, as JSON; equal texts are stored once."""
        choices = [
            {
                "name": choice.name,
                "quadrant": choice.quadrant,
                "summary": summary,
                "scores": [float(f"{value:.5g}") for value in choice.scores],
                "kept": [int(i) for i in np.flatnonzero(choice.kept)],
                **({} if choice.spent is None else {"spent": [int(t) for t in choice.spent]}),
            }
            for choice, summary in zip(self.choices, self.summaries(), strict=True)
        ]
        return {
            "problem": self.problem,
            "table": self.group.slug,
            "title": self.group.title,
            "unit": self.group.unit,
            "question": self.question,
            "everyone": self.everyone(),
            "answers": list(self.answers),
            "right": [int(i) for i in np.flatnonzero(self.correct)],
            "lengths": [int(length) for length in self.lengths],
            "prefixes": list(self.prefixes),
            "choices": choices,
            "notes": list(self.notes),
        }


def show(
    group: Group, keep: int, problem: str | int, pruners: Sequence[str] | None, stored: Callable[[str], Sequence[Path]]
) -> Shown:
    """The paths of a problem in a table, with the choices of some methods.

    Args:
        group: the table's records.
        keep: number of paths kept.
        problem: its id, or its number in the table's order, from 0.
        pruners: names of methods in the table; None: stop if benched, else the method with the largest gain.
        stored: returns the finished paths of a problem by its id.

    Raises:
        PathpruneError: no such problem or method, or a table of several cuts.
    """
    if group.stages:
        raise PathpruneError("paths are shown at one cut; bench each stage's prefix by itself to see them")
    if not 1 <= keep <= group.pool.n:
        raise PathpruneError(f"keep must be from 1 to n = {group.pool.n}, not {keep}")
    name = problem_of(group, problem)
    methods = methods_of(group, name, pruners, keep)
    row = group.pool.problems.index(name)
    answers = pool_of(group.folder).lines[name]["answers"][: group.pool.n]
    question, unasked = _question(group, name, stored)
    prefixes, texts, untold = _texts(group, name, stored)
    return Shown(
        group, name, keep, question, answers, group.pool.correct[row], group.pool.lengths[row],
        [_choice(group, method, name, keep) for method in methods], prefixes, texts, (*unasked, *untold),
    )  # fmt: skip


def table_with(groups: Sequence[Group], problem: str | int) -> Group:
    """The first of these tables that contains the problem, by id or else by number.

    Raises:
        PathpruneError: no table contains it; the message suggests an id.
    """
    named = [group for group in groups if str(problem) in group.pool.problems]
    numbered = [group for group in groups if _number(problem, group) is not None]
    for group in (*named, *numbered):
        return group
    every = dict.fromkeys(name for group in groups for name in group.pool.problems)
    raise _no_problem(str(problem), list(every), max(len(group.pool.problems) for group in groups))


def problem_of(group: Group, problem: str | int) -> str:
    """The id of a table's problem, given by id or number.

    Raises:
        PathpruneError: no such problem; the message suggests an id.
    """
    known = group.pool.problems
    if str(problem) in known:
        return str(problem)
    if (number := _number(problem, group)) is not None:
        return known[number]
    raise _no_problem(str(problem), known, len(known))


def _number(problem: str | int, group: Group) -> int | None:
    """The index of a problem given by number; None if it is not a number in the table's range."""
    text = str(problem)
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        return None
    return int(text) if int(text) < len(group.pool.problems) else None


def _no_problem(problem: str, known: Sequence[str], count: int) -> PathpruneError:
    near = get_close_matches(problem, known, 1)
    guess = (
        f"did you mean {near[0]}? Else give an id"
        if near and not problem.isdigit()
        else f"give an id, such as {known[0]},"
    )
    return PathpruneError(f"unknown problem {shown(problem)}; {guess} or a number from 0 to {count - 1}")


def methods_of(group: Group, problem: str, pruners: Sequence[str] | None, keep: int) -> list[Method]:
    """The methods with these names that scored a problem.

    Raises:
        PathpruneError: a method that is not in the table, or has no score for the problem.
    """
    known = {m.name: m for m in group.judged if m.role != "closed-form" and len(m.pool.problems)}
    if not known:
        raise PathpruneError(f"no method was benched at {group.slug}; run: {advice.command('bench', pruner='stop')}")
    if pruners is None:
        pruners = [USUAL if USUAL in known else _best(group, list(known.values()), keep)]
    if not pruners:
        raise PathpruneError("no pruner given; leave it out, or name one of the table")
    for name in pruners:
        if name not in known:
            raise PathpruneError(unknown("pruner of this table", name, list(known)))
        if problem not in known[name].pool.problems:
            raise PathpruneError(f"pruner {name} has no score for {problem}; name another pruner or problem")
    return [known[name] for name in dict.fromkeys(pruners)]


def _best(group: Group, methods: Sequence[Method], keep: int) -> str:
    """The method with the largest gain over random, or the first one if none is compared with random."""
    gains = [(judge(m, group, keep).gain.mean(), m.name) for m in methods if m.ranks and m.ranked_by == "paths"]
    return max(gains)[1] if gains else methods[0].name


def _choice(group: Group, method: Method, problem: str, keep: int) -> Choice:
    row = method.pool.problems.index(problem)
    kept = judge(method, group, keep).mask[row]
    spent = None if method.spent is None else method.spent[row]
    return Choice(method.name, method.quadrant, method.values[row], kept, spent)


def _texts(
    group: Group, problem: str, stored: Callable[[str], Sequence[Path]]
) -> tuple[list[str], list[str], list[str]]:
    """(prefixes, full texts, notes); without texts the first two are empty."""
    try:
        paths = stored(problem)
    except MissingPathsError as error:
        return [], [], [str(error)]
    if not any(path.text for path in paths):
        return [], [], ["The paths were recorded without their texts."]
    cut, notes = _cutter(group.spec, paths)
    return [cut(path, group.prefix) for path in paths], [path.text for path in paths], notes


class MissingPathsError(PathpruneError):
    """The paths are in no local bank; the message says how to restore them."""


def _cutter(spec: Mapping[str, Any], paths: Sequence[Path]) -> tuple[Callable[[Path, int], str], list[str]]:
    """(a function from a path and L to the text of its first L tokens, notes)."""
    if spec["engine"]["engine"] == IMPORTED:
        return (lambda path, length: path.cut(length, lambda tokens: getattr(tokens, "text", "")).text), []
    from harness.engines.identity import EMBEDDED, FETCHED
    from harness.imports.measure import decoder_by

    model = str(spec["engine"]["model"])
    try:
        # A bare name may be the last part of a folder on another machine, so the Hub is not queried for it.
        if model not in (*EMBEDDED, *FETCHED) and "/" not in model and not FilePath(model).is_dir():
            raise PathpruneError(f"there is no model folder {model} here")
        decode = decoder_by(model)
    except PathpruneError as error:
        rate = sum(len(p.text) for p in paths) / max(1, sum(p.drawn for p in paths))
        told = f"Prefixes are cut at {rate:.1f} characters per token, for there is no tokenizer here: {error}"
        return partial(_cut_at_rate, rate), [told]
    return (lambda path, length: path.cut(length, decode).text), []


def _cut_at_rate(rate: float, path: Path, length: int) -> str:
    return path.text if length >= path.drawn else path.text[: round(rate * length)]


def _question(group: Group, problem: str, stored: Callable[[str], Sequence[Path]]) -> tuple[str, list[str]]:
    """(the question, notes on why it is missing)."""
    spec, problems = group.spec, len(group.pool.problems)
    if spec["engine"]["engine"] == IMPORTED:
        try:
            return stored(problem)[0].problem.prompt, []
        except MissingPathsError:
            return "", []
    try:
        task = registry.task(str(spec["task"]))
        if task.version != spec["task_version"]:
            raise PathpruneError(f"task {task.name} is of version {task.version} here, not {spec['task_version']}")
        return next((p.prompt for p in task.problems("test", problems) if p.id == problem), ""), []
    except PathpruneError as error:
        return "", [f"The question is not shown: {error}"]


def _said(found: Shown) -> list[str]:
    """The lines above the paths."""
    question = [f"Question: {one_line(shorten(found.question, QUESTION))}"] if found.question else []
    return [found.group.title, f"Problem {found.problem}. {found.everyone()}", *question, *found.summaries()]


def _terminal(found: Shown) -> Lines:
    """Lines and a table that fit into 80 columns."""
    title, *said = _said(found)
    parts: list[Any] = [Text(title, "table.title"), *(Padding(Text(line), (0, 0, 0, 2), expand=False) for line in said)]
    parts += [_grid(found), *(Text(note, "yellow") for note in found.notes)]
    return Lines(*parts)


def _grid(found: Shown) -> Grid:
    """A table with one row per path; a line separates kept from dropped paths if the first method keeps by score."""
    first, chosen = found.choices[0], found.chosen()
    grid = Grid(box=box.HORIZONTALS, padding=(0, 1, 0, 0), pad_edge=False)
    grid.add_column("path", justify="right")
    for choice in found.choices:
        grid.add_column(Text("\n".join(folded(one_line(choice.name), NAME))), justify="right", max_width=NAME)
    grid.add_column("answer", max_width=10, no_wrap=True, overflow="ellipsis")
    grid.add_column("")
    grid.add_column(found.group.unit, justify="right")
    if found.prefixes:
        grid.add_column("prefix", ratio=1, overflow="fold")
    for at, i in enumerate(chosen):
        ends = at + 1 < len(chosen) and first.kept[i] != first.kept[chosen[at + 1]] and first.spent is None
        grid.add_row(*_cells(found, i), end_section=bool(ends), style="" if first.kept[i] else "dim")
    return grid


def _cells(found: Shown, i: int) -> Iterator[Text]:
    yield Text(str(i))
    for choice in found.choices:
        yield Text(_verdict(choice, i, int(found.lengths[i])))
    answer = found.answers[i]
    yield Text("-" if answer is None else one_line(answer))
    yield Text("right", "green") if found.correct[i] else Text("wrong", "red")
    yield Text(f"{found.lengths[i]:,}")
    if found.prefixes:
        yield Text(_ending(one_line(" ".join(found.prefixes[i].split())), found.characters))


def _verdict(choice: Choice, i: int, length: int) -> str:
    """A path's score and whether it was kept; for a method with its own rule, its vote weight or where it was aborted."""
    kept, score = choice.kept[i], f"{choice.scores[i]:.3g}"
    if choice.spent is None:
        return f"{score} kept" if kept else f"{score}  cut"
    return f"votes {score}" if kept else f"cut at {choice.spent[i]}" if choice.spent[i] < length else "has no vote"


def _ending(text: str, most: int) -> str:
    """The end of a text, the part in which paths differ."""
    return text if not most or len(text) <= most else "..." + text[len(text) - most :]
