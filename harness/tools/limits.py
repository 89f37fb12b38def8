"""What one interpreter may use. Part of what decides a path: a record names them."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
LONGEST_CODE = 48 << 10  # bytes of one call; a request fits the buffer of a pipe


@dataclass(frozen=True)
class Limits:
    """Bounds of a call and of the interpreter that runs it.

    Args:
        seconds: of a processor, for one call, its children included.
        wall: by the clock, for one call: sleeping costs no processor.
        memory: bytes, of each process and of all of them together.
        processes: of an interpreter, threads included.
        output: characters of a call that the model sees.
        file: bytes of one file.
        disk: bytes of all files, which live in memory.
        entries: files and folders.
        open_files: of a process.
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
