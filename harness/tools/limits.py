"""Resource limits of an interpreter. They affect paths, so records include them."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
LONGEST_CODE = 48 << 10  # bytes of one call; a request fits the buffer of a pipe


@dataclass(frozen=True)
class Limits:
    """Bounds of a call and of the interpreter that runs it.

    Args:
        seconds: CPU seconds of one call, child processes included.
        wall: wall-clock seconds of one call, because sleeping uses no CPU.
        memory: bytes, for each process and for all together.
        processes: number of processes and threads of an interpreter.
        output: characters of a call's output that the model sees.
        file: bytes of one file.
        disk: bytes of all files, which are kept in memory.
        entries: number of files and folders.
        open_files: number of open files of a process.
    """

    seconds: float = 5.0
    wall: float = 30.0
    memory: int = 1024 * MIB
    processes: int = 32
    output: int = 4000
    file: int = 16 * MIB
    disk: int = 64 * MIB
    entries: int = 4096
    open_files: int = 64
