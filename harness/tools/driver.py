"""The process inside the sandbox: it receives code, runs it in one persistent namespace, and reports completion.

It is confined from outside (namespaces, a system call filter, limits) and offers no protection itself: the code can
manipulate this process. Only the standard library is imported, before the limits apply.

Output goes to descriptor 1, which the harness reads. Requests and replies are frames: four bytes of length, then JSON.
"""

from __future__ import annotations

import ast
import builtins
import fcntl
import json
import linecache
import os
import random
import resource
import signal
import struct
import sys
import traceback
import types
from typing import Any

LENGTH = struct.Struct(">I")
RECEIVE, SEND = 3, 4  # equal in every process, so the code's own descriptors have equal numbers
HIGHEST = 1 << 16


def confine(settings: dict[str, Any]) -> None:
    """Apply the limits irrevocably; if started by root, switch to an unused user."""
    bounds = {
        resource.RLIMIT_AS: settings["memory"],
        resource.RLIMIT_FSIZE: settings["file"],
        resource.RLIMIT_NOFILE: settings["open_files"],
        resource.RLIMIT_NPROC: settings["processes"],
        resource.RLIMIT_CORE: 0,
        getattr(resource, "RLIMIT_MSGQUEUE", 12): 0,
    }
    for what, most in bounds.items():
        resource.setrlimit(what, (most, most))
    if settings["user"]:
        os.setgroups([])
        os.setresgid(settings["user"], settings["user"], settings["user"])
        os.setresuid(settings["user"], settings["user"], settings["user"])


def settle(receive: int, send: int) -> None:
    """Close all descriptors except these two and the output, and make the input empty."""
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD, max(receive, send, SEND) + 1) for number in (receive, send)]
    os.dup2(kept[0], RECEIVE, inheritable=False)
    os.dup2(kept[1], SEND, inheritable=False)
    os.closerange(SEND + 1, HIGHEST)
    void = os.open(os.devnull, os.O_RDONLY)
    os.dup2(void, 0)
    os.close(void)
    os.dup2(1, 2)


def frame(receive: int, count: int) -> bytes:
    """Read ``count`` bytes; exit if the harness has closed the pipe."""
    received = b""
    while len(received) < count:
        part = os.read(receive, count - len(received))
        if not part:
            os._exit(0)
        received += part
    return received


def serve(receive: int, send: int) -> None:
    """Run requests until the pipe is closed."""
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    builtins.exit = builtins.quit = sys.exit  # type: ignore[assignment]  # as the module ``site`` does
    sys.stdout = sys.stderr = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    random.seed(0)
    stdout = sys.stdout
    answer(send, {})
    while True:
        request = json.loads(frame(receive, LENGTH.unpack(frame(receive, LENGTH.size))[0]))
        answer(send, {"begun": request["id"]})
        sys.stdout = sys.stderr = stdout
        run(request["code"], f"<call {request['number']}>", module.__dict__)
        sys.settrace(None)
        sys.setprofile(None)
        answer(send, {"id": request["id"]})


def answer(send: int, what: dict[str, Any]) -> None:
    """Send a reply frame."""
    data = json.dumps(what).encode()
    os.write(send, LENGTH.pack(len(data)) + data)


def run(code: str, name: str, namespace: dict[str, Any]) -> None:
    """Run one call; print the value of a final expression, or the traceback of an exception."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    try:
        tree = ast.parse(code, name)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, name, "exec"), namespace)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), name, "eval"), namespace)
            if value is not None:
                namespace["_"] = value
                print(repr(value))
        sys.stdout.flush()
    except BaseException as error:  # includes exit() and Ctrl-C, which do not end the interpreter
        show(error)


def show(error: BaseException) -> None:
    """Print a traceback with the frames of calls only, because frames of libraries and this file do not help a model."""
    try:
        told = traceback.TracebackException.from_exception(error, limit=None)
        shorten(told, set())
        text = "".join(told.format())
    except BaseException as other:  # an exception whose text raises
        text = f"{type(error).__name__} (its text cannot be shown: {type(other).__name__})\n"
    try:
        sys.stdout.flush()
    except BaseException:
        sys.stdout = sys.stderr = sys.__stdout__
    os.write(1, text.encode(errors="replace"))


def shorten(told: traceback.TracebackException, seen: set[int]) -> None:
    """Keep only the frames of calls, also in the exception's causes."""
    if id(told) in seen:
        return
    seen.add(id(told))
    told.stack = traceback.StackSummary.from_list([f for f in told.stack if f.filename.startswith("<call ")])
    for other in (told.__cause__, told.__context__, *(getattr(told, "exceptions", None) or ())):
        if other is not None:
            shorten(other, seen)


def main() -> None:
    """Take settings and descriptors from the command line."""
    settings = json.loads(sys.argv[1])
    settle(settings["receive"], settings["send"])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv[:] = [""]
    confine(settings)
    serve(RECEIVE, SEND)


if __name__ == "__main__":
    main()
