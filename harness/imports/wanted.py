"""The options of an import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, Literal, get_args

from harness.api import PathpruneError
from harness.imports.pool import FORMAT
from harness.store.keys import digest
from harness.text import shown, unknown

Grades = Literal["given", "ours", "both"]


@dataclass(frozen=True)
class Wanted:
    """The options of an import. An interrupted import continues if its ``key`` is the same.

    Args:
        grades: "given" takes the file's grades; "ours" grades the texts; "both" takes the file's and counts where ours
            differ. None: "both" if every path has a grade in the file, else "ours".
        tokenizer: counts and cuts texts without recorded tokens, or decodes ids.
        parameters: active parameters of the model that sampled, for FLOPs.
        golds: a file of problems with gold answers, for paths whose files have none.
    """

    files: tuple[str, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)
    shape: str | None = None
    grades: Grades | None = None
    tokenizer: str | None = None
    parameters: float | None = None
    skip_bad: bool = False
    golds: str | None = None

    def __post_init__(self) -> None:
        if self.grades is not None and self.grades not in get_args(Grades):
            raise PathpruneError(unknown("grades", shown(self.grades), list(get_args(Grades))))
        if self.parameters is not None and not (
            isinstance(self.parameters, int | float) and 1 <= self.parameters <= 1e15
        ):
            raise PathpruneError(f"parameters must be a number from 1 to 1e15, not {shown(self.parameters)}")

    @property
    def key(self) -> str:
        """Digest of the options and the files."""
        stated = {k: v for k, v in vars(self).items() if k not in ("files", "golds")}
        beside = {} if self.golds is None else {"golds": _state(self.golds)}
        return digest({"format": FORMAT, "files": [_state(f) for f in self.files], **stated, **beside})


def _state(file: str) -> list[Any]:
    path = FilePath(file)
    inside = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return [file, [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in inside if f.exists()]]
