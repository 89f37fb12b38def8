"""Records: a header (spec and provenance), then one row per problem.

A running bench appends JSON lines to a journal and makes them durable as problems finish, so an interrupted run loses at
most the line it was writing, and the same command continues. ``pack`` turns the journals of a pool's folder into snapshots
(``harness.store.packed``). Readers see both as one record; rows of a journal take precedence.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from harness import advice
from harness.api import PathpruneError
from harness.store import packed, validate
from harness.store.blame import damaged, other_format, unreadable
from harness.store.files import refused, settled, writable
from harness.store.locks import writing
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


class Read(NamedTuple):
    """The position up to which a record has been read."""

    inode: int | None  # of its journal; None if there is none
    end: int  # bytes of the journal's whole lines
    snapshot: tuple[int, ...] | None


class Record:
    """One record. ``lines`` holds its rows by problem id; ``file`` is its journal, which need not exist.

    Several processes may use the same record: each appends the rows that the others have not.
    """

    def __init__(self, file: Path, header: Header, lines: dict[str, Row], read: Read | None = None) -> None:
        self.file, self.header, self.lines = file, header, lines
        self._read = read

    @classmethod
    def open(cls, file: Path, spec: Mapping[str, Any], **about: Any) -> Record:
        """Continue a record, or start one. The header, which includes ``about``, is written with the first line.

        A record is identified by its spec, not by its name: an existing one with the same spec and method is continued
        under its own name.

        Raises:
            PathpruneError: the record of this name has another spec.
        """
        wanted = json.loads(json.dumps(spec))
        file = file if _is_there(file) else _of_spec(file, wanted) or file
        if _is_there(file):
            record = cls.read(file)
            record._same_spec(wanted)
            return record
        return cls(file, {"format": FORMAT, "spec": dict(spec), **about, "provenance": provenance()}, {})

    @classmethod
    def read(cls, file: Path) -> Record:
        """Load a record by its journal's path, from the journal, the snapshot or both.

        An incomplete last line, left by a killed run, is ignored. A method's record always has ``header["role"]``.

        Raises:
            PathpruneError: the record is unreadable or damaged.
        """
        # File states are read before contents, and the journal first: packing writes the snapshot before removing the journal.
        inode = _inode(file)
        added, more, end = _journal(file) if _has_line(file) else ({}, [], 0)
        snapshot, name = snapshot_of(file)
        so_far = Read(inode, end, _state(snapshot))
        header = packed.headers(snapshot).get(name)
        rows = packed.rows(snapshot, name) if header else []
        if header and added and original(header) != original(added):
            raise PathpruneError(f"{file} and {snapshot} have different specs under one name; move one of them away")
        if not header and not added:
            _journal(file)  # raises the specific error
        header, rows = header or added, rows + more
        try:
            role = role_of(header)
            return cls(file, header if role is None else header | {"role": role}, _by_problem(rows), so_far)
        except (KeyError, TypeError) as error:
            raise damaged(shown(file), f"its header has no {error}", MADE_AGAIN) from error
        except ValueError as error:
            raise damaged(shown(file), str(error), MADE_AGAIN) from error

    def checked(self) -> Record:
        """The record itself, after validating its header and every row.

        Raises:
            PathpruneError: a field is missing or wrong; names the file, the problem and the remedy.
        """
        try:
            validate.header(self.header)
            validate.rows(self.header, self.lines)
        except validate.FlawError as flaw:
            raise damaged(shown(self.file), str(flaw), remedy(self.header)) from flaw
        return self

    def append(self, rows: Sequence[Row], agree: Callable[[Row, Row], None] = lambda known, row: None) -> None:
        """Append rows and make them durable. For existing problems, only rows with an error are replaced.

        Args:
            rows: one per problem.
            agree: called with the existing and the new row of a problem that has both; raises if they contradict.

        Raises:
            PathpruneError: the disk refuses the write; no partial row remains.
        """
        if not rows:
            return
        texts = {row["problem"]: json.dumps(row, separators=(",", ":")) + "\n" for row in rows}
        header = json.dumps(self.header) + "\n"
        with writing(snapshot_of(self.file)[0].parent):
            self.refresh()
            for row in rows:
                agree(self.lines.get(row["problem"], row), row)
            known = self.lines
            new = {p: row for row in rows if lacks(known, p := row["problem"]) and known.get(p) != row}
            if new:
                _extend(self.file, header, "".join(texts[problem] for problem in new))
                self.refresh()

    def refresh(self) -> None:
        """Read the rows that other processes have appended since."""
        if not _is_there(self.file):
            return
        if (
            self._read
            and self._read.snapshot == _state(snapshot_of(self.file)[0])
            and self._read.inode == _inode(self.file)
        ):
            rows, self._read = _appended(self.file, self._read)
            self.lines |= {row["problem"]: row for row in rows}
            return
        there = Record.read(self.file)
        there._same_spec(json.loads(json.dumps(self.header["spec"])))
        self.header, self.lines, self._read = there.header, there.lines, there._read

    def _same_spec(self, wanted: Mapping[str, Any]) -> None:
        if self.header["spec"] != wanted:
            raise PathpruneError(f"{self.file} was written for another spec; move it away and run again")


def lacks(lines: Mapping[str, Row], problem: str) -> bool:
    """Whether a problem has no result yet; one that failed has none."""
    return "error" in lines.get(problem, {"error": "not done yet"})


def original(header: Header) -> dict[str, Any]:
    """The spec with which a record was started, and which determined its name; ``was`` holds the values changed since."""
    return {**header["spec"], **header.get("was", {})}


def snapshot_of(file: Path) -> tuple[Path, str]:
    """The snapshot into which a journal is packed, and the record's name in it."""
    if file.parent.name == LIVE:
        return file.parent.parent / f"{LIVE}{packed.SUFFIX}", f"{LIVE}/{file.name}"
    stem = OWN_RULE if file.name.startswith(f"{OWN_RULE}-") else file.stem.partition("-")[0]
    return file.parent / f"{stem}{packed.SUFFIX}", file.name


def pools(root: Path) -> list[Path]:
    """Folders of the pools in a results folder, in a fixed order.

    Raises:
        PathpruneError: there is no such folder, or it cannot be read.
    """
    if not root.is_dir():
        raise PathpruneError(f"no results folder at {root}; run: {advice.command('bench', pruner='stop')}")
    folders = set()
    for folder, _, files in os.walk(root, onerror=_refuse_folder):
        journal = Path(folder) / f"{POOL}{SUFFIX}"
        if f"{POOL}{packed.SUFFIX}" in files or (journal.name in files and _has_line(journal)):
            folders.add(journal.parent)
    return sorted(folders)


def _refuse_folder(error: OSError) -> None:
    raise unreadable(Path(str(error.filename)), error)


def names(folder: Path, kind: Kind) -> list[str]:
    """Names of a pool's records, packed or not, in a fixed order: the journals' paths relative to the folder.

    ``kind``: the "pool" itself; "judged", the records of methods by prefix length, then those of decision rules; or "live".
    """
    journals = [f for f in (*folder.glob(f"*{SUFFIX}"), *folder.glob(f"{LIVE}/*{SUFFIX}")) if _has_line(f)]
    every = {f.relative_to(folder).as_posix() for f in journals}
    for file in folder.glob(f"*{packed.SUFFIX}"):
        every |= packed.headers(file).keys()
    return sorted((n for n in every if kind_of(n) == kind), key=lambda n: (n.startswith(OWN_RULE), n))


def kind_of(name: str) -> Kind:
    """The kind of a record, from its name."""
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
    """The records of one snapshot, including rows from their journals."""
    if not file.is_file():
        raise PathpruneError(f"cannot read {file} (No such file or directory)")
    return [Record.read(file.parent / name) for name in packed.headers(file)]


def copy(folder: Path, out: Path, specs: Sequence[Mapping[str, Any]]) -> None:
    """Copy the pool's record and the methods' records with these specs, as snapshots, into another folder."""
    wanted = [record for record in records(folder, "judged") if record.header["spec"] in specs]
    by_file: dict[str, list[Packed]] = {}
    for record in (pool_of(folder), *wanted):
        snapshot, name = snapshot_of(record.file)
        by_file.setdefault(snapshot.name, []).append(Packed(name, record.header, [*record.lines.values()]))
    for file, packets in by_file.items():
        packed.write(out / file, packets)


def pack(
    folder: Path,
    restated: Callable[[Header], Header] = lambda header: header,
    keeps: Callable[[Header], bool] = lambda header: True,
) -> list[Path]:
    """Pack the journals of a pool's folder into its snapshots; returns the snapshots that were written.

    ``restated`` may update headers; records whose header ``keeps`` rejects are dropped. A journal is removed once its
    snapshot is durable; the folder is locked meanwhile. A folder without journals and header changes is not touched.
    """
    with writing(folder):
        journals = [f for f in (*folder.glob(f"*{SUFFIX}"), *folder.glob(f"{LIVE}/*{SUFFIX}")) if _has_line(f)]
        snapshots = {*folder.glob(f"*{packed.SUFFIX}"), *(snapshot_of(file)[0] for file in journals)}
        written = [snapshot for snapshot in sorted(snapshots) if _pack(folder, snapshot, journals, restated, keeps)]
        with suppress(OSError):  # it is not empty, or does not exist
            (folder / LIVE).rmdir()
    return written


def _pack(
    folder: Path,
    snapshot: Path,
    journals: Sequence[Path],
    restated: Callable[[Header], Header],
    keeps: Callable[[Header], bool],
) -> bool:
    """Update one snapshot; returns whether anything changed."""
    old = packed.headers(snapshot)
    added = {snapshot_of(file)[1]: file for file in journals if snapshot_of(file)[0] == snapshot}
    every = [Record.read(folder / name) for name in sorted({*old, *added})]
    new = [
        Packed(r.file.relative_to(folder).as_posix(), restated(r.header), [*r.lines.values()])
        for r in every
        if keeps(r.header)
    ]
    if not added and len(new) == len(every) and all(old[record.name] == record.header for record in new):
        return False
    if new:
        packed.write(snapshot, new)
    else:
        snapshot.unlink(missing_ok=True)
    settled(folder)
    for file in added.values():
        file.unlink()
    return True


MADE_AGAIN = "move it away and run the same bench: its contents are computed again from the bank, without sampling"


def remedy(header: Header) -> str:
    """The remedy for a damaged record: what is lost, and which command creates it again."""
    spec = header.get("spec")
    if not isinstance(spec, dict) or not isinstance(pruner := spec.get("pruner"), str):
        return "move it away and run the same bench: its paths are graded again from the bank, without sampling"
    how = advice.command("bench", pruner=one_line(pruner), **({"live": True} if spec.get("live") else {}))
    what = "timed" if spec.get("live") else "scored"
    return f"move it away, or restore it from where you have it; its problems are {what} again by: {how}"


def shown(file: Path) -> str:
    """The location of a record for messages: its journal, its snapshot, or both."""
    snapshot, name = snapshot_of(file)
    packed_here = name in packed.headers(snapshot)
    if _has_line(file):
        return f"{file} (or {snapshot.name})" if packed_here else str(file)
    return f"{snapshot} ({name})" if packed_here else str(file)


def _by_problem(rows: list[Row]) -> dict[str, Row]:
    """Rows by problem id, in order; a later row replaces an earlier one with an error.

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
    """Whether a journal has at least one complete line; one without, left by a full disk, is started again."""
    try:
        if not stat.S_ISREG(mode := file.stat().st_mode) and not stat.S_ISDIR(mode):
            raise PathpruneError(f"{file} is not a regular file; move it out of this folder")
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
    """The journal's path of an existing record with this spec under another name, or None."""
    snapshot, name = snapshot_of(file)
    stem = name.rpartition("-")[0]
    for other, header in packed.headers(snapshot).items():
        if stem and other.rpartition("-")[0] == stem and header["spec"] == spec:
            return file.with_name(Path(other).name)
    return None


def _journal(file: Path) -> tuple[Header, list[Row], int]:
    """(header, rows, length of both in bytes) of a journal."""
    rows, end = _rows(file, 0, _bytes(file))
    header = _header_in(rows)
    if header.get("format") != FORMAT:
        raise other_format(file, header.get("format"), FORMAT)
    if not isinstance(header.get("spec"), dict):
        raise damaged(file, "its header has no spec", MADE_AGAIN)
    return header, rows[1:], end


def _appended(file: Path, so_far: Read) -> tuple[list[Row], Read]:
    """The rows of a journal after those that were read."""
    if so_far.inode is None:
        return [], so_far
    with file.open("rb") as stream:
        stream.seek(so_far.end)
        rows, end = _rows(file, so_far.end, stream.read())
    return rows, so_far._replace(end=so_far.end + end)


def _rows(file: Path, start: int, raw: bytes) -> tuple[list[Any], int]:
    """The complete lines in ``raw``, a part of a journal from byte ``start`` on, and their length in bytes."""
    whole = raw[: raw.rfind(b"\n") + 1]
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError) as error:
            remainder = f"its other {whole.count(NEWLINE) - 1} lines are good; {remedy(_header_in(rows))}"
            at = f"line {number}" + (f" behind byte {start:,}" if start else "")
            raise PathpruneError(f"{file} is damaged at {at}, which is not JSON; {remainder}") from error
    return rows, len(whole)


def _header_in(lines: list[Any]) -> Header:
    """The first line, if it is an object."""
    return lines[0] if lines and isinstance(lines[0], dict) else {}


def _extend(file: Path, header: str, text: str) -> None:
    """Append lines to a journal, after its header; an incomplete line of a killed writer is removed first.

    Call it only while holding ``writing``.
    """
    if not _has_line(file):
        with writable(file) as part:
            part.write_text(header + text, encoding="utf-8")
        settled(file.parent)
        return
    try:
        with file.open("r+b") as stream:
            whole = stream.seek(_whole(stream))
            stream.truncate()
            try:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
            except OSError:
                with suppress(OSError):
                    os.truncate(file, whole)
                raise
    except OSError as error:
        raise refused(file, error) from error


def _whole(stream: BinaryIO) -> int:
    """Number of bytes up to the end of the last complete line."""
    end = stream.seek(0, os.SEEK_END)
    block = 1 << 16
    while end:
        start = max(0, end - block)
        stream.seek(start)
        if (at := stream.read(end - start).rfind(b"\n")) >= 0:
            return start + at + 1
        end = start
    return 0


def _state(file: Path) -> tuple[int, ...] | None:
    """A value that changes whenever a file is rewritten; None if there is no file."""
    try:
        state = file.stat()
    except OSError:
        return None
    return state.st_ino, state.st_size, state.st_mtime_ns


def _inode(file: Path) -> int | None:
    state = _state(file)
    return state[0] if state else None
