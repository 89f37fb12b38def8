"""A system call filter for model-written code, in addition to namespaces and limits.

Namespaces and limits do not depend on it. It removes calls that enlarge the attack surface of the kernel: new
namespaces, mounts, tracing, bpf, io_uring, and sockets other than those within the sandbox (network namespaces do not
cover the vsock of a virtual machine). It also removes memory that no limit counts (memfd, System V). ``bwrap`` installs
it before the interpreter starts.
"""

from __future__ import annotations

import errno
import platform
import struct

_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # classic BPF: ld [k], jeq, jge, jset, ret
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _MACHINE, _FIRST = 0, 4, 16  # offsets in struct seccomp_data; the first argument's lower half on little-endian
_NEW_NAMESPACES = 0x7E020000  # flags of clone: CLONE_NEWNS, -CGROUP, -UTS, -IPC, -USER, -PID, -NET
_UNIX = 1  # AF_UNIX
_X32 = 0x40000000  # numbers of the second call table on x86_64

_MACHINES = {
    "x86_64": (0xC000003E, 0),
    "aarch64": (0xC00000B7, 1),
}  # audit numbers of the kernel, and columns of the tables
_CLONE, _SOCKET, _CLONE3 = (56, 220), (41, 198), (435, 435)
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "process_madvise": (440, 440), "pidfd_getfd": (438, 438), "perf_event_open": (298, 241), "bpf": (321, 280),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268), "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431),
    "fsmount": (432, 432), "fspick": (433, 433), "mount_setattr": (442, 442), "swapon": (167, 224), "swapoff": (168, 225),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "nfsservctl": (180, 42), "acct": (163, 89),
    "name_to_handle_at": (303, 264), "open_by_handle_at": (304, 265), "fanotify_init": (300, 262),
    "keyctl": (250, 219), "add_key": (248, 217), "request_key": (249, 218), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427),
    "memfd_create": (319, 279), "memfd_secret": (447, 447), "vmsplice": (278, 75), "shmget": (29, 194), "shmat": (30, 196),
    "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180),
    "init_module": (175, 105), "finit_module": (313, 273), "unload_module": (176, 106), "kexec_load": (246, 104),
    "kexec_file_load": (320, 294), "reboot": (169, 142), "syslog": (103, 116), "personality": (135, 92),
    "sethostname": (170, 161), "setdomainname": (171, 162), "settimeofday": (164, 170), "clock_settime": (227, 112),
    "adjtimex": (159, 171), "clock_adjtime": (305, 266), "iopl": (172, None), "ioperm": (173, None),
    "modify_ldt": (154, None), "lookup_dcookie": (212, 18), "vhangup": (153, 58), "mbind": (237, 235),
    "set_mempolicy": (238, 237), "migrate_pages": (256, 238), "move_pages": (279, 239),
}  # fmt: skip


def unsupported() -> str | None:
    """The reason why there is no filter for this machine, or None."""
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        return f"that needs Linux on {' or '.join(_MACHINES)}, and this is {platform.system()} on {platform.machine()}"
    return None


def program() -> bytes:
    """The filter for this machine, in the format of bwrap."""
    machine, column = _MACHINES[platform.machine()]
    refused = [numbers[column] for numbers in _REFUSED.values()]
    return _assembled(machine, column, [number for number in refused if number is not None])


def _assembled(machine: int, column: int, refused: list[int]) -> bytes:
    def op(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
        return struct.pack("HBBI", code, then, otherwise, value)

    refuse, missing = op(_RETURN, _ERROR | errno.EPERM), op(_RETURN, _ERROR | errno.ENOSYS)
    steps = [op(_LOAD, _MACHINE), op(_EQUAL, machine, 1, 0), op(_RETURN, _KILL), op(_LOAD, _NUMBER)]
    steps += [op(_AT_LEAST, _X32, 0, 1), refuse]
    # The flags of clone3 are in memory, where the filter cannot read them. Libraries fall back to clone.
    steps += [op(_EQUAL, _CLONE3[column], 0, 1), missing]
    steps += [op(_EQUAL, _CLONE[column], 0, 4), op(_LOAD, _FIRST), op(_ANY_BIT, _NEW_NAMESPACES, 0, 1), refuse]
    steps += [op(_RETURN, _ALLOW)]
    steps += [
        op(_EQUAL, _SOCKET[column], 0, 4),
        op(_LOAD, _FIRST),
        op(_EQUAL, _UNIX, 1, 0),
        refuse,
        op(_RETURN, _ALLOW),
    ]
    for number in refused:
        steps += [op(_EQUAL, number, 0, 1), refuse]
    return b"".join([*steps, op(_RETURN, _ALLOW)])
