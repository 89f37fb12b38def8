"""The process inside the sandbox: it reads code, runs it in one namespace that lives on, and says when it is done.

It is bound by what is around it (namespaces, a system call filter, limits), and promises nothing itself: code that it runs
can do to this process whatever it wants. Only the standard library is imported, before the limits hold.

What code prints goes to descriptor 1, which the harness reads. Requests and replies are frames: four bytes of length, then JSON.
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
RECEIVE, SEND = 3, 4  # the same in every process: descriptors that code opens have the same numbers
HIGHEST = 1 << 16


def confine(settings: dict[str, Any]) -> None:
    """Take on the limits for good; started by root, become a user that owns nothing."""
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
    """Leave nothing open but these two, output, and an input that is empty."""
    kept = [fcntl.fcntl(number, fcntl.F_DUPFD, max(receive, send, SEND) + 1) for number in (receive, send)]
    os.dup2(kept[0], RECEIVE, inheritable=False)
    os.dup2(kept[1], SEND, inheritable=False)
    os.closerange(SEND + 1, HIGHEST)
    void = os.open(os.devnull, os.O_RDONLY)
    os.dup2(void, 0)
    os.close(void)
    os.dup2(1, 2)


def frame(receive: int, count: int) -> bytes:
    """That many bytes; the process ends where the harness has gone."""
    received = b""
    while len(received) < count:
        part = os.read(receive, count - len(received))
        if not part:
            os._exit(0)
        received += part
    return received


def serve(receive: int, send: int) -> None:
    """Run what is asked, until nobody asks."""
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
    """A frame back."""
    data = json.dumps(what).encode()
    os.write(send, LENGTH.pack(len(data)) + data)


def run(code: str, name: str, namespace: dict[str, Any]) -> None:
    """Run one call; the value of an expression at its end is shown, and so is what it raises."""
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
    except BaseException as error:  # exit() and Ctrl-C, too: the interpreter lives on
        show(error)


def show(error: BaseException) -> None:
    """A traceback of the calls' own lines: those of libraries and of this file say nothing to a model."""
    try:
        told = traceback.TracebackException.from_exception(error, limit=None)
        shorten(told, set())
        text = "".join(told.format())
    except BaseException as other:  # an exception whose text cannot be had
        text = f"{type(error).__name__} (its text cannot be shown: {type(other).__name__})\n"
    try:
        sys.stdout.flush()
    except BaseException:
        sys.stdout = sys.stderr = sys.__stdout__
    os.write(1, text.encode(errors="replace"))


def shorten(told: traceback.TracebackException, seen: set[int]) -> None:
    """Leave the frames of calls, here and in what it was raised from."""
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
