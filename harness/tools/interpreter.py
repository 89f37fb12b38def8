"""One interpreter: a sandboxed process that runs the code of one path, call by call, under supervision.

Its output is not trusted. It is size-limited and treated as text, an invalid frame ends the process, and remaining
children and threads of a call are killed or stopped from outside.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import selectors
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.tools import bubble, seccomp
from harness.tools.limits import LONGEST_CODE, Limits

LENGTH = struct.Struct(">I")
LONGEST_REPLY = 256
STARTING = 60.0  # seconds that a start may take on a busy machine
TICK = 0.05  # seconds between two measurements of a call's resources
UNDONE = "[This call was undone: variables are as before it.]"
FORGED = "InterpreterError: the code wrote into the interpreter's own channel"
ADDRESS = re.compile(r"(?<= at )0x[0-9a-fA-F]+(?=>)")  # an object's address, which differs between processes
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class EndedError(Exception):
    """The interpreter has ended or is no longer usable; the message states why."""


class NotStartedError(EndedError):
    """The sandbox could not be started, so no code was run."""


@dataclass(frozen=True)
class Ran:
    """The size-limited output of a call, and whether it was killed, in which case it has no other effect."""

    text: str
    undone: bool = False


class Output:
    """The output of a process, truncated in the middle."""

    def __init__(self, characters: int) -> None:
        self.most, self.half = characters, 4 * characters
        self.head, self.tail, self.total = bytearray(), bytearray(), 0

    def add(self, part: bytes) -> None:
        """Append output."""
        self.total += len(part)
        room = self.half - len(self.head)
        self.head += part[:room]
        self.tail += part[room:]
        del self.tail[: -self.half or None]

    def text(self) -> str:
        """Plain text without control characters and addresses. If it is too long, the middle is omitted."""
        left_out = self.total - len(self.head) - len(self.tail)
        if not left_out:
            whole = _plain(bytes(self.head + self.tail))
            if len(whole) <= self.most:
                return whole
            first, last = whole[: self.most // 2], whole[-(self.most // 2) :]
        else:
            first, last = _plain(bytes(self.head))[: self.most // 2], _plain(bytes(self.tail))[-(self.most // 2) :]
        return f"{first}\n[... the middle of {self.total} bytes is left out ...]\n{last}"

    def beginning(self) -> str:
        """The first half of the output of a killed call. The rest depends on timing."""
        whole = _plain(bytes(self.head))
        return whole if len(whole) <= self.most // 2 and not self.tail else f"{whole[: self.most // 2]}\n[...]"


def _plain(data: bytes) -> str:
    text = data.decode(errors="replace").replace("\r\n", "\n")
    return ADDRESS.sub("0x0", CONTROL.sub("\ufffd", text))


class Interpreter:
    """A process and the pipes to it. It is started at once and awaited at its first call.

    The thread that creates an interpreter must outlive it, because the kernel ends a sandbox with the thread that
    started it.
    """

    def __init__(self, launch: bubble.Launch, limits: Limits) -> None:
        self.limits, self.launch = limits, launch
        self.first = self.driver = 0  # the first process of the sandbox, and the one that runs code
        self.handles: dict[int, int] = {}  # handles of both, since a process number may be reused
        self.namespace = ""
        self.started = time.monotonic()
        self.answered = self.closed = False
        self.received = bytearray()  # unread bytes of replies
        self.folder = tempfile.mkdtemp(prefix="pathprune-tools-") if not launch.filtered else None
        receive, self.ask = os.pipe()
        self.replies, send = os.pipe()
        self.printed, printing = os.pipe()
        self.info, tell = os.pipe()
        passed = [receive, send]
        command = list(launch.command)
        program = -1
        if launch.filtered:
            program = _filter()
            command = [
                part.format(filter=program, info=tell) if part in ("{filter}", "{info}") else part for part in command
            ]
            passed += [program, tell]
        command.append(bubble.settings(launch, limits, receive, send))
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=printing, stderr=printing, pass_fds=passed, close_fds=True,
                env=launch.environment, cwd=self.folder or "/", start_new_session=not launch.filtered,
            )  # fmt: skip
        except OSError as error:
            self._close()
            raise NotStartedError(str(error)) from error
        finally:
            for number in (receive, send, printing, tell, *([program] if launch.filtered else [])):
                os.close(number)
        for number in (self.ask, self.replies, self.printed):
            os.set_blocking(number, False)

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.closed or self.process.poll() is not None

    def ready(self) -> None:
        """Wait until it is running.

        Raises:
            NotStartedError: if it did not start; the message contains its output.
            EndedError: if it has ended.
        """
        if self.gone:
            raise EndedError("the interpreter has ended")
        if self.answered:
            return
        output = Output(1000)
        try:
            self._await(output, self.started + STARTING, {})
            self._find()
        except EndedError as ended:
            self.end()
            raise NotStartedError(" ".join(output.text().split()) or str(ended)) from None
        self.answered = True

    def run(self, code: str, number: int) -> Ran:
        """Run one call, numbered from 1, within its limits.

        Raises:
            EndedError: if the process had ended before the call began.
        """
        self.ready()
        data = code.encode(errors="replace")
        if len(data) > LONGEST_CODE:
            return Ran(f"ValueError: a call of {len(data)} bytes; {LONGEST_CODE} at most are run")
        token = secrets.token_hex(8)
        output = Output(self.limits.output)
        until, used = time.monotonic() + self.limits.wall, Used(self)
        request = json.dumps({"id": token, "number": number, "code": code}).encode(errors="replace")
        self._signal(self.driver, signal.SIGCONT)
        self._send(LENGTH.pack(len(request)) + request)
        self._await(output, until, {"begun": token})
        try:
            self._await(output, until, {"id": token}, used)
            self._tidy()
        except EndedError as ended:
            self.end()
            text = output.beginning()
            return Ran(f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{ended}\n{UNDONE}", True)
        return Ran(output.text())

    def end(self) -> None:
        """Kill all processes in the sandbox, and wait for their end."""
        if self.closed:
            return
        self.closed = True
        if self.launch.filtered:
            self._signal(self.first, signal.SIGKILL)  # the kernel ends all processes of the sandbox with its first one
        else:
            for pid in self._everybody():
                self._signal(pid, signal.SIGKILL)
        try:
            self.process.wait(5 if self.first else 0)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._close()

    def _close(self) -> None:
        self.closed = True
        for number in (self.ask, self.replies, self.printed, self.info, *self.handles.values()):
            os.close(number)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _send(self, data: bytes) -> None:
        try:
            if os.write(self.ask, data) != len(data):
                raise EndedError("InterpreterError: the interpreter does not read")
        except OSError:
            raise EndedError(self._cause()) from None

    def _await(self, output: Output, until: float, expected: dict[str, str], used: Used | None = None) -> None:
        """Read until the expected reply arrives, and enforce the limits meanwhile."""
        with selectors.DefaultSelector() as ready:
            ready.register(self.replies, selectors.EVENT_READ)
            ready.register(self.printed, selectors.EVENT_READ)
            looked, wait = time.monotonic(), 0.0 if self.received else TICK
            while True:
                names = {key.fd for key, _ in ready.select(wait)}
                if self.printed in names and not self._drain(output):
                    ready.unregister(self.printed)
                if (self.replies in names or not wait) and self._replied(expected):
                    self._drain(output)
                    return
                wait = TICK
                if (now := time.monotonic()) - looked >= TICK:
                    looked = now
                    if now > until:
                        raise EndedError(f"TimeoutError: stopped after {self.limits.wall:g} seconds")
                    if used is not None:
                        used.hold(self.limits)

    def _drain(self, output: Output) -> bool:
        """Read the available output; False at its end."""
        for _ in range(64):  # then check the limits again
            try:
                part = os.read(self.printed, 1 << 16)
            except BlockingIOError:
                return True
            if not part:
                return False
            output.add(part)
        return True

    def _replied(self, expected: dict[str, str]) -> bool:
        """Has a complete frame arrived? It must be the expected one."""
        try:
            part = os.read(self.replies, LONGEST_REPLY)
        except BlockingIOError:
            part = None
        if part == b"":
            raise EndedError(self._cause())
        self.received += part or b""
        (length,) = LENGTH.unpack(self.received[: LENGTH.size]) if len(self.received) >= LENGTH.size else (0,)
        end = LENGTH.size + length
        if length > LONGEST_REPLY or len(self.received) > 2 * end > 2 * LENGTH.size:
            raise EndedError(FORGED)
        if len(self.received) < end or not length:
            return False
        frame = bytes(self.received[LENGTH.size : end])
        del self.received[:end]
        try:
            said = json.loads(frame)
        except ValueError:
            said = None
        if said != expected:
            raise EndedError(FORGED)
        return True

    def _cause(self) -> str:
        """The reason why a process ended by itself."""
        try:
            status = self.process.wait(5)
        except subprocess.TimeoutExpired:
            return "InterpreterError: the code closed the interpreter's own channel"
        number = -status if status < 0 else status - 128
        if number in {s.value for s in signal.Signals}:
            return f"InterpreterError: the code ended the interpreter by {signal.Signals(number).name}"
        return f"InterpreterError: the code ended the interpreter with status {status}"

    def _find(self) -> None:
        """Find the numbers of these processes outside the sandbox."""
        if self.launch.filtered:
            self.first = int(json.loads(os.read(self.info, 4096))["child-pid"])
            children = _children(self.first)
            if len(children) != 1:
                raise EndedError("the sandbox has more processes than it should at its start")
            self.driver = children[0]
        else:
            self.first = self.driver = self.process.pid
        self.namespace = _namespace(self.first)
        try:
            self.handles = {pid: os.pidfd_open(pid) for pid in {self.first, self.driver}}
        except OSError as error:
            raise EndedError(f"the kernel gives no handle of a process ({error})") from error

    def _signal(self, pid: int, what: int) -> None:
        """Signal a process of the sandbox, but never another one that has reused its number."""
        with suppress(OSError):
            if pid in self.handles:
                signal.pidfd_send_signal(self.handles[pid], what)
            elif pid:
                handle = os.pidfd_open(pid)
                try:
                    if _namespace(pid) == self.namespace:
                        signal.pidfd_send_signal(handle, what)
                finally:
                    os.close(handle)

    def _everybody(self) -> list[int]:
        """All processes in the sandbox, including the first. If there are too many, a number above the limit is
        returned."""
        everybody: list[int] = []
        waiting = [self.first] if self.first else []
        while waiting and len(everybody) <= 2 * self.limits.processes:
            pid = waiting.pop()
            everybody.append(pid)
            waiting += _children(pid)
        return everybody

    def _tidy(self) -> None:
        """Stop the interpreter until its next call, and kill the processes left behind by this one."""
        self._signal(self.driver, signal.SIGSTOP)
        for _ in range(100):
            left = [pid for pid in self._everybody() if pid not in (self.first, self.driver) and not _is_zombie(pid)]
            if not left:
                break
            for pid in left:
                self._signal(pid, signal.SIGKILL)
            time.sleep(0.002)
        else:
            raise EndedError("InterpreterError: the code leaves processes behind that cannot be ended")
        if self.process.poll() is not None:
            raise EndedError(self._cause())
        self._drain(Output(0))  # output printed after the end of the call


@dataclass(frozen=True)
class _Stat:
    processor: float
    pages: int
    threads: int


class Used:
    """The resource usage of a call, as counted by the kernel for all processes of its sandbox."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.before = sum(s.processor for s in self._now()) if interpreter.answered else 0.0

    def _now(self) -> list[_Stat]:
        return [s for s in map(_stat, self.interpreter._everybody()) if s is not None]

    def hold(self, limits: Limits) -> None:
        """Enforce the limits.

        Raises:
            EndedError: names the exceeded limit.
        """
        now = self._now()
        if sum(s.processor for s in now) - self.before > limits.seconds:
            raise EndedError(f"TimeoutError: stopped after {limits.seconds:g} seconds of a processor")
        if sum(s.pages for s in now) * os.sysconf("SC_PAGE_SIZE") > limits.memory:
            raise EndedError(f"MemoryError: stopped, for its processes use more than {limits.memory >> 20} MiB")
        if sum(s.threads for s in now) > 2 * limits.processes:
            raise EndedError(f"RuntimeError: stopped, for it starts more than {limits.processes} processes")
        if self.interpreter.launch.filtered and _entries(self.interpreter.driver) > limits.entries:
            raise EndedError(f"OSError: stopped, for it makes more than {limits.entries} files")


def _stat(pid: int) -> _Stat | None:
    """Resource usage of a process, including children that it has waited for; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return _Stat(sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK"), int(fields[21]), int(fields[17]))


def _namespace(pid: int) -> str:
    """The process namespace of a process, by the kernel's name."""
    return str(Path(f"/proc/{pid}/ns/pid").readlink())


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def _children(pid: int) -> list[int]:
    """Processes that a process started or inherited."""
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_bytes().split())
    except FileNotFoundError:
        if not Path("/proc/self/task").is_dir() or Path(f"/proc/self/task/{os.getpid()}/children").exists():
            return found
        with suppress(psutil.NoSuchProcess):  # kernels without a list of children
            return [child.pid for child in psutil.Process(pid).children()]
    except (ProcessLookupError, PermissionError):
        pass
    return found


def _entries(pid: int) -> int:
    """Number of files and folders in the sandbox's /tmp and /dev/shm."""
    count = 0
    for folder in ("tmp", "dev/shm"):
        with suppress(OSError):
            held = os.statvfs(f"/proc/{pid}/root/{folder}")
            count += held.f_files - held.f_ffree
    return count


def _filter() -> int:
    """A descriptor from which the system call filter is read."""
    read, write = os.pipe()
    os.write(write, seccomp.program())
    os.close(write)
    return read
