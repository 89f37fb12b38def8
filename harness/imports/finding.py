"""From names to files of rows: a file, all files in a folder, or those of a data set on the Hub."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from harness.api import PathpruneError
from harness.imports.files import KINDS, PACKED, Source, natural
from harness.public import private
from harness.text import shown, unknown

HUB = "hf://"


def sources(files: Sequence[Path | str]) -> list[Source]:
    """The named files, those in named folders, and those of Hub data sets.

    Raises:
        PathpruneError: a missing file, or an unsupported kind.
    """
    named = [files] if isinstance(files, str | Path) else list(files)
    if not named:
        raise PathpruneError("no file of paths is named")
    every = [source for given in named for source in _sources(given)]
    twice = next((s.name for i, s in enumerate(every) if s.path in [t.path for t in every[:i]]), None)
    if twice:
        raise PathpruneError(f"{twice} is named twice; its paths would be counted twice")
    return every


def _sources(given: Path | str) -> list[Source]:
    if str(given).startswith(HUB):
        return _of_hub(str(given))
    try:
        path = Path(given).expanduser()
        if path.is_dir():
            return _of_folder(path, str(given))
        known = path.is_file()
    except (OSError, ValueError, RuntimeError) as error:  # a name that no file has
        raise PathpruneError(f"no file of paths at {shown(given)} ({type(error).__name__})") from error
    if not known and path.exists():
        raise PathpruneError(f"{given} is a device or a pipe, which cannot be read twice; write it to a file")
    if not known and path.is_symlink():
        raise PathpruneError(f"{given} is a broken link to {shown(str(path.readlink()))}")
    if not known:
        beside = [p.name for p in path.parent.glob("*")] if path.parent.is_dir() else []
        near = get_close_matches(path.name, beside, 1)
        raise PathpruneError(
            f"no file of paths at {given}" + (f"; did you mean {path.with_name(near[0])}?" if near else "")
        )
    return [_source(path, private(str(given)))]


def _source(path: Path, name: str) -> Source:
    suffix = path.suffix.lower()
    packing = PACKED.get(suffix)
    kind = Path(path.stem).suffix.lower() if packing else suffix
    if kind not in KINDS:
        raise PathpruneError(f"{name}: {unknown('kind of file', kind or suffix or path.name, [*KINDS, *PACKED])}")
    if packing and kind in (".parquet", ".eval"):
        raise PathpruneError(
            f"{name}: a {kind} file is already compressed internally; unpack it: {_unpacks(packing)} {name}"
        )
    return Source(path, name, kind, packing)


def _unpacks(packing: str) -> str:
    return "gunzip" if packing == "gzip" else "unzstd"


def _of_folder(folder: Path, name: str) -> list[Source]:
    """All files of rows in a folder, sorted by name; in an lm-eval output folder, only its samples."""
    inside = [p for p in folder.rglob("*") if not any(q.startswith(".") for q in p.relative_to(folder).parts)]
    for link in (p for p in inside if p.is_symlink()):
        _check_link(link, folder)
    paths = [p for p in inside if p.is_file() and _kind(p) in KINDS]
    samples = [p for p in paths if p.name.startswith("samples_")]
    found = [_source(p, private(str(p))) for p in sorted(samples or paths, key=lambda p: natural(str(p)))]
    if not found:
        raise PathpruneError(
            f"no file of paths in the folder {name}; supported are {', '.join(KINDS)}, also as .gz or .zst"
        )
    kinds = sorted({s.kind for s in found})
    if len(kinds) > 1:
        raise PathpruneError(f"{name} contains files of several kinds ({', '.join(kinds)}); name those with the paths")
    return found


def _check_link(link: Path, folder: Path) -> None:
    """Refuse a link whose paths would be skipped silently; a link back into the folder adds nothing and is ignored."""
    if not link.exists() and _kind(link) in KINDS:
        raise PathpruneError(f"{link} is a broken link to {shown(str(link.readlink()))}; fix it, or move it away")
    if link.is_dir():
        target, root = link.resolve(), folder.resolve()
        if not (target.is_relative_to(root) or root.is_relative_to(target)):
            raise PathpruneError(
                f"{link} links to a folder, which is not followed; name {target} too, or move the link away"
            )


def _kind(path: Path) -> str:
    return (Path(path.stem).suffix if path.suffix in PACKED else path.suffix).lower()


def _of_hub(address: str) -> list[Source]:
    """The files of ``hf://owner/name[@revision][/folder or file]``, downloaded unless cached."""
    from harness.hub import pull_data

    owner, _, rest = address.removeprefix(HUB).partition("/")
    name, _, inside = rest.partition("/")
    if not owner or not name:
        raise PathpruneError(f"{address} is not the address of a Hub data set: hf://owner/name")
    patterns = [f"{inside}*"] if inside else [f"*{kind}{packed}" for kind in KINDS for packed in ("", *PACKED)]
    folder = pull_data(f"{HUB}{owner}/{name}", patterns)
    inner = folder / inside
    found = [_source(inner, "")] if inner.is_file() else _of_folder(inner, address) if inner.is_dir() else []
    if not found:
        raise PathpruneError(f"{address}: the data set has no such file or folder")
    return [
        Source(s.path, f"{HUB}{owner}/{name}/{s.path.relative_to(folder).as_posix()}", s.kind, s.packing) for s in found
    ]
