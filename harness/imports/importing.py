"""From problems as files tell them to a pool's folder: what each path has is checked, graded and stored, a problem at a time."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path as FilePath
from typing import Any, Literal, get_args

import numpy as np
import pyarrow.parquet as pq

from harness.api import STATISTICS, PathpruneError, UnavailableError
from harness.grading import tried
from harness.imports import measure
from harness.imports.pool import CARD, DISAGREEMENTS, FORMAT, PATHS, PROBLEMS, TOKENS, WORDS, Pool, tokens_of, word_ends
from harness.imports.rows import ImportedPath, ImportedProblem
from harness.imports.schema import StoredPath, content_digest, table
from harness.store.files import settled, writable
from harness.store.keys import digest
from harness.store.locks import sole
from harness.store.names import file_name, is_file_name
from harness.store.provenance import provenance
from harness.text import is_utf8, shown, unfit, unknown

Grades = Literal["given", "ours", "both"]
Progress = Callable[[int, int, str], None]
ENTRY = b"pathprune.entry"
STATED = "importing.json"
MEASURED = "measured"  # the unit of texts that a tokenizer counted
MOST_PATHS = 2**20
LARGEST = float(np.finfo(np.float16).max)
SILENT: Progress = lambda done, total, note: None  # noqa: E731


@dataclass(frozen=True)
class Wanted:
    """What an import was asked for; ``key`` tells whether an interrupted one goes on.

    Args:
        grades: "given" takes the file's grades, "ours" reads and judges the texts, "both" takes the file's and counts where
            ours differ. None: "both" where every path has a grade in the file, else "ours".
        tokenizer: counts and cuts texts whose tokens nobody recorded, or decodes ids.
        parameters: of the model that sampled, active ones, for FLOPs.
    """

    files: tuple[str, ...]
    mapping: Mapping[str, str] = field(default_factory=dict)
    shape: str | None = None
    grades: Grades | None = None
    tokenizer: str | None = None
    parameters: float | None = None
    skip_bad: bool = False

    def __post_init__(self) -> None:
        if self.grades is not None and self.grades not in get_args(Grades):
            raise PathpruneError(unknown("grades", shown(self.grades), list(get_args(Grades))))
        if self.parameters is not None and not (
            isinstance(self.parameters, int | float) and 1 <= self.parameters <= 1e15
        ):
            raise PathpruneError(f"parameters is a number from 1 to 1e15, not {shown(self.parameters)}")

    @property
    def key(self) -> str:
        """Changes with the options, and whenever one of the files does."""
        return digest(
            {
                "format": FORMAT,
                "files": [_state(f) for f in self.files],
                **{k: v for k, v in vars(self).items() if k != "files"},
            }
        )


def _state(file: str) -> list[Any]:
    path = FilePath(file)
    inside = sorted(f for f in path.rglob("*") if f.is_file()) if path.is_dir() else [path]
    return [file, [[str(f), f.stat().st_size, f.stat().st_mtime_ns] for f in inside if f.exists()]]


def import_files(wanted: Wanted, name: str, pools: FilePath, progress: Progress = SILENT) -> Pool:
    """The pool of these files, which is written unless it is there already.

    Raises:
        PathpruneError: a file that cannot be read or graded, with its row; another pool of this name.
    """
    if not is_file_name(name) or name.startswith("."):
        raise PathpruneError(f"a pool's name is one word that may be a folder's, not {shown(name)}")
    folder, key = pools / name, wanted.key
    with sole(folder, "importing"):
        if folder.exists():
            known = Pool.open(folder)
            if known.about.get("key") != key:
                raise PathpruneError(
                    f"{folder} is another pool, of other files or options; choose another name, or move it away"
                )
            return known
        reading = open_reading(wanted)
        draft = Draft(pools / f".{name}.importing", wanted, key, getattr(reading, "about", {}))
        draft.fill(reading, progress)
        draft.publish(reading, name, folder)
    return Pool.open(folder)


def open_reading(wanted: Wanted) -> Any:
    """The problems of some files, lazily: our own export, or whatever the readers of known shapes take."""
    from harness.imports.shapes import pathprune_pool

    for file in wanted.files:
        if "://" not in file and not FilePath(file).expanduser().exists():
            raise PathpruneError(f"no file or folder at {file}; name what holds the paths")
    if wanted.shape in (None, pathprune_pool.NAME) and pathprune_pool.is_ours(wanted.files):
        return pathprune_pool.Reading(wanted.files)
    return import_module("harness.imports").read(
        wanted.files, wanted.mapping, shape=wanted.shape, skip_bad=wanted.skip_bad
    )


class Draft:
    """A pool's folder while it is written, under a hidden name."""

    def __init__(self, folder: FilePath, wanted: Wanted, key: str, about: Mapping[str, Any]) -> None:
        self.folder, self.wanted, self.key, self.about = folder, wanted, key, about
        stated = folder / STATED
        if folder.exists() and not (stated.is_file() and stated.read_text() == key):
            shutil.rmtree(folder)
        with writable(stated) as part:
            part.write_text(key)
        self.entries: list[dict[str, Any]] = []
        self.skipped: list[str] = []
        self._places: dict[str, str] = {}

    def fill(self, problems: Iterable[ImportedProblem], progress: Progress) -> None:
        """Write the problems that are not there yet."""
        measure_text = measure.ends_by(self.wanted.tokenizer) if self.wanted.tokenizer else None
        decode = measure.decoder_by(self.wanted.tokenizer) if self.wanted.tokenizer else None
        work = Work(self.wanted, self.about, measure_text, decode)
        paths = number = 0
        for number, problem in enumerate(problems, 1):
            try:
                self.entries.append(self._entry(problem, number, work))
            except UnavailableError:
                raise
            except PathpruneError as error:
                if not self.wanted.skip_bad:
                    raise
                self.skipped.append(str(error))
                continue
            paths += self.entries[-1]["paths"]
            done, total = getattr(problems, "bytes_read", number), getattr(problems, "bytes", number)
            progress(done, total, f"{len(self.entries):,} problems, {paths:,} paths")

        whole = getattr(problems, "bytes", number)
        progress(whole, whole, f"{len(self.entries):,} problems, {paths:,} paths")

    def publish(self, reading: Any, name: str, folder: FilePath) -> None:
        """Say what the pool is, and give it its name.

        Raises:
            PathpruneError: nothing was read, or nothing that all paths are counted in.
        """
        if not self.entries:
            raise PathpruneError(
                f"{', '.join(self.wanted.files)}: no problem with paths was read" + _first(self.skipped)
            )
        disagreements = [d for e in self.entries for d in e.pop("disagreements")]
        card = self._card(reading, name, len(disagreements))
        lines = [{k: e[k] for k in ("id", "prompt", "golds", "file", "paths", "prompt_tokens")} for e in self.entries]
        _write_lines(self.folder / PROBLEMS, lines)
        _write_lines(self.folder / DISAGREEMENTS, disagreements)
        with writable(self.folder / CARD) as part:
            part.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        (self.folder / STATED).unlink()
        listed = {e["file"] for e in self.entries}
        for left in (self.folder / PATHS).iterdir():
            if left.name not in listed:
                left.unlink()
        self.folder.rename(folder)
        settled(folder.parent)

    def _entry(self, problem: ImportedProblem, number: int, work: Work) -> dict[str, Any]:
        name = self._name(problem, number)
        file = self.folder / PATHS / f"{file_name(name)}.parquet"
        if (known := _entry_in(file)) is not None:
            return known
        rows, entry = work.rows(problem, name)
        entry |= {"file": file.name, "sha256": content_digest(rows)}
        with writable(file) as part:
            schema = {ENTRY: json.dumps(entry).encode()}
            pq.write_table(rows.replace_schema_metadata(schema), part, compression="zstd")
        return entry

    def _name(self, problem: ImportedProblem, number: int) -> str:
        name = (
            f"problem-{number:05d}" if problem.id is None else problem.id.strip().replace("/", "_").replace("\\", "_")
        )
        if why := unfit(name):
            raise PathpruneError(f"{problem.where}: the problem's id {why}; it names a file: rename it")
        if name in self._places:
            raise PathpruneError(
                f"{problem.where}: problem {shown(name)} stands at {self._places[name]} too; give all of its paths one id"
            )
        self._places[name] = problem.where
        return name

    def _card(self, reading: Any, name: str, disagreements: int) -> dict[str, Any]:
        entries = self.entries
        paths = sum(e["paths"] for e in entries)
        counts: Counter[str] = Counter()
        for entry in entries:
            counts.update(entry["counts"])
        signals = {k: counts[k] for k in ("text", "tokens", *STATISTICS, "probes", "rewards")}
        units = {unit for e in entries for unit in e["units"]}
        if len(units) > 1:
            raise PathpruneError(
                f"some paths have a length in tokens and some have not ({counts['without_length']} of {paths}): give a tokenizer, "
                "which counts them all, or import the two kinds apart"
            )
        unit = units.pop()
        length = sum(e["length"] for e in entries)
        exact = counts["ends"] == paths
        by_rate = bool(counts["text"]) and not exact
        graded = {e["grades"] for e in entries}
        stated = getattr(reading, "sources", [])
        skipped = [*getattr(reading, "skipped", []), *self.skipped]
        return {
            "format": FORMAT,
            "name": name,
            "digest": digest({"problems": [[e["id"], e["sha256"]] for e in entries], "grader": work_grader(self.about, entries)}, 64),
            "key": self.key,
            "shape": getattr(reading, "shape", None),
            "mapping": dict(getattr(reading, "mapping", self.wanted.mapping)),
            "sources": [{**s, "file": _public(s["file"])} for s in stated],
            "problems": len(entries),
            "paths": paths,
            "n": {"min": min(e["paths"] for e in entries), "max": max(e["paths"] for e in entries)},
            "unit": self.about.get("unit") or (unit if unit != MEASURED else tokens_of(str(self.wanted.tokenizer))),
            "tokenizer": FilePath(self.wanted.tokenizer).name if self.wanted.tokenizer else self.about.get("tokenizer"),
            "text_by": "rate" if by_rate else "offsets" if counts["text"] else None,
            "rate": counts["characters"] / max(1, length) if by_rate else None,
            "lengths": {"mean": length / paths, "max": max(e["longest"] for e in entries)},
            "words": {"mean": sum(e["words"] for e in entries) / paths, "max": max(e["most_words"] for e in entries)},
            "signals": signals,
            "grades": graded.pop() if len(graded) == 1 else "mixed",
            "grader": work_grader(self.about, entries),
            "disagreements": disagreements,
            "flops": self._flops(),
            "parameters": self.wanted.parameters,
            **{k: counts[k] for k in ("truncated", "unknown_finish", "unanswered", "duplicates", "empty")},
            "skipped": skipped,
            "provenance": provenance(),
        }  # fmt: skip

    def _flops(self) -> dict[str, float] | None:
        if self.wanted.parameters:
            return {"per_token": 2 * float(self.wanted.parameters), "attention": 0.0}
        stated: dict[str, float] | None = self.about.get("flops")
        return stated


def work_grader(about: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The grader that reads texts of prefixes: the one that our own export names, else the one of most problems."""
    if about.get("grader"):
        return dict(about["grader"])
    letters = Counter(e["letters"] for e in entries)
    most = max((k for k in letters if k), default="")
    return {"letters": most if sum(letters[k] for k in letters if k) > len(entries) / 2 else ""}


@dataclass(frozen=True)
class Work:
    """What is done to each problem: paths held to what they say of themselves, counted, and graded."""

    wanted: Wanted
    about: Mapping[str, Any]
    measure_text: Callable[[str], np.ndarray] | None
    decode: Callable[[Sequence[int]], str] | None

    def rows(self, problem: ImportedProblem, name: str) -> tuple[Any, dict[str, Any]]:
        """The problem's rows, and what is known of it."""
        from tasks.imported import letters_of

        if not 1 <= len(problem.paths) <= MOST_PATHS:
            raise PathpruneError(
                f"{problem.where}: the problem has {len(problem.paths)} paths, and needs 1 to {MOST_PATHS:,}"
            )
        golds = tuple(g.strip() for g in problem.golds if g.strip())
        letters = letters_of(golds)
        counts: Counter[str] = Counter(paths=len(problem.paths))
        grading = self._grading(problem, golds, letters)
        stored, units, disagreements = [], set(), []
        for index, path in enumerate(problem.paths):
            where = f"{problem.where}, path {index}"
            held, unit = self._held(path, where)
            units.add(unit)
            answer, right, other = grading(path, held.text, where)
            stored.append(replace(held, answer=answer, correct=right))
            _count(counts, path, stored[-1])
            if other is not None:
                disagreements.append(
                    {"problem": name, "index": index, "golds": golds, "given": [answer, right], "ours": list(other)}
                )
        counts["duplicates"] = _duplicates(stored)
        lengths, words = [p.length for p in stored], [len(word_ends(p.text or "")) for p in stored]
        entry = {
            "id": name, "prompt": problem.prompt, "golds": golds, "paths": len(stored), "prompt_tokens": problem.prompt_tokens,
            "counts": dict(counts), "units": sorted(units), "length": sum(lengths), "longest": max(lengths), "words": sum(words),
            "most_words": max(words), "letters": letters, "grades": self._mode(problem), "disagreements": disagreements,
        }  # fmt: skip
        return table(name, problem.prompt, golds, problem.prompt_tokens, stored), entry

    def _mode(self, problem: ImportedProblem) -> str:
        if self.wanted.grades is not None:
            return self.wanted.grades
        if self.about:  # our own export: its answers are canonical already
            return "given"
        return "both" if all(_has_grade(p) for p in problem.paths) else "ours"

    def _grading(self, problem: ImportedProblem, golds: tuple[str, ...], letters: str) -> Callable[..., Any]:
        """A function from a path to (answer, is it right, our judgement where it differs)."""
        from tasks.imported import Answers, grader_of

        mode = self._mode(problem)
        grader = grader_of(self.about["grader"]) if self.about.get("grader") else Answers(letters)
        verbatim = bool(self.about)

        def graded(
            path: ImportedPath, text: str | None, where: str
        ) -> tuple[str | None, bool, tuple[str | None, bool] | None]:
            theirs = _theirs(path, golds, grader, verbatim, where) if mode != "ours" else None
            if mode == "given":
                assert theirs is not None
                return (*theirs, None)
            ours = _ours(path, text, golds, grader, where, mode)
            if theirs is None:
                return (*ours, None) if ours is not None else (None, False, None)
            return (*theirs, ours if ours is not None and ours[1] != theirs[1] else None)

        return graded

    def _held(self, path: ImportedPath, where: str) -> tuple[StoredPath, str]:
        """The path with its length and where its tokens end, held to each other; and what it is counted in."""
        text = path.text
        if text is not None and not is_utf8(text):
            raise PathpruneError(f"{where}: its text holds half a surrogate pair, which is no text")
        ids = _ids(path.tokens, where)
        if text is None and ids is not None and self.decode is not None:
            text = self.decode(ids.tolist())
        statistics = {name: _numbers(name, values, where) for name, values in path.statistics.items()}
        told = {"token ids": ids, "pieces": path.pieces, **statistics}
        lengths = {what: len(values) for what, values in told.items() if values is not None}
        if path.length is not None:
            lengths["tokens by its length"] = path.length
        if len(set(lengths.values())) > 1:
            (one, a), (two, b) = sorted(lengths.items(), key=lambda item: item[1])[:: max(1, len(lengths) - 1)][:2]
            raise PathpruneError(f"{where}: it has {b} {two} and {a} {one}; a path has one of each per token")
        length = next(iter(lengths.values()), None)
        ends, unit = self._ends(path, text, ids, length)
        if length is None:
            if ends is None:
                raise PathpruneError(
                    f"{where}: neither its text nor its length is there; map one: --map text=FIELD or length=FIELD"
                )
            length = len(ends)
        if not 0 <= length < 2**31:
            raise PathpruneError(f"{where}: its length is {length}")
        return StoredPath(
            text, ids, length, path.finish, None, False, ends, statistics, path.probes, _rewards(path, where)
        ), unit

    def _ends(
        self, path: ImportedPath, text: str | None, ids: np.ndarray | None, length: int | None
    ) -> tuple[np.ndarray | None, str]:
        """Where each token ends in the text, None where nobody can tell, and the unit that they are."""
        if length is None:
            if text is None:
                return None, TOKENS
            return (self.measure_text(text), MEASURED) if self.measure_text else (word_ends(text), WORDS)
        if text is None:
            return None, TOKENS
        if path.ends is not None:
            return np.asarray(path.ends, np.int32), TOKENS
        if path.pieces is not None:
            return measure.ends_of_pieces(path.pieces, text), TOKENS
        if ids is not None and self.decode is not None:
            return measure.ends_of_ids(ids.tolist(), text, self.decode), TOKENS
        if self.measure_text is not None and len(measured := self.measure_text(text)) == length:
            return measured, TOKENS
        return None, TOKENS


def _has_grade(path: ImportedPath) -> bool:
    return path.correct is not None


def _theirs(
    path: ImportedPath, golds: Sequence[str], grader: Any, verbatim: bool, where: str
) -> tuple[str | None, bool]:
    """What the file says a path answers, in canonical form, and whether it is right."""
    from tasks.imported import RIGHT

    if path.correct is None:
        raise PathpruneError(
            f"{where}: it has no grade, and grades=given takes the file's; map one: --map correct=FIELD, or --grades ours"
        )
    answer = path.answer or None
    if not verbatim:
        answer = _canonical(path, grader)
        if answer is None and path.correct:
            answer = _canonical_text(golds[0], grader) if golds else RIGHT
    return answer, path.correct and answer is not None


def _canonical(path: ImportedPath, grader: Any) -> str | None:
    """The answer that is stated, or else the one that the text gives."""

    if path.answer is not None:
        return _canonical_text(path.answer, grader) if path.answer.strip() else None
    return None if path.text is None else _read(grader, path.text)


def _canonical_text(answer: str, grader: Any) -> str:
    from tasks.answers import canonical
    from tasks.imported import Answers

    if not isinstance(grader, Answers):
        return answer
    if grader.letters:
        return grader.answer(f"\\boxed{{{answer}}}") or canonical(answer)
    return canonical(answer)


def _ours(
    path: ImportedPath, text: str | None, golds: Sequence[str], grader: Any, where: str, mode: str
) -> tuple[str | None, bool] | None:
    """What we read in a path and how we judge it; None where it cannot be judged and need not be."""

    if not golds:
        if mode == "both":
            return None
        raise PathpruneError(
            f"{where}: the problem has no gold answer and the path no grade; map one: --map gold=FIELD or correct=FIELD"
        )
    if path.finish == "length" and not (text is not None and grader.ended(text)):
        return None, False
    answer = _read(grader, text) if text is not None else _canonical(path, grader)
    if answer is None and text is None and path.answer is None and mode != "both":
        raise PathpruneError(
            f"{where}: it has neither text nor answer to grade; map one: --map text=FIELD or answer=FIELD"
        )
    return answer, answer is not None and _is_right(grader, answer, golds)


def _read(grader: Any, text: str) -> str | None:
    answer: str | None = tried(lambda: grader.answer(text), lambda: grader.answer(""))
    return answer


def _is_right(grader: Any, answer: str, golds: Sequence[str]) -> bool:
    return bool(tried(lambda: grader.correct(answer, golds), lambda: grader.correct(golds[0], golds)))


def _ids(tokens: Any, where: str) -> np.ndarray | None:
    if tokens is None:
        return None
    values = np.asarray(tokens)
    if len(values) and (values.ndim != 1 or values.dtype.kind not in "iu" or values.min() < 0 or values.max() >= 2**31):
        raise PathpruneError(f"{where}: its token ids are not whole numbers from 0 on but {shown(list(tokens)[:5])}")
    return values.astype(np.int32)


def _numbers(name: str, values: Any, where: str) -> np.ndarray:
    """A token statistic in float16, in whose range numbers are kept."""
    if name not in STATISTICS:
        raise PathpruneError(f"{where}: {unknown('token statistic', name, list(STATISTICS))}")
    array = np.asarray(values)
    if array.ndim != 1 or (len(array) and array.dtype.kind not in "fiu") or np.isnan(array.astype(np.float64)).any():
        raise PathpruneError(f"{where}: its {name} is not one number per token")
    return (
        array.astype(np.float16) if array.dtype == np.float16 else np.clip(array, -LARGEST, LARGEST).astype(np.float16)
    )


def _rewards(path: ImportedPath, where: str) -> list[tuple[str, list[float]]]:
    rewards = []
    for name, given in path.rewards.items():
        scores = [float(v) for v in np.atleast_1d(np.asarray(given, dtype=np.float64))]
        if not np.isfinite(scores).all():
            raise PathpruneError(f"{where}: its reward {shown(name)} is not finite")
        rewards.append((name, scores))
    return rewards


def _count(counts: Counter[str], path: ImportedPath, stored: StoredPath) -> None:
    counts.update(name for name in stored.statistics)
    counts["text"] += stored.text is not None
    counts["tokens"] += stored.tokens is not None
    counts["ends"] += stored.ends is not None
    counts["characters"] += len(stored.text or "")
    counts["probes"] += bool(stored.probes)
    counts["rewards"] += bool(stored.rewards)
    counts["truncated"] += stored.finish == "length"
    counts["unknown_finish"] += stored.finish is None
    counts["unanswered"] += stored.answer is None
    counts["empty"] += stored.text == ""
    counts["without_length"] += all(v is None for v in (path.length, path.tokens, path.pieces)) and not path.statistics


def _duplicates(paths: Sequence[StoredPath]) -> int:
    """Paths whose text stands before them already: of sampled ones there should be few."""
    texts = [p.text for p in paths if p.text]
    return len(texts) - len(set(texts))


def _entry_in(file: FilePath) -> dict[str, Any] | None:
    """What a file that an interrupted import wrote says of its problem."""
    if not file.exists():
        return None
    entry: dict[str, Any] = json.loads(pq.read_schema(file).metadata[ENTRY])
    return entry


def _public(file: Any) -> str:
    """A file as records name it: without the folders of a machine."""
    return str(file) if "://" in str(file) else FilePath(str(file)).name


def _first(skipped: Sequence[str]) -> str:
    return f"; {len(skipped)} were skipped, the first: {skipped[0]}" if skipped else ""


def _write_lines(file: FilePath, rows: Sequence[Mapping[str, Any]]) -> None:
    with writable(file) as part:
        part.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
