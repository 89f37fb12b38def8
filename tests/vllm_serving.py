"""Real ``vllm serve`` processes, for the tests marked vllm."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path as FilePath

import requests

HERE = FilePath(sys.executable).parent
# What the printed command leaves to the user: how much memory.
MEMORY = ("--kv-cache-memory-bytes", "100000000", "--block-size", "32")


@contextmanager
def exported_server(folder: FilePath) -> Iterator[str]:
    """A server of what ``pathprune export stop`` writes, by the command that it prints."""
    printed = subprocess.run(
        [HERE / "pathprune", "export", "stop", "--out", str(folder / "hands")],
        check=True,
        capture_output=True,
        text=True,
    )
    command = printed.stdout.strip().splitlines()[-1].replace("python -m", f"{HERE}/python -m")
    with _process(["env", *shlex.split(command), "--dtype", "float32"], folder / "log") as url:
        yield url


@contextmanager
def vllm_serve(command: Sequence[str], log: FilePath) -> Iterator[str]:
    """A server by arguments of this Python."""
    with _process([str(HERE / "python"), *command], log) as url:
        yield url


@contextmanager
def _process(command: Sequence[str], log: FilePath) -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with log.open("w") as told:
        process = subprocess.Popen([*command, "--port", str(port), *MEMORY], stdout=told, stderr=told)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                if requests.get(f"{url}/health", timeout=1).ok:
                    break
            except requests.RequestException:
                pass
            time.sleep(1)
        yield url
    finally:
        process.terminate()
        process.wait(30)
