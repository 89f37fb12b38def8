"""Records: a header (spec and provenance), then one row per problem.

A running bench appends to a journal, JSON lines that are durable as problems finish, so an interrupted run loses at most
the line it was writing and the same command continues. ``pack`` turns the journals of a pool's folder into snapshots
(``harness.store.packed``). Whoever reads sees both as one: rows of a journal win over those of a snapshot.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from harness import advice
from harness.api import PathpruneError
from harness.store import packed, validate
from harness.store.blame import damaged, other_format, unreadable
from harness.store.files import refused, settled
from harness.store.names import inside
from harness.store.packed import Packed, Row
from harness.store.provenance import provenance
from harness.store.roles import role_of
from harness.text import one_line

FORMAT = "pathprune-record/1"
SUFFIX = ".jsonl"
LIVE = "live"
POOL = "pool"
OWN_RULE = "own-rule"
NEWLINE = b"\n"

Kind = Literal["pool", "judged", "live"]
Header = dict[str, Any]


class Record:
    """One record. ``lines`` holds what it has, by problem id; ``file`` is its journal, which need not exist."""

    def __init__(self, file: Path, header: Header, lines: dict[str, Row]) -> None:
        self.file, self.header, self.lines = file, header, lines

    @classmethod
    def open(cls, file: Path, spec: Mapping[str, Any], **about: Any) -> Record:
        """Continue a record, or start one. The header, which holds ``about`` too, is written with the first line.

        A record is what its spec says and not its name: one of the same spec and method is continued under the name
        that it has."""
        wanted = json.loads(json.dumps(spec))
        file = file if _is_there(file) else _of_spec(file, wanted) or file
        if _is_there(file):
            record = cls.read(file, mend=True)
            if record.header["spec"] != wanted:
                raise PathpruneError(f"{file} was written for another spec; move it away and run again")
            return record
        return cls(file, {"format": FORMAT, "spec": dict(spec), **about, "provenance": provenance()}, {})

    @classmethod
    def read(cls, file: Path, mend: bool = False) -> Record:
        """Load a record by its journal's path, wherever its rows are. ``header["role"]`` is always there for a method's.

        A torn last line (a run was killed) is dropped, and cut off when ``mend``."""
        snapshot, name = snapshot_of(file)
        header = packed.headers(snapshot).get(name)
        rows = packed.rows(snapshot, name) if header else []
        if not header or _has_line(file):
            added, more = _journal(file, mend)
            if header and original(header) != original(added):
                raise PathpruneError(f"{file} and {snapshot} hold other specs under one name; move one of them away")
            header, rows = header or added, rows + more
        try:
            role = role_of(header)
            return cls(file, header if role is None else header | {"role": role}, _by_problem(rows))
        except (KeyError, TypeError) as error:
            raise damaged(shown(file), f"its header has no {error}", MADE_AGAIN) from error
        except ValueError as error:
            raise damaged(shown(file), str(error), MADE_AGAIN) from error

    def checked(self) -> Record:
        """The record itself, once its header and every row are what benches write.

        Raises:
            PathpruneError: a field that is missing or wrong, named with its file, its problem and how to mend it.
        """
        try:
            validate.header(self.header)
            validate.rows(self.header, self.lines)
        except validate.FlawError as flaw:
            raise damaged(shown(self.file), str(flaw), remedy(self.header)) from flaw
        return self

    def append(self, rows: list[Row]) -> None:
        """Write rows at once and make them durable."""
        new = [row for row in rows if row["problem"] not in self.lines or "error" in self.lines[row["problem"]]]
        if not new:
            return
        text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in new)
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            fresh = not _has_line(self.file)
            with self.file.open("w" if fresh else "a") as stream:
                stream.write((json.dumps(self.header) + "\n" if fresh else "") + text)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise refused(self.file, error) from error
        self.lines |= {row["problem"]: row for row in new}


def original(header: Header) -> dict[str, Any]:
    """The spec that a record was begun with; its name was made of it. ``was`` holds what has been restated since."""
    return {**header["spec"], **header.get("was", {})}


def snapshot_of(file: Path) -> tuple[Path, str]:
    """Where a journal's rows go when they are packed: the snapshot, and the record's name in it."""
    if file.parent.name == LIVE:
        return file.parent.parent / f"{LIVE}{packed.SUFFIX}", f"{LIVE}/{file.name}"
    stem = OWN_RULE if file.name.startswith(f"{OWN_RULE}-") else file.stem.partition("-")[0]
    return file.parent / f"{stem}{packed.SUFFIX}", file.name


def pools(root: Path) -> list[Path]:
    """Folders of the pools under a results folder, in a fixed order."""
    if not root.is_dir():
        raise PathpruneError(f"no results folder at {root}; run: {advice.command('bench', pruner='stop')}")
    return sorted({file.parent for suffix in (SUFFIX, packed.SUFFIX) for file in root.rglob(f"{POOL}{suffix}")})


def names(folder: Path, kind: Kind) -> list[str]:
    """Names of a pool's records in a fixed order, packed or not: journals' paths relative to the folder.

    ``kind``: the "pool" itself, what methods "judged" at a prefix length and then by rules of their own, or "live" runs."""
    journals = [f.relative_to(folder) for f in (*folder.glob(f"*{SUFFIX}"), *folder.glob(f"{LIVE}/*{SUFFIX}"))]
    every = {f.as_posix() for f in journals}
    for file in folder.glob(f"*{packed.SUFFIX}"):
        every |= packed.headers(file).keys()
    return sorted((n for n in every if kind_of(n) == kind), key=lambda n: (n.startswith(OWN_RULE), n))


def kind_of(name: str) -> Kind:
    """What a record is by its name."""
    if name.startswith(f"{LIVE}/"):
        return "live"
    return "pool" if name == f"{POOL}{SUFFIX}" else "judged"


def records(folder: Path, kind: Kind) -> Iterator[Record]:
    """The records of a pool's folder, packed or not, in the order of ``names``, each of them ``checked``."""
    return (Record.read(folder / name).checked() for name in names(folder, kind))


def pool_of(folder: Path) -> Record:
    """The record of the pool itself, ``checked``."""
    return Record.read(folder / f"{POOL}{SUFFIX}").checked()


def snapshot_records(file: Path) -> list[Record]:
    """The records of one snapshot, with what journals beside it add to them."""
    if not file.is_file():
        raise PathpruneError(f"cannot read {file} (No such file or directory)")
    return [Record.read(file.parent / name) for name in packed.headers(file)]


def pack(folder: Path, restated: Callable[[Header], Header] = lambda header: header) -> list[Path]:
    """Put the journals of one pool's folder into its snapshots; returns the snapshots that were written.

    ``restated`` may bring headers up to date. A journal goes once its snapshot is durable and if nothing was appended
    meanwhile; a folder without journals, whose headers stay as they are, is not touched."""
    journals = sorted([*folder.glob(f"*{SUFFIX}"), *folder.glob(f"{LIVE}/*{SUFFIX}")])
    before = {file: _bytes(file) for file in journals if _has_line(file)}
    snapshots = {*folder.glob(f"*{packed.SUFFIX}"), *(snapshot_of(file)[0] for file in before)}
    written = []
    for snapshot in sorted(snapshots):
        old = packed.headers(snapshot)
        added = {snapshot_of(file)[1]: file for file in before if snapshot_of(file)[0] == snapshot}
        every = [Record.read(folder / name) for name in sorted({*old, *added})]
        new = [Packed(r.file.relative_to(folder).as_posix(), restated(r.header), [*r.lines.values()]) for r in every]
        if not added and all(old[record.name] == record.header for record in new):
            continue
        packed.write(snapshot, new)
        settled(folder)
        for file in added.values():
            if _bytes(file) == before[file]:
                file.unlink()
        written.append(snapshot)
    live = folder / LIVE
    if live.is_dir() and not any(live.iterdir()):
        live.rmdir()
    return written


MADE_AGAIN = "move it away and run the same bench: what it held is made again from the bank, without sampling"


def remedy(header: Header) -> str:
    """What to do about a damaged record, what is lost with it, and which command makes it again."""
    spec = header.get("spec")
    if not isinstance(spec, dict) or not isinstance(pruner := spec.get("pruner"), str):
        return "move it away and run the same bench: its paths are graded again from the bank, without sampling"
    how = advice.command("bench", pruner=one_line(pruner), **({"live": True} if spec.get("live") else {}))
    what = "timed" if spec.get("live") else "scored"
    return f"move it away, or restore it from where you have it; its problems are {what} again by: {how}"


def shown(file: Path) -> str:
    """Where a record lies: its journal, the snapshot that holds it, or both."""
    snapshot, name = snapshot_of(file)
    packed_here = name in packed.headers(snapshot)
    if _has_line(file):
        return f"{file} (or {snapshot.name})" if packed_here else str(file)
    return f"{snapshot} ({name})" if packed_here else str(file)


def _by_problem(rows: list[Row]) -> dict[str, Row]:
    """Rows by their problem, in order; a later row takes the place of one that says an error.

    Raises:
        ValueError: a row without a problem, or two results for one.
    """
    lines: dict[str, Row] = {}
    for row in rows:
        problem = row.get("problem") if isinstance(row, dict) else None
        if not isinstance(problem, str) or not problem:
            raise ValueError("a row names no problem")
        before = lines.get(problem)
        if (
            before is not None
            and "error" not in before
            and before != row
            and "error" not in row
            and "seconds" not in row
        ):
            raise ValueError(f"it holds two different results for {problem}")
        lines[problem] = row
    return lines


def _bytes(file: Path) -> bytes:
    try:
        return inside(file, file.parent).read_bytes()
    except OSError as error:
        raise unreadable(file, error) from error


def _has_line(file: Path) -> bool:
    """A file without one whole line is what a full disk leaves of a first append: it is started again."""
    try:
        with file.open("rb") as stream:
            return stream.readline().endswith(b"\n")
    except (FileNotFoundError, NotADirectoryError):  # the second is said when it is written to
        return False
    except OSError as error:
        raise unreadable(file, error) from error


def _is_there(file: Path) -> bool:
    snapshot, name = snapshot_of(file)
    return _has_line(file) or name in packed.headers(snapshot)


def _of_spec(file: Path, spec: Mapping[str, Any]) -> Path | None:
    """The journal's path of a record that was made for this very spec under another name, if there is one."""
    snapshot, name = snapshot_of(file)
    stem = name.rpartition("-")[0]
    for other, header in packed.headers(snapshot).items():
        if stem and other.rpartition("-")[0] == stem and header["spec"] == spec:
            return file.with_name(Path(other).name)
    return None


def _journal(file: Path, mend: bool) -> tuple[Header, list[Row]]:
    raw = _bytes(file)
    whole = raw[: raw.rfind(b"\n") + 1]
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            remainder = f"its other {whole.count(NEWLINE) - 1} lines are good; {remedy(_header_in(rows))}"
            raise PathpruneError(f"{file} is damaged at line {number}, which is not JSON; {remainder}") from error
    stated = _header_in(rows)
    if stated.get("format") != FORMAT:
        raise other_format(file, stated.get("format"), FORMAT)
    if not isinstance(stated.get("spec"), dict):
        raise damaged(file, "its header has no spec", MADE_AGAIN)
    if mend and len(whole) < len(raw):
        with file.open("r+b") as stream:
            stream.truncate(len(whole))
    return rows[0], rows[1:]


def _header_in(lines: list[Any]) -> Header:
    """The first line, if it is an object."""
    return lines[0] if lines and isinstance(lines[0], dict) else {}
