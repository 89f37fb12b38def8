"""The Python front: README's example, objects in place of names, data frames, figures, a notebook, names that hide ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pathprune as pp
from harness.api import PathpruneError
from tasks.toy import Toy

ROOT = FilePath(__file__).parents[1]
TOY: dict[str, Any] = {"task": "toy", "engine": "toy", "n": 8, "keep": 2, "problems": 12, "progress": False}


@pytest.fixture
def here(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> FilePath:
    """An empty working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Late(pp.Pruner):
    """Counts a word."""

    quadrant = "external-fixed"
    needs = frozenset({"text"})
    pointwise = True

    def __init__(self, word: str = "w1") -> None:
        self.word = word

    def score(self, prefixes: Any, check: pp.Check) -> list[float]:
        return [float(p.text.split().count(self.word)) for p in prefixes]


def python_of_readme() -> str:
    """The first Python block of README.md."""
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert found
    return found[1]


def test_readmes_lines_run(here: FilePath) -> None:
    """As they stand, on fewer problems and paths."""
    code = python_of_readme()
    assert len(code.strip().splitlines()) <= 6 and "pp.bench(" in code
    small = code.replace("n=64, keep=8", "n=8, keep=2, problems=4")
    assert small != code
    scope: dict[str, Any] = {}
    exec(compile(small, "README.md", "exec"), scope)
    frame = scope["table"].frame()
    assert {"stop", "logprob"} <= set(frame.name) and frame.accuracy_low.notna().any()


def test_a_table_is_a_data_frame_with_intervals(here: FilePath) -> None:
    table = pp.bench(["logprob", Late("w2"), Late], **TOY)
    frame = table.frame()
    assert isinstance(frame, pd.DataFrame) and table.sampled > 0 and not table.failures
    assert {"logprob", "Late:word=w1", "Late:word=w2", "all (no pruning)", "random (expected)"} <= set(frame.name)
    ours = frame[frame.name == "logprob"].iloc[0]
    assert ours.accuracy_low <= ours.accuracy_mean <= ours.accuracy_high and ours.keep == 2 and ours.n == 8
    assert "logprob" in repr(table) and "<table" in table._repr_html_()
    again = pp.bench(["logprob", Late("w2"), Late], **TOY)
    assert again.sampled == 0
    pd.testing.assert_frame_equal(again.frame(), frame)


def test_two_objects_never_share_a_record(here: FilePath) -> None:
    """What a name cannot hold goes into a digest, and what cannot be digested has to be named."""
    from harness import registry

    class Holds(Late):
        def __init__(self, what: Any) -> None:
            self.what = what

    held = ["a:b", "a:c", {"x": 1}, {"x": 2}, np.zeros(2), 3, "3", True, "true", None]
    assert len({registry.of_object(Holds(w)).name for w in held}) == len(held)
    identity = type("Named", (Holds,), {"identity": lambda self: {"model": "m"}})
    assert registry.of_object(identity(lambda: 0)).name.startswith("Named:identity=")


def made(weight: float) -> type[Late]:
    """A class that closes over a number."""

    class Closes(Late):
        def score(self, prefixes: Any, check: pp.Check) -> list[float]:
            return [weight * p.index for p in prefixes]

    return Closes


class Slotted:
    quadrant, needs = "external-fixed", frozenset({"text"})
    __slots__ = ("weight",)

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def score(self, prefixes: Any, check: pp.Check) -> list[float]:
        return [self.weight * p.index for p in prefixes]


class Names(Late):
    def __init__(self, weight: float) -> None:
        self._weight = weight

    def identity(self) -> dict[str, Any]:
        return {"model": f"m{self._weight}"}

    def score(self, prefixes: Any, check: pp.Check) -> list[float]:
        return [self._weight * p.index for p in prefixes]


@pytest.mark.parametrize("kind", [made, lambda w: Slotted(w), lambda w: Names(w), lambda w: Late(f"w{w:.0f}")])
def test_what_differs_is_another_record(kind: Any, here: FilePath) -> None:
    """Classes that close over other values, slots, private state, names: in one folder, each is scored by itself."""
    from harness import registry

    plugins = [registry.of_object(kind(w)) for w in (1.0, 2.0, 1.0)]
    keys = [(p.name, p.code) for p in plugins]
    assert keys[0] == keys[2] != keys[1]
    first = pp.bench(kind(1.0), **TOY)
    files = {f.name for f in first.run.folder.glob("L*.jsonl")} if first.run else set()
    second = pp.bench(kind(2.0), **TOY)
    assert second.run and len({f.name for f in second.run.folder.glob("L*.jsonl")} - files) == 1


def test_a_class_that_was_changed_is_another(here: FilePath) -> None:
    """Its attribute, its method, a global or a helper that it uses: the old rows are not taken for the new ones."""
    from harness.plugins.code import live_digest

    scope: dict[str, Any] = {"pp": pp, "__name__": "session"}
    exec(
        "G = 1\ndef helper(x):\n    return x\nclass Uses(pp.Pruner):\n    w = 1.0\n"
        "    def score(self, prefixes, check):\n        return [helper(G) for _ in prefixes]\n",
        scope,
    )
    uses, digests = scope["Uses"], []
    changes = ("pass", "uses.w = 2.0", "scope['G'] = 5", "exec('def helper(x):\\n    return -x', scope)",
               "uses.score = lambda self, prefixes, check: [0.0]")  # fmt: skip
    for change in changes:
        exec(change, {"uses": uses, "scope": scope})
        digests.append(live_digest(uses))
    assert len(set(digests)) == len(digests) and live_digest(uses) == digests[-1]


def test_a_helper_beside_a_pruners_file_is_part_of_its_code(here: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(here))
    (here / "mine.py").write_text(
        "from beside import C\nclass Mine:\n    quadrant, needs = 'control', frozenset({'text'})\n"
        "    def score(self, prefixes, check):\n        return [C * p.index for p in prefixes]\n"
    )
    codes = []
    for value in (1, 55):
        (here / "beside.py").write_text(f"C = {value}\n")
        done = run("from harness import registry; print(registry.pruner('./mine.py@Mine').code)", here, "-c")
        codes.append(done.stdout.strip())
    assert all(codes) and codes[0] != codes[1], codes


@pytest.mark.parametrize(
    "value", ['{"wait", "hmm", "but", "so"}', '["ab", "".join(["a", "b"])]', '{"b": 1, "a": (2, 3)}']
)
def test_equal_state_is_one_record_in_every_process(value: str, here: FilePath) -> None:
    code = (
        "import sys; from harness import registry\nclass W:\n    quadrant, needs = 'control', frozenset()\n"
        f"    def __init__(self): self.x = {value}\n    def score(self, prefixes, check): return [0.0] * len(prefixes)\n"
        "print(registry.of_object(W()).name)"
    )
    found = {subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=True,
                            env={**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": str(ROOT)}).stdout for seed in (1, 2)}  # fmt: skip
    assert len(found) == 1


@pytest.mark.parametrize(
    ("identity", "says"),
    [
        ({"pruner": "logprob"}, "may not set pruner"),
        ([1], "not a dictionary"),
        ({"x": object}, "JSON cannot store"),
    ],
)
def test_an_identity_names_weights_and_nothing_of_ours(identity: Any, says: str, here: FilePath) -> None:
    wrong = type("Wrong", (Late,), {"identity": lambda self: identity})
    with pytest.raises(PathpruneError, match=says):
        pp.bench(wrong, **TOY)


def test_a_class_named_as_a_registered_pruner_is_refused(here: FilePath) -> None:
    with pytest.raises(PathpruneError, match="named logprob, like a registered pruner; rename it"):
        pp.bench(type("logprob", (Late,), {}), **TOY)


def test_two_pruners_of_one_name_are_refused(here: FilePath) -> None:
    """One of them would have had no row, or the other's; the same pruner named twice is one row."""
    other = type(
        "Late", (Late,), {"score": lambda self, prefixes, check: [0.0 for _ in prefixes], "__module__": "elsewhere"}
    )
    with pytest.raises(PathpruneError, match="two different pruners are named Late:word=w1"):
        pp.bench([Late, other], **TOY)
    frame = pp.bench(["logprob", Late, Late(), "logprob"], **TOY).frame()
    assert list(frame.name).count("Late:word=w1") == list(frame.name).count("logprob") == 1


def test_what_fails_inside_an_engine_is_not_taken_for_missing() -> None:
    from harness.api import Engine
    from harness.plugins.contracts import Guarded

    class Fails:
        @property
        def rows(self) -> int:
            return self.no_such_thing  # type: ignore[attr-defined, no-any-return]

    with pytest.raises(PathpruneError, match=r"mine: rows raised AttributeError: .*no_such_thing.*test_front.py:\d+"):
        _ = Guarded(Fails(), "mine", Engine).rows
    assert Guarded(object(), "mine", Engine).rows == Engine.rows


def test_paths_carry_texts_answers_and_scores(here: FilePath) -> None:
    table = pp.bench(["logprob", Late("w2")], **TOY)
    paths = table.paths("toy-test-00000")
    assert list(paths["index"]) == list(range(8)) and (paths.text.str.len() > 0).all()
    prefixes = [" ".join(t.split()[: table.group.prefix]) for t in paths.text]
    assert list(paths["Late:word=w2"]) == [p.split().count("w2") for p in prefixes]
    task = Toy()
    problem = task.problems("test", 1)[0]
    whole = paths[paths.finish == "stop"]
    assert list(whole.answer) == [task.answer(t) for t in whole.text]
    assert list(whole.correct) == [task.correct(task.answer(t), problem) for t in whole.text]
    assert len(table.paths()) == 12 * 8
    with pytest.raises(PathpruneError, match=r"unknown problem .* did you mean toy-test-00"):
        table.paths("toy-test-0000")


def test_a_figure_is_files_and_a_picture(here: FilePath) -> None:
    drawn = pp.bench("logprob,jaccard", **TOY).plot("mine/figure.pdf")
    assert {f.name for f in (here / "mine").iterdir()} == {"figure.png", "figure.pdf", "figure.csv"}
    assert drawn._repr_png_().startswith(b"\x89PNG") and "tokens" in drawn.data
    with pytest.raises(PathpruneError, match="did you mean scaling"):
        pp.bench("logprob", **TOY).plot(kind="scalling")


def test_results_of_a_folder(here: FilePath) -> None:
    for prefix in (5, 9):
        pp.bench("logprob", prefix=prefix, **TOY)
    found = pp.results("results/local", keep=2)
    assert [t.group.prefix for t in found] == [5, 9] and len(found[:1]) == 1
    assert set(found.frame().prefix) == {5, 9}


def test_a_task_and_an_engine_may_be_objects(here: FilePath) -> None:
    from harness import registry

    engine = registry.engine("toy", "toy", pp.Sampling())
    named = pp.bench("logprob", **TOY).frame()
    given = pp.bench("logprob", **(TOY | {"task": Toy(), "engine": engine})).frame()
    pd.testing.assert_frame_equal(named, given)


def test_a_live_run_has_a_frame(here: FilePath) -> None:
    timed = pp.live("logprob,all", **TOY)
    frame = timed.frame()
    assert (
        len(frame) == 24 and {"seconds.check", "cost.generated", "voted"} <= set(frame.columns) and not timed.failures
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"pruners": "logprop"}, "did you mean logprob"),
        ({"task": "toi"}, "did you mean toy"),
        ({"keep": 9}, "keep must be from 1 to n = 8, not 9"),
        ({"stages": "5:4", "prefix": 5}, "leave out prefix"),
        ({"sampling": {"temp": 1.0}}, "unknown sampling option 'temp'"),
        ({"vote": "most"}, "unknown vote 'most'; known: majority"),
        ({"pruners": []}, "no pruner given"),
        ({"pruners": [3]}, "is not a pruner"),
        ({"workers": 2, "pruners": Late}, "give task, engine and pruners as strings"),
        ({"problems": 0}, "problems must be 1 or more"),
    ],
)
def test_mistakes_are_one_line(wrong: dict[str, Any], says: str, here: FilePath) -> None:
    with pytest.raises(PathpruneError, match=says):
        pp.bench(**({"pruners": "logprob"} | TOY | wrong))


def run(code: str, folder: FilePath, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *more, code], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", ["harness", *(pytest.param(n, marks=pytest.mark.long) for n in ("tasks", "pruners"))])
def test_a_users_own_module_does_not_hide_ours(name: str, tmp_path: FilePath) -> None:
    """Her ``tasks.py`` beside her script: it works, and a warning says what cannot be imported."""
    (tmp_path / f"{name}.py").write_text("raise SystemExit('not ours')\n")
    bench = "import pathprune as pp; print(pp.bench('first', task='toy', engine='toy', n=4, keep=1, problems=2, progress=False).sampled)"
    done = run(bench, tmp_path, "-c")
    assert done.returncode == 0 and int(done.stdout) > 0, done.stderr
    assert f"{name}.py cannot be imported as '{name}' beside pathprune" in done.stderr
    listed = run("list", tmp_path, "-W", "ignore", "-m", "pathprune")
    assert listed.returncode == 0 and "logprob" in listed.stdout and not listed.stderr


def test_a_module_of_that_name_that_is_imported_already_is_named(tmp_path: FilePath) -> None:
    (tmp_path / "tasks.py").write_text("mine = 1\n")
    done = run("import tasks, pathprune", tmp_path, "-c")
    assert (
        done.returncode != 0
        and "tasks.py shadows pathprune's package 'tasks': rename it" in done.stderr.splitlines()[-1]
    )


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "", "1 / 0"])
@pytest.mark.parametrize("name", ["numpy", "click"])
def test_a_file_that_stands_in_for_a_library_is_named(name: str, code: str, tmp_path: FilePath) -> None:
    """However its import ends, it is no success and no traceback."""
    (tmp_path / f"{name}.py").write_text(code)
    done = run("list", tmp_path, "-m", "pathprune")
    assert done.returncode == 2 and not done.stdout
    assert f"{name}.py shadows the library" in done.stderr and done.stderr.count("\n") == 1


def test_our_own_bug_is_not_blamed_on_a_users_file(tmp_path: FilePath) -> None:
    """Her file is called as no library is, or is nowhere near what went wrong."""
    from pathprune.hidden import stand_in

    (tmp_path / "mine.py").write_text("1 / 0")
    (tmp_path / "textwrap.py").write_text("")
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            __import__("mine")
    finally:
        sys.path.remove(str(tmp_path))
    assert stand_in(caught.value) is None and stand_in(AttributeError("no such member")) is None


def test_importing_it_loads_neither_torch_nor_matplotlib(tmp_path: FilePath) -> None:
    done = run(
        "import sys, pathprune; print([m for m in ('torch', 'vllm', 'matplotlib') if m in sys.modules])", tmp_path, "-c"
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


@pytest.mark.long
def test_a_notebook(tmp_path: FilePath) -> None:
    """A class defined in a cell, the table as HTML, the bar as text, a figure as a picture; nothing on stderr but the bar."""
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    cells = [
        "import pathprune as pp",
        "class Mine(pp.Pruner):\n    quadrant, needs = 'external-fixed', frozenset({'text'})\n"
        "    def score(self, prefixes, check):\n        return [len(p.text) for p in prefixes]",
        "table = pp.bench([Mine, 'logprob'], task='toy', engine='toy', n=8, keep=2, problems=12)\ntable",
        "table.plot('figure')",
        "table.frame()",
        "assert pp.bench([Mine, 'logprob'], task='toy', engine='toy', n=8, keep=2, problems=12).sampled == 0",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    kinds = [{k for o in c.outputs for k in o.get("data", {})} for c in notebook.cells]
    assert "text/html" in kinds[2] and "image/png" in kinds[3] and "text/html" in kinds[4]
    assert "Mine" in next(o["data"]["text/html"] for o in notebook.cells[2].outputs if "data" in o)
    texts = [o.get("text", "") for c in notebook.cells for o in c.outputs if o.output_type == "stream"]
    assert not any("Traceback" in t or "Warning" in t for t in texts), texts


def test_answers_are_those_of_the_pool(here: FilePath) -> None:
    table = pp.bench("first", **TOY)
    kept = table.paths().groupby("problem").head(2)
    first = table.frame().set_index("name").loc["first"]
    assert np.mean(kept.correct) == pytest.approx(first.accuracy_mean, abs=1e-6)
