"""What models write, and files of others: nothing of it runs code, hangs or ends a bench, and a fault is one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import pathprune as pp
from harness import grading, registry
from harness.api import PathpruneError, Problem
from harness.testing import conformance
from harness.text import LONGEST_NAME, unfit
from tasks.answers import canonical, choice, equivalent, extract
from tasks.benchmarks.files import read
from tasks.isolated.evaluation import evaluators, formula, literal
from tasks.toy import Toy

EVALUATING = [
    *("spiral_matrix", "n_queens", "string_insertion", "binary_matrix", "countdown", "puzzle24"),
    *("polynomial_multiplication", "simple_integration", "intermediate_integration"),
]
SLOW = dict.fromkeys(("puzzle24", "simple_integration", "intermediate_integration"), pytest.mark.slow)
HOSTILE = [
    *(
        "2 \\times 3",
        "",
        " ",
        "\x00",
        "\ud800",
        "nan",
        "inf",
        "-1",
        "1/0",
        "[]",
        "{}",
        "null",
        "[[1]]",
        '{"a": 1}',
        "1e999",
    ),
    *("9" * 5000, "[" * 20_000, "(" * 20_000, "a=b=c", "×", "×".join("2" * 9), "1,,2", "True", "💥", "x" * 100_001),
]


@pytest.fixture
def gym(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, with blocks of few problems: some take long to make."""
    module = pytest.importorskip("reasoning_gym")
    monkeypatch.setattr("tasks.reasoning_gym.BLOCK", 3)
    return module


def answered(task: Any, text: str, problem: Problem) -> bool:
    """As the bench grades a path that says it in a box."""
    return grading.correct(task, grading.read(task, f"\\boxed{{{text}}}"), problem)


def attacks(proof: Path) -> list[str]:
    """Answers that leave ``proof`` where they are run, by a shell, by Python, and with what literals and formulas hold."""
    shell = f"__import__('os').system('touch {proof}')"
    return [
        shell,
        f"[{shell}]",
        f"open('{proof}', 'w')",
        f"sympify('{shell}'.replace('x', 'x'))".replace("'", '"', 2),
        f"Abs({shell!r})",
        f"().__class__.__base__.__subclasses__() or {shell}",
        f"(lambda: {shell})()",
        f"[{shell} for _ in (1,)]",
        f"Symbol('x').func({shell!r})",
    ]


@pytest.mark.parametrize("dataset", EVALUATING)
def test_an_answer_that_is_python_has_no_effect(gym: Any, dataset: str, tmp_path: Path) -> None:
    task = registry.task(f"reasoning_gym:{dataset}")
    problem = task.problems("test", 1)[0]
    proof = tmp_path / "proof"
    for attack in attacks(proof):
        assert not task.correct(attack, problem), attack
    assert not proof.exists()


@pytest.mark.parametrize("read_as", [formula, literal])
def test_what_stands_in_for_eval_runs_nothing(read_as: Callable[[str], Any], tmp_path: Path) -> None:
    for attack in attacks(tmp_path / "proof"):
        with pytest.raises((ValueError, SyntaxError)):
            read_as(attack)
    assert not list(tmp_path.iterdir())
    assert str(formula("2*x + sin(x)/3!")) == "2*x + sin(x)/6" and literal("[1, (2 + 3)]") == [1, 5]


@pytest.mark.parametrize("dataset", [pytest.param(d, marks=SLOW.get(d, ())) for d in EVALUATING])
def test_safe_answers_are_graded_as_the_package_grades_them(gym: Any, dataset: str) -> None:
    task = registry.task(f"reasoning_gym:{dataset}")
    problems = task.problems("test", 3)
    scorer = gym.create_dataset(dataset, **task._options("test", 0, 3))
    others = ["12", "[1, 2]", "x**2/2 + C", "24", "(1+2)*8/1", "abs(-3)"]
    for i, problem in enumerate(problems):
        for answer in [p.answer for p in problems] + others[i::3]:
            assert task.correct(answer, problem) == (scorer.score_answer(answer, scorer[i]) >= 1), answer
        assert task.correct(problem.answer, problem)


def test_what_computes_for_ever_is_wrong_in_seconds(gym: Any) -> None:
    task = registry.task("reasoning_gym:countdown")
    problem = task.problems("test", 1)[0]
    before = time.process_time()
    assert not task.correct("9**9**9", problem)
    assert time.process_time() - before < 2, "the harness itself waits"
    assert not task.correct("[0]*10**11", problem) and task.correct(problem.answer, problem)


@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_every_scorer_bears_every_text(every: int, gym: Any) -> None:
    """One problem of each (fourth) data set, and a share of the texts that scorers did not expect."""
    for number, dataset in enumerate(sorted(set(gym.factory.DATASETS) - {"composite"})[::every]):
        task = registry.task(f"reasoning_gym:{dataset}")
        entry = task._made("test", 0, 1)[0]
        task._blocks["test", 0] = [entry]
        problem = Problem(f"{task.name}-test-000000", "", entry["answer"])
        for text in HOSTILE[number % 8 :: 8]:
            assert task.correct(text, problem) in (True, False), (dataset, text)


def test_the_grading_process_cannot_touch_anything(gym: Any, tmp_path: Path) -> None:
    """What code would be able to do there, were it run: compute, and read files."""
    program = f"""
import os, socket, subprocess, threading
from tasks.isolated.lock import lock
lock(1 << 28)
def refused(work):
    try:
        work()
    except (OSError, RuntimeError, MemoryError):
        return True
    return False
here = {str(tmp_path)!r}
import xml.dom.minidom
assert open(here + "/known").read() == "known"
deeds = [lambda: open(here + "/new", "w"), lambda: os.open(here + "/known", os.O_RDWR), lambda: os.remove(here + "/known"),
    lambda: os.rename(here + "/known", here + "/new"), lambda: os.mkdir(here + "/new"), lambda: os.symlink("a", here + "/new"),
    lambda: os.truncate(here + "/known", 0), lambda: os.chmod(here + "/known", 0), socket.socket, os.fork, os.forkpty,
    lambda: subprocess.run(["true"]), lambda: os.execv("/bin/true", ["true"]), lambda: os.kill(os.getppid(), 9),
    lambda: bytearray(1 << 30), threading.Thread(target=print).start]
print([refused(deed) for deed in deeds].count(False))
"""
    (tmp_path / "known").write_text("known")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "0", done.stderr
    assert (tmp_path / "known").read_text() == "known" and [f.name for f in tmp_path.iterdir()] == ["known"]


def test_the_grading_process_sees_no_keys_and_ends_with_the_harness(gym: Any, tmp_path: Path) -> None:
    """Killed in the middle of an answer that computes for ever; started where other modules have our names."""
    program = """
import os, threading, time, pathprune
from harness import registry
from tasks.isolated import client
task = registry.task("reasoning_gym:spiral_matrix")
problem = task.problems("test", 1)[0]
assert task.correct(problem.answer, problem)
server = client._server.process.pid
print(server, open(f"/proc/{server}/environ").read().count("SECRET"))
threading.Thread(target=task.correct, args=("9**9**9", problem)).start()
children = open(f"/proc/{server}/task/{server}/children")
while not children.read().strip():
    time.sleep(0.01)
    children.seek(0)
children.seek(0)
print(children.read(), flush=True)
os.kill(os.getpid(), 9)
"""
    for name in ("tasks.py", "harness.py"):
        (tmp_path / name).write_text("raise SystemExit('not ours')")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
        env=os.environ | {"SECRET_TOKEN": "SECRET"},
    )  # fmt: skip
    server, keys, *graders = done.stdout.split()
    assert keys == "0" and graders, done.stderr
    deadline = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in (server, *graders)):
        assert time.monotonic() < deadline, "a process is left behind"
        time.sleep(0.1)


def test_where_no_process_can_be_locked_such_data_sets_are_refused(gym: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(PathpruneError, match="reasoning_gym:countdown evaluates answers as Python"):
        registry.task("reasoning_gym:countdown")
    task = registry.task("reasoning_gym:prime_factorization")
    problem = task.problems("test", 1)[0]
    assert task.correct(problem.answer, problem) and not task.correct("2 \\times 3", problem)


class Picky(Toy):
    """A task that raises on some texts, or on all."""

    def __init__(self, always: bool = False) -> None:
        self.always = always

    def answer(self, text: str) -> str | None:
        if self.always or "!" in text:
            raise ValueError(text)
        return super().answer(text)

    def correct(self, answer: str | None, problem: Problem) -> bool:
        if self.always or answer == "7":
            raise ValueError(answer)
        return super().correct(answer, problem)


def test_a_text_that_a_task_cannot_bear_is_no_answer_and_a_broken_task_is_an_error() -> None:
    problem = Problem("a", "a", "3")
    assert grading.read(Picky(), "answer 3 !") is None and grading.read(Picky(), "answer 3") == "3"
    assert not grading.correct(Picky(), "7", problem) and grading.correct(Picky(), "3", problem)
    with pytest.raises(ValueError):
        grading.read(Picky(always=True), "answer 3")
    with pytest.raises(ValueError):
        grading.correct(Picky(always=True), "3", problem)


LONG = 300_000
TEXTS = {
    "boxes": "\\boxed{" * (LONG // 7),
    "spaces": "answer is" + " " * LONG,
    "spaces inside": "answer is a" + " " * LONG + "b",
    "lines": "answer**" + "\n" * LONG,
    "lists": '"answer": [' * (LONG // 40),
    "marks": "answer is: " * (LONG // 11),
    "dollars": "answer is " + "$a$ and " * (LONG // 8),
    "NUL": "answer is " + "\x00" * LONG,
    "surrogates": "answer is " + "\ud800" * LONG,
    "digits": "\\boxed{" + "9" * LONG + "}",
    "brackets": "\\boxed{" + "(" * LONG + "}",
    "power": r"\boxed{9^{9^{9^{9}}}}",
    "factorials": r"\boxed{((((9!)!)!)!)!}",
    "zeros": r"\boxed{\operatorname{zeros}(99999,99999)}",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_of_any_kind_is_read_in_time(name: str) -> None:
    """A pattern that tries every part of every run would need hours for these."""
    began = time.process_time()
    written = extract(TEXTS[name])
    choice(TEXTS[name])
    if written is not None:
        form = canonical(written)
        assert not equivalent("7", form) and not equivalent(r"\frac{1}{2}", form)
    assert time.process_time() - began < 20


class Peeks:
    """A pruner that looks for the gold answers behind the parser it is handed."""

    quadrant = "external-fixed"
    needs = frozenset({"text"})

    def score(self, prefixes: Any, check: Any) -> list[float]:
        task = check.answer.__closure__[0].cell_contents
        gold = {p.id: p.answer for p in task.problems("dev", 100)}
        return [float(10 + int(gold[p.problem.id])) + p.index for p in prefixes]


def test_the_gold_answer_is_no_attribute_of_what_a_pruner_is_handed() -> None:
    seen: list[Any] = []

    class Looks:
        quadrant = "external-fixed"
        needs = frozenset({"text"})

        def score(self, prefixes: Any, check: Any) -> list[int]:
            seen.extend([check.answer, *(p.problem.answer for p in prefixes)])
            return [0] * len(prefixes)

    engine = registry.engine("toy", "toy", Toy.defaults.sampling)
    list(conformance(registry.of_object(Looks), Toy(), engine, 5))
    assert not hasattr(seen[0], "__self__") and not hasattr(seen[0], "func") and set(seen[1:9]) == {""}


def test_conformance_finds_a_pruner_that_reads_the_gold_answer() -> None:
    engine = registry.engine("toy", "toy", Toy.defaults.sampling)
    findings = dict(conformance(registry.of_object(Peeks), Toy(), engine, 5))
    assert findings["reads no gold answer"]


GOOD = {"problem": "a", "answer": "1"}
DEEP = '{"problem": ' + "[" * 100_000 + "]" * 100_000 + ', "answer": "1"}'
LINES: dict[str, tuple[str | bytes, str]] = {
    "NUL byte": (b'{"problem": "a\x00", "answer": "1"}', "line 1 is not JSON"),
    "NUL escape": (r'{"problem": "a\u0000", "answer": "1"}', r"line 1: problem contains '\\x00'"),
    "surrogate": (r'{"problem": "a\ud800", "answer": "1"}', r"line 1: problem contains '\\ud800'"),
    "surrogate in gold": (r'{"problem": "a", "answer": "\udfff"}', "line 1: answer contains"),
    "surrogate in id": (r'{"id": "\udfff", "problem": "a", "answer": "1"}', "line 1: id contains"),
    "deep": (DEEP, "line 1 is nested too deeply"),
    "5,000 digits": ('{"problem": "a", "answer": ' + "9" * 5000 + "}", "line 1 has an integer with thousands of digits"),
    "field twice": ('{"problem": "a", "problem": "b", "answer": "1"}', "line 1 .* field 'problem' appears twice"),
    "infinite": ('{"problem": "a", "answer": Infinity}', "line 1: answer is inf"),
    "yes": ('{"problem": "a", "answer": true}', "line 1: answer is True"),
    "problem is a list": ('{"problem": ["a"], "answer": "1"}', "line 1: problem is .'a'., not a text"),
    "problem is a number": ('{"problem": 5, "answer": "1"}', "line 1: problem is 5, not a text"),
    "id is a list": ('{"id": [1], "problem": "a", "answer": "1"}', "line 1: id is .1."),
    "id climbs": ('{"id": "..", "problem": "a", "answer": "1"}', r"line 1: the id is '\.\.'"),
    "id with a backslash": (r'{"id": "..\\..\\x", "problem": "a", "answer": "1"}', "line 1: the id .* holds"),
    "id of two lines": (r'{"id": "a\nb", "problem": "a", "answer": "1"}', r"line 1: the id 'a\\nb' holds '\\n'"),
    "long id": (json.dumps({"id": "i" * 500, **GOOD}), "line 1: the id .* has 500 bytes, more than 200"),
    "option of two kinds": ('{"problem": "a", "choices": ["x", {}], "answer": "A"}', "line 1: choices is {}"),
    "blank lines count": ('\n\n{"problem": 5, "answer": "1"}', "line 3: problem is 5"),
    "invalid UTF-8": (b'{"problem": "a", "answer": "1"}\n\xff', "is not UTF-8 text .* in line 2"),
    "UTF-16": ('{"problem": "a"}'.encode("utf-16"), "is not UTF-8 text"),
    "only a BOM": (b"\xef\xbb\xbf", "has no problems"),
}  # fmt: skip


@pytest.mark.parametrize("case", LINES)
def test_bad_lines_are_refused_by_line(tmp_path: Path, case: str) -> None:
    content, message = LINES[case]
    file = tmp_path / "own.jsonl"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(PathpruneError, match=message) as raised:
        registry.task(str(file))
    assert "\n" not in str(raised.value) and "own.jsonl" in str(raised.value) and len(str(raised.value)) < 600


def test_bad_places_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    for name in (
        str(tmp_path / "folder.jsonl"),
        "a\x00.jsonl",
        "a" * 5000 + ".jsonl",
        "~nobody-here/a.jsonl",
        ".jsonl",
    ):
        with pytest.raises(PathpruneError, match="no file of problems at"):
            registry.task(name)
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps(GOOD))

    def denied(*_: Any, **__: Any) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", denied)
    with pytest.raises(PathpruneError, match=r"own.jsonl cannot be read \(Permission denied\)"):
        registry.task(str(file))


def test_parquet_files_that_are_cut_or_hold_other_types_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "own.parquet"
    pq.write_table(pa.Table.from_pylist([GOOD] * 50), file)
    whole = file.read_bytes()
    for size in (0, 3, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        with pytest.raises(PathpruneError, match="is not a Parquet file"):
            registry.task(str(file))
    for problem, answer, message in (
        ([b"\xff"], ["1"], "row 1: problem is b'.xff'"),
        ([None], ["1"], "row 1: problem is None"),
        ([{"a": 1}], ["1"], "row 1: problem is {'a': 1}"),
        (["a"], pa.array([2**62], pa.timestamp("us")), "is not a Parquet file of problems"),
    ):
        pq.write_table(pa.table({"problem": problem, "answer": answer}), file)
        with pytest.raises(PathpruneError, match=message):
            registry.task(str(file))


def test_ids_that_are_paths_stay_names(tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps({"unique_id": "../test/algebra/1.json", **GOOD}))
    (problem,) = registry.task(str(file)).problems()
    assert problem.id == "own-.._test_algebra_1.json" and unfit(problem.id) is None
    file.write_text("\n".join(json.dumps({"id": name, **GOOD}) for name in ("a/b", "a_b")))
    with pytest.raises(PathpruneError, match="line 2: id 'a_b' is also that of line 1"):
        registry.task(str(file))


def no_task_but_an_error(work: Callable[[], Any]) -> None:
    """Either it works or it is one line."""
    try:
        problems = work().problems("test")
    except PathpruneError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000
    else:
        assert problems and all(unfit(p.id) is None for p in problems)


@given(st.binary(max_size=200), st.sampled_from(["jsonl", "json", "parquet"]))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_problems_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, kind: str
) -> None:
    file = tmp_path_factory.getbasetemp() / f"fuzz.{kind}"
    file.write_bytes(content)
    no_task_but_an_error(lambda: registry.task(str(file)))


VALUES: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = ["id", "problem", "question", "answer", "choices", "solution", "unique_id", "puzzle", "size", "Correct Answer"]


@given(st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES | st.just("1"), max_size=5), max_size=3), st.booleans())
@example([{"problem": "a", "answer": "1", "id": -0.0}], True)
@settings(max_examples=150, deadline=None)
def test_any_rows_are_problems_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], own: bool
) -> None:
    file = tmp_path_factory.getbasetemp() / "rows.jsonl"
    file.write_text("\n".join(json.dumps(row) for row in rows))
    no_task_but_an_error(lambda: registry.task(str(file) if own else f"zebralogic:data={file},largest=9"))


@given(st.text(max_size=300))
@example("x" * LONGEST_NAME)
def test_a_fit_name_is_a_file_inside_its_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    if unfit(name) is None:
        folder = tmp_path_factory.getbasetemp() / "names"
        folder.mkdir(exist_ok=True)
        file = folder / f"{name}.parquet.part"
        file.write_text("")
        assert [f.name for f in folder.iterdir()] == [file.name]
        file.unlink()


@pytest.mark.parametrize("name", ["../../x", "/etc/x", "a\nb", "", "..", "x" * 300, "a\x00", "\ud800"])
def test_a_bench_refuses_ids_that_name_no_file(name: Any, tmp_path: Path) -> None:
    class Odd(Toy):
        def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
            return [Problem(name, "guess", "1")]

    with pytest.raises(PathpruneError, match="task toy: the id of a problem names a file, and this one"):
        pp.bench(
            "first",
            task=Odd(),
            engine="toy",
            n=4,
            keep=2,
            prefix=5,
            problems=1,
            results=tmp_path / "r",
            bank=tmp_path / "b",
        )
    assert not list(tmp_path.rglob("*.parquet"))


@pytest.mark.parametrize("task", ["toy", "hands", "slips", "reasoning_gym:chain_sum"])
def test_ids_of_tasks_are_names(task: str) -> None:
    assert all(unfit(p.id) is None for p in registry.task(task).problems("test", 3))


OPTIONS = {
    "toy": ["foo=1"],
    "slips": ["foo=1", "shortest=4"],
    "hands": ["foo=1", "shortest=inf", "longest=nan", "longest=10.5", "longest=1000000000", "shortest=a", "shortest=-5", "longest=true"],
    "reasoning_gym:chain_sum": [
        *("foo=1", "seed=inf", "seed=1.5", "seed=a", "max_terms=inf", "max_terms=nan", "max_terms=2.5", "max_terms=a", "max_terms=-1"),
        *("size=3", "min_digits=0", "name=x"),
    ],
    "aime24:data=FILE": ["foo=1", "shuffle=inf", "shuffle=a", "shuffle=true", "dev=5", "data=nan"],
    "zebralogic:data=FILE": ["foo=1", "largest=inf", "largest=-1", "largest=a", "largest=1e30", "data=5"],
    "file:data=FILE": ["foo=1", "shuffle=1.5", "label=true"],
    "lm_eval:x": ["foo=1", "shots=a", "shots=inf", "trust=yes", "trust=1", "include=5", "include=/nowhere/at/all"],
    "lm_eval:x.yaml": ["shots=a", "include=nan"],
}  # fmt: skip


@pytest.mark.parametrize(("task", "option"), [(t, o) for t, given in OPTIONS.items() for o in given])
def test_wrong_options_are_one_line(task: str, option: str, tmp_path: Path) -> None:
    file = tmp_path / "own.jsonl"
    file.write_text(json.dumps(GOOD))
    spec = task.replace("FILE", str(file))
    with pytest.raises(PathpruneError) as raised:
        registry.task(f"{spec}{',' if ':' in spec else ':'}{option}")
    assert "\n" not in str(raised.value) and option.partition("=")[0] in str(raised.value)


def test_a_yaml_of_ones_own_runs_only_with_trust(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    proof = tmp_path / "proof"
    (tmp_path / "code.py").write_text(
        f"from pathlib import Path\nPath({str(proof)!r}).touch()\ndef text(doc): return ''\n"
    )
    shell = "{{ cycler.__init__.__globals__.os.system('touch " + str(proof) + "') }}"
    data = "dataset_path: json\ndataset_kwargs: {data_files: {test: missing.json}}\noutput_type: generate_until\ntest_split: test\n"
    for text in (json.dumps(shell), "!function code.text"):
        (tmp_path / "own.yaml").write_text(f"task: own\ndoc_to_text: {text}\n{data}")
        for spec in (f"lm_eval:{tmp_path / 'own.yaml'}", f"lm_eval:own,include={tmp_path}"):
            with pytest.raises(PathpruneError, match=r"can run any code .*trust=true"):
                registry.task(spec)
    assert not proof.exists()
    with pytest.raises(PathpruneError, match="cannot be loaded"):  # there is no such data
        registry.task(f"lm_eval:{tmp_path / 'own.yaml'},trust=true")
    assert proof.exists(), "the file does what it is refused for"


def test_tasks_of_lm_eval_that_run_what_a_model_writes_are_found() -> None:
    pytest.importorskip("lm_eval")
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    theirs = Path(lm_eval.tasks.__file__).parent / "score" / "math"
    for kind, expected in (("prompt", {"parse_expr"}), ("non_greedy", set())):
        graded = load_yaml(theirs / f"{kind}_robustness_math_algebra.yaml")["process_results"]
        assert evaluators(graded, lambda file: "lm_eval" in file) == expected


def test_rows_say_where_they_stand(tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    file.write_text(json.dumps([GOOD, GOOD]))
    assert [where for where, _ in read(str(file))] == [f"{file}, row 1", f"{file}, row 2"]
