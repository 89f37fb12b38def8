"""Drops the privileges of a process before it reads model output: it can still compute, read files and answer.

Linux only, without root. A seccomp filter allows system calls by name and refuses all others (EPERM). It refuses every
call that writes, removes or renames a file, starts a process, sends a signal, opens a socket or traces another process.
Files can be opened for reading, because Python imports modules late. Limits bound memory and files. The kernel enforces
the filter, so it also binds machine code smuggled in by an answer.

The filter does not hide secrets that the user can read. Such code could read them but not pass them on: a single byte
leaves the process, and the reader takes it as a grade.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import signal
import struct
import sys
from collections.abc import Sequence

_END_WITH_PARENT, _NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 1, 38, 22, 2
_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # classic BPF: ld [k], jeq, jset, ret
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000 | errno.EPERM, 0x80000000
_NUMBER, _MACHINE, _FLAGS = 0, 4, 32  # offsets in struct seccomp_data; the third argument's lower half on little-endian
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # audit numbers of the kernel, by name
_OPENAT = (257, 56)  # its number on each machine
# Calls allowed with any arguments, with their numbers on each machine.
_CALLS: dict[str, tuple[int | None, int | None]] = {
    "read": (0, 63), "write": (1, 64), "close": (3, 57), "stat": (4, None), "fstat": (5, 80), "lstat": (6, None),
    "poll": (7, None), "ppoll": (None, 73), "lseek": (8, 62), "mmap": (9, 222), "mprotect": (10, 226),
    "munmap": (11, 215), "brk": (12, 214), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139), "pread64": (17, 67), "readv": (19, 65), "access": (21, None), "sched_yield": (24, 124),
    "mremap": (25, 216), "madvise": (28, 233), "nanosleep": (35, 101), "getpid": (39, 172), "exit": (60, 93),
    "uname": (63, 160), "getcwd": (79, 17), "readlink": (89, None), "gettimeofday": (96, 169), "getrlimit": (97, 163),
    "getrusage": (98, 165), "sysinfo": (99, 179), "times": (100, 153), "getuid": (102, 174), "getgid": (104, 176),
    "geteuid": (107, 175), "getegid": (108, 177), "sigaltstack": (131, 132), "gettid": (186, 178), "futex": (202, 98),
    "sched_getaffinity": (204, 123), "getdents64": (217, 61), "restart_syscall": (219, 128),
    "clock_gettime": (228, 113), "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "exit_group": (231, 94),
    "newfstatat": (262, 79), "readlinkat": (267, 78), "faccessat": (269, 48), "getrandom": (318, 278),
    "statx": (332, 291), "faccessat2": (439, 439),
}  # fmt: skip


def unsupported() -> str | None:
    """The reason why this machine cannot lock a process, or None."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES or sys.byteorder != "little":
        return f"that needs Linux on {' or '.join(_MACHINES)}, and this is {sys.platform} on {platform.machine()}"
    return None


def lock(memory: int) -> None:
    """Irrevocably drop this process's abilities to affect anything else. The process ends when its parent does.

    Args:
        memory: bytes that it may still allocate.

    Raises:
        OSError: if the kernel refused. The process must not grade then.
    """
    import resource  # not on Windows

    for what in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE, resource.RLIMIT_NPROC):
        resource.setrlimit(what, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    most = _address_space() + memory
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    column = list(_MACHINES).index(platform.machine())
    allowed = [numbers[column] for numbers in _CALLS.values()]
    _install(
        _program(_MACHINES[platform.machine()], _OPENAT[column], [number for number in allowed if number is not None])
    )


def _address_space() -> int:
    """Current address space of this process, in bytes."""
    with open("/proc/self/statm", "rb") as stream:  # noqa: PTH123
        return int(stream.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def _program(machine: int, openat: int, allowed: Sequence[int]) -> bytes:
    """The filter: calls of another machine kill the process, ``openat`` may not write, listed calls pass, and others
    are refused."""

    def op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("HBBI", code, then, otherwise, value)

    count = len(allowed)  # jump lengths count from the next operation
    steps = [op(_LOAD, _MACHINE), op(_EQUAL, machine, 1, 0), op(_RETURN, _KILL), op(_LOAD, _NUMBER)]
    steps.append(op(_EQUAL, openat, count + 1, 0))
    steps += [op(_EQUAL, number, count - i + 3, 0) for i, number in enumerate(allowed)]
    steps += [op(_RETURN, _REFUSE), op(_LOAD, _FLAGS), op(_ANY_BIT, _WRITING, 0, 1), op(_RETURN, _REFUSE)]
    return b"".join([*steps, op(_RETURN, _ALLOW)])


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("steps", ctypes.c_char_p))


def _install(program: bytes) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    filtered = _Filter(len(program) // 8, program)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_END_WITH_PARENT, ctypes.c_ulong(signal.SIGKILL), zero, zero, zero):
        raise OSError(ctypes.get_errno(), "the kernel does not end a process with its parent")
    if libc.prctl(_NO_NEW_PRIVILEGES, ctypes.c_ulong(1), zero, zero, zero):
        raise OSError(ctypes.get_errno(), "the kernel refuses no_new_privs")
    if libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER), ctypes.byref(filtered), zero, zero):
        raise OSError(ctypes.get_errno(), "the kernel refuses a seccomp filter")
