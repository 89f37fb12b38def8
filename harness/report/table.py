"""A table as an object: data frame, figures, the underlying paths, and display in a terminal and a notebook."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path as FilePath
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import registry
from harness.api import Path, PathpruneError, Problem
from harness.imports.pool import CARD, native
from harness.imports.pool import Pool as ImportedPool
from harness.ledger import IMPORTED
from harness.plugins import declared as plugins
from harness.pools.bank import Bank
from harness.report import Group, groups_of, selected, usual_keep
from harness.report.paired import paired
from harness.report.problem import MissingPathsError, Shown
from harness.report.problem import show as show_problem
from harness.report.rows import Row, rows
from harness.report.schedule import schedule_of
from harness.spec import Ended, RunSpec
from harness.store.records import pool_of
from harness.text import unknown

if TYPE_CHECKING:
    import pandas as pd

DRAWINGS = FilePath("results/figures")


@dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Every method of one pool at one prefix length, or along one schedule of cuts.

    ``rows`` are sorted with the exact controls first. ``bank`` is the folder of the paths. ``as_sets`` names methods that a
    schedule leaves out, because they score paths jointly or were recorded without costs per path.
    ``failures``: by method, the number of failed problems and the first reason.
    """

    group: Group
    rows: Sequence[Row]
    keep: int
    bank: FilePath
    as_sets: tuple[str, ...] = ()
    failures: Mapping[str, tuple[int, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        folder: FilePath,
        spec: RunSpec,
        problems: Sequence[str],
        vote: str | None,
        bank: FilePath,
        pairs: Sequence[plugins.Method] = (),
        time_limit: float | None = None,
    ) -> Table:
        """The table of a run with records in ``folder``, on these problems; ``pairs`` are scorers combined with a stopping rule."""
        if spec.is_schedule:
            group, left_out = schedule_of(folder, spec, problems)
        else:
            group, left_out = _group_of(folder, spec, problems), []
        behind = [one for pair in pairs if (one := paired(pair, group, spec, time_limit)) is not None]
        group = replace(group, judged=[*group.judged, *(one.method for one in behind)])
        failed = {o.method.name: (len(o.failures), next(iter(o.failures.values()))) for o in behind if o.failures}
        return cls(group, rows(group, spec.keep, spec.ended, vote), spec.keep, bank, tuple(left_out), failed)

    @property
    def title(self) -> str:
        """Task, model, engine, sampling and prefix length in one line."""
        return self.group.title

    def frame(self) -> pd.DataFrame:
        """One row per method; numbers with a 95 % interval have the columns ``_mean``, ``_low`` and ``_high``.

        Columns are those of ``harness.report.rows.Row``; missing numbers are empty.
        """
        from harness.report.sheet import sheet

        return sheet([(self.group, self.rows)], self.keep)

    def plot(self, file: str | FilePath | None = None, kind: str = "scaling", venue: str = "neurips") -> Drawing:
        """Plot a figure of the table to ``file``.png, .pdf and .csv; by default under results/figures.

        Args:
            file: path of the files without suffix.
            kind: scaling, taxonomy, survival, calibration, success or overhead.
            venue: widths and fonts: neurips, icml, acl or slides.

        Raises:
            PathpruneError: an unknown kind or venue, or records without data for this kind.
        """
        from harness.report.figures import FIGURES

        if self.group.stages:
            raise PathpruneError("figures show a single cut; bench each stage's prefix separately to draw it")
        if kind not in FIGURES:
            raise PathpruneError(unknown("kind of figure", kind, list(FIGURES)))
        stem = stem_of(file, DRAWINGS / f"{self.group.slug}-{kind}")
        data = FIGURES[kind](self.group, stem, venue=venue)
        if data is None:
            raise PathpruneError(f"{self.group.slug}: these records have no data for figure {kind}")
        return Drawing(stem, data)

    def paths(self, problem: str | None = None) -> pd.DataFrame:
        """The sampled paths of a problem, or of all problems: one row per path.

        Columns: problem, index, text, length in tokens, finish, answer in canonical form, correct, and each method's score at L (for a
        method with its own decision rule, the path's vote weight).

        Raises:
            PathpruneError: no such problem, or a bank without its paths.
        """
        import pandas as pd

        pool = self.group.pool
        names = [problem] if problem is not None else list(pool.problems)
        for name in names:
            if name not in pool.problems:
                raise PathpruneError(unknown("problem", name, list(pool.problems)))
        return pd.concat([self._paths_of(name) for name in names], ignore_index=True)

    def show(self, problem: str | int, pruners: str | Sequence[str] | None = None) -> Shown:
        """The paths of one problem, with the paths that some methods kept and dropped, and their correctness.

        Args:
            problem: its id, or its number in the table's order, from 0.
            pruners: names of methods in the table, comma-separated or as a sequence; by default stop if benched, else the
                method with the largest gain.

        Raises:
            PathpruneError: no such problem or method. Missing texts are no error: a note says how to restore them.
        """
        names = registry.split_specs(pruners) if isinstance(pruners, str) else pruners
        return show_problem(self.group, self.keep, problem, names, self._finished)

    def _paths_of(self, problem: str) -> pd.DataFrame:
        import pandas as pd

        pool = self.group.pool
        paths = self._finished(problem)
        row = pool.problems.index(problem)
        answers = pool_of(self.group.folder).lines[problem]["answers"][: pool.n]
        columns: dict[str, Any] = {
            "problem": problem,
            "index": [p.index for p in paths],
            "text": [p.text for p in paths],
            "length": pool.lengths[row],
            "finish": [p.finish for p in paths],
            "answer": answers,
            "correct": pool.correct[row],
        }
        for method in self.group.judged:
            if problem in method.pool.problems:
                columns[method.name] = np.asarray(method.values[method.pool.problems.index(problem)])
        return pd.DataFrame(columns)

    def _finished(self, problem: str) -> list[Path]:
        """The finished paths of a problem, texts included.

        Raises:
            MissingPathsError: the bank lacks them.
        """
        spec, n = self.group.spec, self.group.pool.n
        if spec["engine"]["engine"] == IMPORTED:
            pool = self._imported()
            return native(pool).get(pool.entries[problem].problem, spec["seed"])[:n]
        stored = Bank(self.bank, {k: v for k, v in spec.items() if k != "n"})
        paths = stored.get(Problem(problem, "", ""), spec["seed"])[:n]
        if len(paths) < n:
            raise MissingPathsError(
                f"{stored.folder} has {len(paths)} of {n} paths of {problem}; to sample them again: {_again(spec, len(self.group.pool.problems), self.bank)}"
            )
        return paths

    def _imported(self) -> ImportedPool:
        """The imported pool, in the folder given as bank or in the default folder of pools."""
        spec = self.group.spec
        try:
            pool = ImportedPool.open(self.bank if (self.bank / CARD).is_file() else spec["task"])
        except PathpruneError as error:
            raise MissingPathsError(str(error)) from error
        if pool.digest[:16] != spec["engine"]["pool"]:
            raise MissingPathsError(f"{pool.folder} is not the pool that was benched; give that pool's folder as bank")
        return pool

    def __rich__(self) -> Any:
        from harness.report.screen import Screen

        return Screen(self.group, self.keep, self.rows)

    def __repr__(self) -> str:
        from rich.console import Console

        console = Console(width=180, force_jupyter=False, markup=False, emoji=False)
        with console.capture() as text:
            console.print(self.__rich__())
        return text.get()

    def _repr_html_(self) -> str:
        import pandas as pd

        from harness.report import tables

        heads = tables.columns(self.group.pool.n, self.keep, self.group.unit)
        cells = pd.DataFrame([tables.cells(row) for row in self.rows], columns=heads)
        shown = cells.iloc[:, list(tables.BRIEF)].to_html(index=False)
        return f"<p>{escape(self.title)}</p>{shown}<p>{escape(tables.power(self.keep, self.rows))}</p>"


def _again(spec: Mapping[str, Any], problems: int, bank: FilePath) -> str:
    """The command that samples the paths of a record's problems again into the bank, with scores in a separate folder."""
    engine = spec["engine"]
    typed = engine["engine"] in ("hf", "vllm") and engine.get("dtype", "float32") != "float32"
    kind = engine["engine"] + (f":dtype={engine['dtype']}" if typed else "")
    options = {"pruner": "random", "task": spec["task"], "model": engine["model"], "engine": kind}
    if sampling := ",".join(f"{name}={value}" for name, value in engine.get("sampling", {}).items()):
        options["sampling"] = sampling
    options |= {"max-tokens": spec["max_tokens"], "n": spec["n"], "problems": problems, "seed": spec["seed"]}
    options |= {"results": "results/again", "bank": bank}
    return shlex.join(
        ["pathprune", "bench", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]
    )


def _group_of(folder: FilePath, spec: RunSpec, problems: Sequence[str]) -> Group:
    """The group of a run with one cut."""
    prefix = spec.prefixes[0]
    for group in groups_of(folder, spec.n, problems, prefix):
        if group.prefix == prefix:
            return group
    raise PathpruneError(f"{folder} has no record at L = {prefix} for n = {spec.n}; bench a pruner there first")


def stem_of(file: str | FilePath | None, usual: FilePath) -> FilePath:
    """The path of a figure's files without suffix: the requested or the default one."""
    stem = FilePath(file) if file else usual
    return stem.with_suffix("") if stem.suffix in (".png", ".pdf", ".csv") else stem


@dataclass(frozen=True, eq=False)
class Results(Sequence[Table]):
    """The tables of a results folder."""

    tables: tuple[Table, ...]

    @classmethod
    def read(cls, folder: FilePath, keep: int | None, only: str, bank: FilePath, ended: Ended = "count") -> Results:
        """Every pool and prefix length that matches, with at least ``keep`` paths per problem."""
        finished = [(g, usual_keep(g) if keep is None else keep) for g in selected(folder, only)]
        chosen = [(g, k) for g, k in finished if g.pool.n >= k]
        if not chosen:
            raise PathpruneError(f"the pools under {folder} for {only} have fewer than keep = {keep or 8} paths")
        return cls(tuple(Table(g, rows(g, k, ended), k, bank) for g, k in chosen))

    def frame(self) -> pd.DataFrame:
        """All tables in one frame; the column ``table`` names the table."""
        import pandas as pd

        return pd.concat([t.frame() for t in self.tables], ignore_index=True) if self.tables else pd.DataFrame()

    def __getitem__(self, which: Any) -> Any:
        return replace(self, tables=self.tables[which]) if isinstance(which, slice) else self.tables[which]

    def __len__(self) -> int:
        return len(self.tables)

    def __iter__(self) -> Iterator[Table]:
        return iter(self.tables)

    def _repr_html_(self) -> str:
        return "".join(t._repr_html_() for t in self.tables)


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure's files, ``stem``.png, .pdf and .csv, and the data behind it; a notebook shows the picture."""

    stem: FilePath
    data: pd.DataFrame

    @property
    def png(self) -> FilePath:
        """The picture's file."""
        return self.stem.with_name(self.stem.name + ".png")

    def _repr_png_(self) -> bytes:
        return self.png.read_bytes()
