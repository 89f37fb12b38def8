"""How much memory this process needs at most, as the kernel counts it: tensors of every library included."""

from __future__ import annotations

from pathlib import Path

STATUS = Path("/proc/self/status")


def reset_peak() -> float:
    """Let the peak start again from here; returns the resident MiB now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _mebibytes("VmRSS")


def peak() -> float:
    """Resident MiB at the highest since ``reset_peak``."""
    return _mebibytes("VmHWM")


def _mebibytes(field: str) -> float:
    return int(next(line for line in STATUS.read_text().splitlines() if line.startswith(field)).split()[1]) / 1024
