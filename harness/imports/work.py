"""Processing of each imported problem: its paths are checked for consistency, graded and counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.api import PathpruneError
from harness.imports import measure
from harness.imports.golds import Golds
from harness.imports.graders import letters_of
from harness.imports.held import Holder
from harness.imports.judging import Judge
from harness.imports.pool import CLIPPED, word_ends
from harness.imports.rows import ImportedPath, ImportedProblem
from harness.imports.schema import StoredPath, table
from harness.imports.wanted import Wanted

MOST_PATHS = 2**20


@dataclass(frozen=True)
class Work:
    """Turns a problem as read from a file into the rows that are stored."""

    wanted: Wanted
    about: Mapping[str, Any]  # metadata of our own export; {} for other files
    holder: Holder
    golds: Golds | None = None

    @classmethod
    def of(cls, wanted: Wanted, about: Mapping[str, Any]) -> Work:
        """The processing for an import; opens its tokenizer and its file of gold answers."""
        golds = Golds.read(wanted.golds) if wanted.golds is not None else None
        holder = Holder()
        if wanted.tokenizer is not None:
            holder = Holder(measure.ends_by(wanted.tokenizer), measure.decoder_by(wanted.tokenizer))
        return cls(wanted, about, holder, golds)

    def rows(self, problem: ImportedProblem, name: str) -> tuple[Any, dict[str, Any]]:
        """(the problem's rows, its entry for the pool)."""
        if not 1 <= len(problem.paths) <= MOST_PATHS:
            raise PathpruneError(
                f"{problem.where}: the problem has {len(problem.paths)} paths; allowed are 1 to {MOST_PATHS:,}"
            )
        problem = self.golds.joined(problem) if self.golds is not None else problem
        golds = tuple(g.strip() for g in problem.golds if g.strip())
        letters = letters_of(golds)
        counts: Counter[str] = Counter(paths=len(problem.paths))
        judge = Judge.of(self.wanted.grades, self.about, problem, golds, letters)
        stored, units, disagreements, clipped = [], set(), [], Counter[str]()
        for index, path in enumerate(problem.paths):
            where = f"{problem.where}, path {index}"
            held, unit, beyond = self.holder.held(path, where)
            units.add(unit)
            clipped.update(beyond)
            answer, right, other = judge(path, held.text, where)
            stored.append(replace(held, answer=answer, correct=right))
            _count(counts, path, stored[-1])
            if other is not None:
                disagreements.append(
                    {"problem": name, "index": index, "golds": golds, "given": [answer, right], "ours": list(other)}
                )
        counts["duplicates"] = _duplicates(stored)
        entry = {
            "id": name, "prompt": problem.prompt, "golds": golds, "prompt_tokens": problem.prompt_tokens,
            "units": sorted(units), "letters": letters, "grades": judge.mode, "disagreements": disagreements,
            CLIPPED: dict(clipped),
        }  # fmt: skip
        return table(name, problem.prompt, golds, problem.prompt_tokens, stored), entry | _sizes(stored, counts)


def _sizes(paths: Sequence[StoredPath], counts: Mapping[str, int]) -> dict[str, Any]:
    """Counts for a problem: its paths, how many have each signal, and their lengths."""
    lengths, words = [p.length for p in paths], [len(word_ends(p.text or "")) for p in paths]
    return {
        "paths": len(paths), "counts": dict(counts), "length": sum(lengths), "longest": max(lengths),
        "words": sum(words), "most_words": max(words),
    }  # fmt: skip


def _count(counts: Counter[str], path: ImportedPath, stored: StoredPath) -> None:
    counts.update(name for name in stored.statistics)
    counts["text"] += stored.text is not None
    counts["tokens"] += stored.tokens is not None
    counts["ends"] += stored.ends is not None
    counts["characters"] += len(stored.text or "")
    counts["probes"] += bool(stored.probes)
    counts["given"] += bool(stored.given)
    counts["rewards"] += bool(stored.rewards)
    counts["truncated"] += stored.finish == "length"
    counts["unknown_finish"] += stored.finish is None
    counts["unanswered"] += stored.answer is None
    counts["empty"] += stored.text == ""
    counts["without_length"] += all(v is None for v in (path.length, path.tokens, path.pieces)) and not path.statistics


def _duplicates(paths: Sequence[StoredPath]) -> int:
    """Number of paths whose text repeats an earlier one; few are expected among sampled paths."""
    texts = [p.text for p in paths if p.text]
    return len(texts) - len(set(texts))
