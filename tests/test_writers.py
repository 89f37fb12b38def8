"""Many writers, full disks and kills: what is stored is what one undisturbed process stores."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pathprune as pp
from harness.api import Path as Sample
from harness.api import PathpruneError, Problem
from harness.cli import main
from harness.pools.bank import Bank
from harness.store import locks
from harness.store.files import writable
from harness.store.locks import Claims, sole, writing
from harness.store.records import Record, pack, pools

SPEC = {"task": "toy", "task_version": "1", "engine": {"model": "toy"}, "seed": 0, "max_tokens": 48, "n": 8}
FORMS = ("md", "csv", "tex", "html")
BENCH = ("bench", "--task", "toy", "--engine", "toy", "--keep", "2")


def together(*functions: Callable[[], Any]) -> None:
    """Run functions in threads, which locks keep apart as they do processes; the first error is raised."""
    errors: list[BaseException] = []

    def caught(function: Callable[[], Any]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=caught, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def left_behind(folder: Path) -> list[str]:
    """Locks, claims and half-written files."""
    return [f.name for f in folder.rglob(".*") if f.is_file()]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=2, max_size=4), st.booleans())
def test_a_record_holds_each_problem_once_whoever_appends(
    tmp_path_factory: pytest.TempPathFactory, appended: list[list[int]], packing: bool
) -> None:
    folder = tmp_path_factory.mktemp("pool")
    file = folder / "L5-mine-0.jsonl"

    def writer(problems: list[int]) -> None:
        record = Record.open(file, SPEC)
        for problem in problems:
            record.append([{"problem": str(problem), "scores": [float(problem)]}])
        assert {str(p) for p in problems} <= record.lines.keys()

    packers = [lambda: [pack(folder) for _ in range(3)]] * packing
    together(*((lambda problems=problems: writer(problems)) for problems in appended), *packers)
    whole = Record.read(file).lines
    assert whole == {p: {"problem": p, "scores": [float(p)]} for p in {str(p) for one in appended for p in one}}.copy()
    pack(folder)
    assert Record.read(file).lines == whole and not file.exists() and not left_behind(folder)


def test_two_that_open_a_record_before_its_first_line_lose_nothing(tmp_path: Path) -> None:
    one, two = (Record.open(tmp_path / "r.jsonl", SPEC) for _ in range(2))
    for record, problem in ((one, "p0"), (two, "p2"), (one, "p1"), (two, "p3"), (two, "p0")):
        record.append([{"problem": problem, "scores": [1.0]}])
    assert list(Record.read(one.file).lines) == ["p0", "p2", "p1", "p3"]
    assert len(one.file.read_text().splitlines()) == 5


def test_a_torn_line_of_another_process_is_cut_by_who_writes_and_by_nobody_else(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "r.jsonl", SPEC)
    record.append([{"problem": "p", "scores": [1.0]}])
    with record.file.open("a") as stream:
        stream.write('{"problem": "q", "sco')
    torn = record.file.read_bytes()
    again = Record.open(record.file, SPEC)
    assert list(again.lines) == ["p"] and record.file.read_bytes() == torn
    again.append([{"problem": "r", "scores": [2.0]}])
    assert [json.loads(line)["problem"] for line in record.file.read_text().splitlines()[1:]] == ["p", "r"]


def test_rows_that_contradict_each_other_are_refused_under_the_lock(tmp_path: Path) -> None:
    one, two = (Record.open(tmp_path / "r.jsonl", SPEC) for _ in range(2))
    one.append([{"problem": "p", "paths": "a"}])

    def agree(known: dict[str, Any], row: dict[str, Any]) -> None:
        if known["paths"] != row["paths"]:
            raise PathpruneError("other paths")

    with pytest.raises(PathpruneError, match="other paths"):
        two.append([{"problem": "q", "paths": "c"}, {"problem": "p", "paths": "b"}], agree)
    assert list(Record.read(one.file).lines) == ["p"]


def test_an_error_that_comes_again_is_one_line(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "r.jsonl", SPEC)
    for _ in range(3):
        record.append([{"problem": "p", "error": "boom"}])
    assert len(record.file.read_text().splitlines()) == 2


def test_what_json_cannot_hold_leaves_no_file(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "r.jsonl", SPEC, fidelity=object())
    with pytest.raises(TypeError):
        record.append([{"problem": "p", "scores": [1.0]}])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", ["", '{"format": "pathprune-rec'])
def test_a_record_without_a_whole_line_is_absent(left: str, tmp_path: Path) -> None:
    (tmp_path / "pool.jsonl").write_text(left)
    record = Record.open(tmp_path / "pool.jsonl", SPEC)
    record.append([{"problem": "p"}])
    assert list(Record.read(record.file).lines) == ["p"]


def paths(problem: Problem, indices: Sequence[int], token: int = 0) -> list[Sample]:
    return [Sample(problem, i, 0, (i, token), str(i), finish="stop") for i in indices]


def test_a_bank_keeps_every_path_that_anybody_puts(tmp_path: Path) -> None:
    bank, problem = Bank(tmp_path, {"task": "toy", "max_tokens": 4}), Problem("p", "", "")
    together(*((lambda n=n: bank.put(problem, paths(problem, range(n)))) for n in (8, 64, 16, 4)))
    assert [p.index for p in bank.get(problem, 0)] == list(range(64))
    with pytest.raises(PathpruneError, match=r"contains a different path 3 .*use another --bank"):
        bank.put(problem, paths(problem, [3], token=9))
    assert not left_behind(tmp_path)


def test_a_claim_is_one_s_and_what_a_dead_process_left_is_taken(tmp_path: Path) -> None:
    (tmp_path / ".claim-0123456789ab").touch()
    with Claims(tmp_path) as ours, Claims(tmp_path) as theirs:
        assert ours.take("abc", 2) == ["a", "b"] and theirs.take("abcd", 9) == ["c", "d"]
        assert ours.take("abcd", 9) == [] and theirs.take_in_order("ab") == []
        ours.release(["a"])
        assert theirs.take_in_order("ab") == ["a"]
    assert not left_behind(tmp_path)


def test_a_writer_that_never_ends_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.05)
    with writing(tmp_path), pytest.raises(PathpruneError, match="another process has been writing"), writing(tmp_path):
        pass


def test_parts_of_dead_writers_go_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    file = tmp_path / "table.csv"
    (tmp_path / ".table.csv.00000000.part").write_text("left")
    (tmp_path / ".table.csv2.00000000.part").write_text("another file's")
    with writable(file) as one, writable(file) as two:
        assert one != two and one.exists() and not (tmp_path / ".table.csv.00000000.part").exists()
        one.write_text("one")
        two.write_text("two")
    assert file.read_text() == "one"  # the last to end
    assert left_behind(tmp_path) == [".table.csv2.00000000.part"]


def test_a_link_is_replaced_and_never_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    for name in ("out.md", "out.md.part", ".out.md.part"):
        (tmp_path / name).symlink_to(tmp_path / "theirs")
    with writable(tmp_path / "out.md") as part:
        part.write_text("ours")
    assert (tmp_path / "theirs").read_text() == "theirs" and (tmp_path / "out.md").read_text() == "ours"
    assert not (tmp_path / "out.md").is_symlink()


# Processes ------------------------------------------------------------------------------------------------------------


def stored(folder: Path) -> dict[str, Any]:
    """Rows of every record in order of problems, the paths of every bank file, tables, figures and weights; headers hold
    times and machines, and live rows seconds."""
    rows: dict[str, Any] = {}
    for file in sorted(folder.rglob("*.jsonl")):
        header, *lines = map(json.loads, file.read_text().splitlines())
        lines = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
        assert len({line["problem"] for line in lines}) == len(lines), f"{file} holds a problem twice"
        rows[str(file.relative_to(folder))] = [header["spec"], sorted(lines, key=lambda line: line["problem"])]
    for file in sorted(folder.rglob("*.parquet")):
        rows[str(file.relative_to(folder))] = pq.read_table(file).to_pydict()
    for file in sorted(f for suffix in (*FORMS, "png", "safetensors") for f in folder.rglob(f"*.{suffix}")):
        rows[str(file.relative_to(folder))] = file.read_bytes()
    return rows


class Command:
    """``pathprune`` with some arguments on the results and the bank of a folder, in a process forked from this one.

    ``size``: bytes that a file may hold, as on a disk that is full."""

    def __init__(self, folder: Path, *args: str, size: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        reads, writes = os.pipe()
        self.process = os.fork()
        if not self.process:
            os.close(reads)
            self._run(folder, args, size, writes)
        os.close(writes)
        self.output = reads

    def _run(self, folder: Path, args: Sequence[str], size: int | None, output: int) -> None:
        code = 99
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.chdir(folder)
            for stream in (1, 2):
                os.dup2(output, stream)
            sys.stdout, sys.stderr = (os.fdopen(stream, "w", buffering=1) for stream in (1, 2))
            sys.argv = ["pathprune", *args]
            if size is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it printed; minus the signal's number where it was killed."""
        with os.fdopen(self.output) as stream:
            text = stream.read()
        return os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1]), text

    def done(self, code: int = 0) -> str:
        """What it printed, once it has ended as it should."""
        got, text = self.ended()
        assert got == code, text
        return text


def race(folder: Path, processes: int) -> None:
    """Processes with the same and with other pruners and n at once, against one after the other."""
    asked = [("jaccard,logprob", "16"), ("deepconf", "16"), ("jaccard", "8"), ("logprob,shortest", "16")]
    wanted = [(*BENCH, "--problems", "8", "--pruner", p, "--n", n) for p, n in asked]
    for one in wanted:
        Command(folder / "alone", *one).done()
    for running in [Command(folder / "many", *wanted[i % len(wanted)]) for i in range(processes)]:
        assert "Traceback" not in running.done()
    assert stored(folder / "alone") == stored(folder / "many")
    assert not left_behind(folder)


def test_four_processes_store_what_one_does(tmp_path: Path) -> None:
    race(tmp_path, 4)


@pytest.mark.slow
def test_eight_processes_store_what_one_does_twenty_times(tmp_path: Path) -> None:
    for trial in range(20):
        race(tmp_path / str(trial), 8)


LABEL = ("label", "--task", "toy", "--engine", "toy", "--n", "8", "--group", "2", "--labels", "labels")
VERBS = {
    "bench": (*BENCH, "--problems", "16", "--pruner", "jaccard,logprob", "--n", "32"),
    "live": (*BENCH, "--problems", "6", "--pruner", "jaccard,logprob", "--n", "16", "--live"),
    "label": (*LABEL, "--problems", "10"),
    "train": (
        "train",
        "linear-probe:epochs=5",
        *LABEL[1:],
        "--problems",
        "10",
        "--make-labels",
        "--out",
        "checkpoints",
    ),
    "leaderboard": ("leaderboard", "--keep", "2", "--results", "results/local", *(f"--out=t.{s}" for s in FORMS)),
    "plot": ("plot", "--results", "results/local", "--kind", "survival", "--out", "figures"),
    "pack": ("pack", "results/local"),
}
AFTER = {"leaderboard", "plot", "pack"}  # these read what bench has written


def survives(folder: Path, verb: str, kills: int) -> None:
    """A command that is killed at random moments, and again, ends as an uninterrupted one."""
    for name in ("whole", "killed"):
        if verb in AFTER:
            Command(folder / name, *VERBS["bench"]).done()
    began = time.monotonic()
    Command(folder / "whole", *VERBS[verb]).done()
    whole, draw = time.monotonic() - began, random.Random(verb)
    for _ in range(kills):
        running = Command(folder / "killed", *VERBS[verb])
        time.sleep(whole * draw.uniform(0.05, 0.9))
        with suppress(ProcessLookupError):
            os.kill(running.process, draw.choice([signal.SIGKILL, signal.SIGINT]))
        code, text = running.ended()
        assert code in (0, 130, -signal.SIGKILL) and "Traceback" not in text, text
    Command(folder / "killed", *VERBS[verb]).done()
    assert stored(folder / "whole") == stored(folder / "killed")
    assert not left_behind(folder)


@pytest.mark.parametrize("verb", ["bench", pytest.param("label", marks=pytest.mark.long)])
def test_what_was_killed_goes_on(verb: str, tmp_path: Path) -> None:
    survives(tmp_path, verb, 2)


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_what_was_killed_thirty_times_goes_on(verb: str, tmp_path: Path) -> None:
    survives(tmp_path, verb, 30)


@pytest.mark.parametrize(
    "verb", [v if v in ("bench", "pack") else pytest.param(v, marks=pytest.mark.long) for v in VERBS]
)
def test_a_full_disk_and_then_room(verb: str, tmp_path: Path) -> None:
    """Whatever is being written when there is no room stays as it was, and the same command completes."""
    for name in ("whole", "full"):
        if verb in AFTER:
            Command(tmp_path / name, *VERBS["bench"]).done()
    Command(tmp_path / "whole", *VERBS[verb]).done()
    for size in (0, 1500):
        before = stored(tmp_path / "full")
        text = Command(tmp_path / "full", *VERBS[verb], size=size).done(2)
        assert "Traceback" not in text and text.count("error: ") == 1 and "cannot write" in text, text
        if not size:  # with a little room, journals grow by whole rows
            assert before.items() <= stored(tmp_path / "full").items()
        assert not left_behind(tmp_path)
    Command(tmp_path / "full", *VERBS[verb]).done()
    assert stored(tmp_path / "whole") == stored(tmp_path / "full")


class Watches:
    """Scores like a control, and looks at what its process holds at every problem."""

    quadrant, needs, fidelity = "control", frozenset({"text"}), "exact"
    seen: ClassVar[list[tuple[int, int]]] = []

    def score(self, prefixes: Sequence[Sample], check: Any) -> list[float]:
        process = psutil.Process()
        self.seen.append((process.num_fds(), process.memory_info().rss))
        return [float(len(p.text)) for p in prefixes]


@pytest.mark.parametrize("problems", [120, pytest.param(2000, marks=pytest.mark.slow)])
def test_file_handles_and_memory_stay_flat(problems: int, tmp_path: Path) -> None:
    Watches.seen.clear()
    where: dict[str, Any] = {"results": tmp_path / "r", "bank": tmp_path / "b", "progress": False}
    pp.bench([Watches, "jaccard"], "toy", engine="toy", problems=problems, n=8, keep=2, **where)
    early, late = Watches.seen[problems // 2 + 30], Watches.seen[-1]  # what is imported on the way is
    assert len(Watches.seen) == problems
    assert late[0] <= early[0] + 2
    assert late[1] <= early[1] + (30 << 20)  # bytes; rows of 2,000 problems are a few of them


def test_two_trainings_of_one_checkpoint_do_not_meet(tmp_path: Path) -> None:
    with sole(tmp_path / "stop", "training"):
        again = sole(tmp_path / "stop", "training")
        with pytest.raises(PathpruneError, match=r"another process is training .*stop; wait for it"), again:
            pass
        with sole(tmp_path / "step", "training"):
            pass
    assert not left_behind(tmp_path)


def test_reports_do_not_depend_on_who_appended_first(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"task": "toy", "engine": "toy", "problems": 12, "n": 8, "keep": 2, "progress": False}
    one = pp.bench("logprob", results=tmp_path / "r", bank=tmp_path / "b", **asked)
    for file in (tmp_path / "r").rglob("*.jsonl"):
        header, *lines = file.read_text().splitlines()
        file.write_text("\n".join([header, *random.Random(0).sample(lines, len(lines))]) + "\n")
    other = pp.bench("logprob", results=tmp_path / "r", bank=tmp_path / "b", **asked)
    assert one.frame().equals(other.frame())


def test_a_problem_may_be_called_like_a_lock(tmp_path: Path) -> None:
    bank, name = Bank(tmp_path, {"task": "toy", "max_tokens": 4}), ".claim-0123456789ab"
    with bank.claims() as claims:
        claims.take([name], 1)
        bank.put(Problem(name, "", ""), paths(Problem(name, "", ""), [0]))
    assert len(bank.get(Problem(name, "", ""), 0)) == 1 and not left_behind(tmp_path)


def test_a_pool_that_may_not_be_read_is_named_and_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pool").mkdir()
    scandir = os.scandir

    def refusing(folder: Any) -> Any:
        if Path(folder).name == "pool":
            raise PermissionError(13, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(PathpruneError, match=r"cannot read .*pool"):
        pools(tmp_path)


def test_a_pipe_in_place_of_a_record_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pool.jsonl")
    with pytest.raises(PathpruneError, match="not a regular file"):
        Record.open(tmp_path / "pool.jsonl", SPEC)


def test_what_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    class Pays:
        quadrant, needs, fidelity, pointwise = "control", frozenset({"text"}), "exact", True

        def score(self, prefixes: Sequence[Sample], check: Any) -> list[float]:
            check.each[0] = pp.Cost(generated=5)  # past the ledger
            return [float(len(p.text)) for p in prefixes]

    where: dict[str, Any] = {"task": "toy", "engine": "toy", "results": tmp_path / "r", "bank": tmp_path / "b"}
    table = pp.bench([Pays, "logprob"], problems=4, n=8, keep=2, progress=False, **where)
    assert "each.generated" in table.failures["Pays"][1]
    assert len(pp.results(tmp_path / "r", keep=2)) == 1


@pytest.mark.parametrize("code", ["needs = Exits()", "__getattribute__ = leaves"])
def test_nobody_else_ends_a_command_as_a_success(code: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import sys\nclass Exits(frozenset):\n    def __iter__(self): sys.exit(0)\n"
        "def leaves(self, name): sys.exit(0)\n"
        "class Mine:\n    quadrant, needs = 'control', frozenset({'text'})\n    " + code + "\n"
        "    def score(self, prefixes, check): return [0.0] * len(prefixes)\n"
    )
    text = Command(tmp_path, *BENCH, "--problems", "2", "--n", "4", "--pruner", "./mine.py@Mine").done(2)
    assert "Traceback" not in text and "error: " in text
