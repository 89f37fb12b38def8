"""Tables in other forms: LaTeX that compiles whatever a plugin is called, numbers as CSV, matched budgets, the README's own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import Cost
from harness.cli.read import ONE
from harness.replay.pool import kept_mask
from harness.report import Group, budgets, groups, groups_of, latex, selected
from harness.report.rows import Row, rows
from harness.report.sheet import sheet
from harness.store.records import Record, names, pools, records
from results.publish import BRIEF
from tests.test_matched import group

ROOT = Path(__file__).parent.parent
ENGINE = {
    "engine": "toy",
    "model": "m_1",
    "fingerprint": "f" * 64,
    "dtype": "float32",
    "sampling": {"temperature": 1.0},
}


def full(**signals: float) -> Group:
    made = group(problems=40, n=16, **signals)
    return replace(made, spec=made.spec | {"task_version": "1", "seed": 0, "engine": ENGINE})


@given(st.text(min_size=1, max_size=30))
def test_any_name_is_escaped_for_latex(name: str) -> None:
    out = latex.escaped(name)
    bare = re.sub(r"\\(?:text\w+\{\}|[&%$#_{}])", "", out)
    assert not set(bare) & set("\\&%$#_{}~^|<>")


def test_latex_rows_are_whole_and_the_best_is_bold() -> None:
    made = full(strong=2.0, close=1.98, weak=0.3)
    table_rows = rows(made, 4)
    text = latex.document([(made, table_rows)], 4)
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")].splitlines()
    cells = [line for line in body if line.endswith(r"\\")]
    assert len(cells) == len(table_rows) and all(len(re.findall(r"(?<!\\)&", c)) == len(latex.HEADS) - 1 for c in cells)
    marked = {name: next(c for c in cells if c.startswith(name)) for name in ("strong", "close", "weak")}
    best = max((r for r in table_rows if r.behind is None and r.adjusted_p is not None), key=lambda r: r.accuracy.mean)
    assert r"\textbf" in marked[best.name] and r"\textbf" not in marked["weak"] and r"\underline" in marked["weak"]
    assert text.count("{") == text.count("}") and "nan" not in text


def test_ties_by_interval_share_the_bold() -> None:
    """Two methods that keep the very same paths: neither is better, whatever the order, also where one of them costs more."""
    made = full(one=1.0, none=0.0)
    one = made.judged[0]
    dear = replace(one, name="dear", checks=[c + Cost(probed=9) for c in one.checks])
    table_rows = rows(replace(made, judged=[*made.judged, replace(one, name="twin"), dear]), 4)
    marks = latex.emphasis(table_rows)
    bold = {r.name for r in table_rows if "textbf" in marks.get(id(r), "")}
    assert bold == {"one = twin", "dear"}


def test_the_sheet_holds_the_rows_numbers() -> None:
    made = full(strong=2.0, weak=0.3)
    table_rows = rows(made, 4)
    frame = sheet([(made, table_rows)], 4)
    assert frame.name.tolist() == [row.name for row in table_rows]
    for row, line in zip(table_rows, frame.itertuples(), strict=True):
        assert line.accuracy_mean == pytest.approx(row.accuracy.mean, abs=1e-6)
        assert (line.gain_low == pytest.approx(row.gain.low, abs=1e-6)) if row.gain else pd.isna(line.gain_low)
    assert not any(isinstance(v, str) and "Interval" in v for v in frame.to_numpy().ravel())
    assert set(frame.columns) >= {"table", "task", "model", "prefix", "n", "keep", "voted_low", "within_mean"}


def test_budget_tables_rank_and_say_what_is_not_reached(tmp_path: Path) -> None:
    made = budgets.budgets(full(strong=2.5, weak=0.3, worse=-2.0), draws=50)
    text = budgets.markdown(made)
    order = [line.split(" | ")[0].strip("| ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert order.index("strong") < order.index("weak") < order.index("worse")
    (worst,) = [line for line in text.splitlines() if line.startswith("| worse")]
    assert worst.count("not reached") == len(made.equivalents)
    budgets.write([made], tmp_path / "budgets.md")
    frame = pd.read_csv(tmp_path / "budgets.csv")
    quarter = frame[(frame.quantity == "within") & (frame.share == 0.25) & (frame.pruner == "strong")]
    assert f"{quarter['mean'].iloc[0]:.3f}" in text and (tmp_path / "budgets.md").read_text().endswith(text)
    readme = tmp_path / "README.md"
    readme.write_text("a\n<!-- budgets:begin -->\nSTALE\n<!-- budgets:end -->\nz\n")
    budgets.write([made], readme)
    said = readme.read_text()
    assert said.startswith("a\n") and said.endswith("\nz\n") and "strong" in said and "STALE" not in said


WHERE = ["--task", "toy", "--engine", "toy", "--model", "toy", "--max-tokens", "40", "--prefix", "5"]


@pytest.mark.parametrize(("problems", "n", "keep"), [(1, 4, 2), (3, 2, 1), (5, 8, 8)])
def test_every_report_of_a_small_bench(problems: int, n: int, keep: int, tmp_path: Path, run_cli: Any) -> None:
    """One problem, two paths, nothing pruned: a table, n/a where a number does not exist, never a traceback."""
    folders = ["--results", str(tmp_path / "r")]
    code, out = run_cli("bench", *WHERE, *folders, "--bank", str(tmp_path / "b"), "--pruner", "jaccard,logprob", "--problems",
                        str(problems), "--n", str(n), "--keep", str(keep))  # fmt: skip
    assert code == 0, out
    outs = [f for form in ("md", "tex", "csv") for f in ("--out", str(tmp_path / f"board.{form}"))]
    assert run_cli("leaderboard", *folders, "--keep", str(keep), *outs)[0] == 0
    assert run_cli("budgets", *folders, "--draws", "10", "--out", str(tmp_path / "budgets.md"))[0] == 0
    for file in ("board.md", "board.tex", "board.csv", "budgets.md", "budgets.csv"):
        text = (tmp_path / file).read_text()
        assert "logprob" in text and "nan" not in text.replace("dominance", "")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["leaderboard", "--results", "{empty}"], "no records under"),
        (["leaderboard", "--results", "{empty}", "--out", "board.doc"], "board.doc must end in .md or .tex or .csv or .html"),
        (["budgets", "--results", "{empty}"], "no records under"),
        (["budgets", "--results", "nowhere"], "no results folder at nowhere"),
        (["plot", "--results", "nowhere"], "no results folder at nowhere"),
    ],
)  # fmt: skip
def test_nothing_to_report_is_one_line(arguments: list[str], says: str, tmp_path: Path, run_cli: Any) -> None:
    code, out = run_cli(*[a.format(empty=tmp_path) for a in arguments])
    assert code == 2 and says in out and "Traceback" not in out, out


def test_task_versions_never_meet_in_a_table(tmp_path: Path, run_cli: Any) -> None:
    """The same records under another task version are a table of their own."""
    folders = ["--results", str(tmp_path / "r")]
    arguments = ["--bank", str(tmp_path / "b"), "--pruner", "jaccard", "--problems", "3", "--n", "4", "--keep", "2"]
    assert run_cli("bench", *WHERE, *folders, *arguments)[0] == 0
    (pool,) = (tmp_path / "r").rglob("pool.jsonl")
    other = tmp_path / "r" / "toy-v9" / "toy-other"
    shutil.copytree(pool.parent, other)
    for file in other.glob("*.jsonl"):
        head, _, rest = file.read_text().partition("\n")
        header = json.loads(head)
        header["spec"]["task_version"] = "9"
        file.write_text(json.dumps(header) + "\n" + rest)
    assert run_cli("leaderboard", *folders, "--keep", "2", "--out", str(tmp_path / "board.md"))[0] == 0
    titles = [line for line in (tmp_path / "board.md").read_text().splitlines() if line.startswith("####")]
    assert len(titles) == 2 and sum("v9" in t for t in titles) == 1


PUBLISHED = ("--results", str(ROOT / "results/published"))


def test_the_readmes_table_is_what_the_command_writes(tmp_path: Path, run_cli: Any) -> None:
    copy = tmp_path / "README.md"
    copy.write_text((ROOT / "README.md").read_text())
    code, out = run_cli("leaderboard", *PUBLISHED, "--brief", "--only", BRIEF, "--out", str(copy))
    assert code == 0, out
    assert copy.read_text() == (ROOT / "README.md").read_text(), "make publish STEP=tables would write another table"


@pytest.mark.parametrize("verb", ["leaderboard", "budgets"])
def test_published_tables_are_what_the_command_writes(verb: str, tmp_path: Path, run_cli: Any) -> None:
    """Of one table, line by line: the rest of the file is made alike."""
    file = tmp_path / f"{verb}.md"
    figures = ["--figures", str(tmp_path / "none")] if verb == "leaderboard" else []
    code, out = run_cli(verb, *PUBLISHED, "--only", ONE, "--out", str(file), *figures)
    assert code == 0, out
    written = [line for line in file.read_text().splitlines() if line.startswith("|")]
    published = set((ROOT / f"results/{verb}.md").read_text().splitlines())
    assert len(written) > 20 and [line for line in written if line not in published] == []


def test_published_findings_are_what_the_command_writes(tmp_path: Path, run_cli: Any) -> None:
    file = tmp_path / "findings.md"
    code, said = run_cli("findings", *PUBLISHED, "--ablations", str(ROOT / "results/ablations"), "--out", str(file))
    assert code == 0, said
    assert file.read_text() == (ROOT / "results/findings.md").read_text(), "make publish STEP=tables would write others"


def test_only_takes_terms_or_a_glob(tmp_path: Path, run_cli: Any) -> None:
    folders = ["--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b")]
    for seed, prefix in ((0, 5), (0, 9), (1, 5)):
        where = [*WHERE[:-1], str(prefix), "--seed", str(seed)]
        assert (
            run_cli("bench", *where, *folders, "--pruner", "jaccard", "--problems", "2", "--n", "4", "--keep", "2")[0]
            == 0
        )
    root = tmp_path / "r"
    every = list(groups(root))
    assert [(g.spec["seed"], g.prefix) for g in selected(root)] == [(g.spec["seed"], g.prefix) for g in every]

    def chosen(only: str) -> set[tuple[int, int]]:
        return {(g.spec["seed"], g.prefix) for g in selected(root, only)}

    assert chosen("task=toy,seed=0") == {(0, 5), (0, 9)} and chosen("seed=1,model=t*,engine=toy") == {(1, 5)}
    assert chosen("prefix=9") == chosen("toy-*-L9") == {(0, 9)} and chosen("n=4,temperature=1*") == chosen("*")
    assert chosen("seed=1|seed=0,prefix=5") == chosen("seed=1") | chosen("seed=0,prefix=5")
    (one,) = selected(root, "seed=1")
    assert chosen(one.slug) == {(1, 5)}, "a table's own name, as before"
    for only, says in (
        ("prefix=7", "no records under"), ("prefx=9", "did you mean prefix?"), ("prefix=", "is not term=value"), ("hands-*", "no records"),
        ("colour=red", "unknown term of only 'colour'; known: task, version"),
    ):  # fmt: skip
        for verb in ("leaderboard", "budgets", "plot", "findings"):
            code, out = run_cli(verb, "--results", str(root), "--only", only)
            assert code == 2 and says in out.replace("\n", " ") and "Traceback" not in out, (verb, only, out)
    code, out = run_cli("findings", "--results", str(root), "--only", "seed=0")
    assert code == 2 and "selects 2 tables" in out.replace("\n", " ")


def test_reports_need_no_runner_and_no_weights() -> None:
    script = """
import pkgutil, sys, importlib
import harness.report
for module in pkgutil.walk_packages(harness.report.__path__, "harness.report."):
    importlib.import_module(module.name)
heavy = ("torch", "transformers", "harness.runners", "harness.learn", "harness.engines.hf", "harness.engines.served")
print([name for name in sys.modules if name.startswith(heavy)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


def test_degenerate_pools_have_rows() -> None:
    made = full(strong=1.0)
    for fill in (True, False):
        pool = replace(
            made.pool, correct=np.full_like(made.pool.correct, fill), answers=np.zeros_like(made.pool.answers)
        )
        table: list[Row] = rows(replace(made, pool=pool, judged=[replace(made.judged[0], pool=pool)]), 4)
        assert all(r.accuracy.mean == float(fill) for r in table if r.name != "none")
        assert "nan" not in latex.table(replace(made, pool=pool), table, 4)


def test_replay_is_live_on_the_published_records() -> None:
    """Paths kept and votes of the live runs on the embedded model are those that replay gives, method by method."""
    (folder,) = (f for f in pools(ROOT / "results/published") if names(f, "live"))
    pool = Record.read(folder / "pool.jsonl")
    (made,) = (g for g in groups_of(folder) if g.prefix == 22)
    scored = {m.name: m for m in made.judged}
    live = list(records(folder, "live"))
    compared = same = 0
    for record in live:
        name, keep = record.header["spec"]["pruner"], record.header["spec"]["keep"]
        for problem, row in record.lines.items():
            banked = pool.lines[problem]
            assert row["answers"] == [banked["answers"][i] for i in row["kept"]]
            assert row["right"] == sum(banked["correct"][i] for i in row["kept"])
            if name in scored and name != "all":  # which keeps every path
                method = scored[name]
                q = method.pool.problems.index(problem)
                mask = kept_mask(method.pool, method.values, keep, 22)[q] if method.top_k else method.values[q] > 0
                # Identical prefixes have one score up to rounding: which of them is kept may differ, their scores not.
                ours, theirs = (np.sort(method.values[q][kept]) for kept in (row["kept"], mask))
                assert ours == pytest.approx(theirs, abs=1e-6), (name, problem)
                same += row["kept"] == np.flatnonzero(mask).tolist()
                compared += 1
    assert len(live) == 11 and compared == 270 and same >= 0.98 * compared
