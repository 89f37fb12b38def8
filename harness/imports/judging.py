"""Chooses the answer and grade stored with a path: the file's or ours; notes where the two differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness import advice
from harness.api import PathpruneError
from harness.grading import tried
from harness.imports.graders import RIGHT, Answers, Grader, grader_of
from harness.imports.rows import ImportedPath, ImportedProblem
from harness.imports.wanted import Grades
from tasks.answers import canonical

Judged = tuple[str | None, bool]  # an answer in canonical form, and whether it is right


@dataclass(frozen=True)
class Judge:
    """Grades the paths of one problem.

    Args:
        mode: whose grades count.
        golds: answers that count as right.
        grader: extracts answers from texts and judges them.
        verbatim: whether the file's answers are already canonical, as in our own export.
    """

    mode: Grades
    golds: Sequence[str]
    grader: Grader
    verbatim: bool

    @classmethod
    def of(
        cls,
        asked: Grades | None,
        about: Mapping[str, Any],
        problem: ImportedProblem,
        golds: Sequence[str],
        letters: str,
    ) -> Judge:
        """The judge for a problem. ``about``: metadata of our own export, {} for any other file."""
        mode: Grades = "both" if all(p.correct is not None for p in problem.paths) else "ours"
        grader = grader_of(about["grader"]) if about.get("grader") else Answers(letters)
        return cls(asked or ("given" if about else mode), golds, grader, bool(about))

    def __call__(self, path: ImportedPath, text: str | None, where: str) -> tuple[str | None, bool, Judged | None]:
        """Grade a path.

        Returns:
            (answer, whether it is right, our own answer and grade if they differ from the file's).

        Raises:
            PathpruneError: the path has no grade in the file, or nothing to be graded by.
        """
        theirs = None
        if self.mode != "ours":
            theirs = _theirs(path, self.golds, self.grader, self.verbatim, where)
            if self.mode == "given":
                return (*theirs, None)
        ours = judged_here(path, text, self.golds, self.grader, where, self.mode)
        if theirs is None:
            return (*ours, None) if ours is not None else (None, False, None)
        return (*theirs, ours if ours is not None and ours[1] != theirs[1] else None)


def _theirs(
    path: ImportedPath, golds: Sequence[str], grader: Any, verbatim: bool, where: str
) -> tuple[str | None, bool]:
    """(the file's answer of a path in canonical form, whether it is right)."""
    if path.correct is None:
        raise PathpruneError(
            f"{where}: it has no grade, which grades=given needs; map one: --map correct=FIELD, or use --grades ours"
        )
    answer = path.answer or None
    if not verbatim:
        answer = _canonical(path, grader)
        if answer is None and path.correct:
            answer = _canonical_text(golds[0], grader) if golds else RIGHT
    return answer, path.correct and answer is not None


def _canonical(path: ImportedPath, grader: Any) -> str | None:
    """The canonical form of the stated answer, or else of the answer in the text."""
    if path.answer is not None:
        return _canonical_text(path.answer, grader) if path.answer.strip() else None
    return None if path.text is None else _read(grader, path.text)


def _canonical_text(answer: str, grader: Any) -> str:
    if not isinstance(grader, Answers):
        return answer
    if grader.letters:
        return grader.answer(f"\\boxed{{{answer}}}") or canonical(answer)
    return canonical(answer)


def judged_here(
    path: ImportedPath, text: str | None, golds: Sequence[str], grader: Any, where: str, mode: str
) -> tuple[str | None, bool] | None:
    """(our answer, our grade) of a path; None if it cannot be judged and need not be."""
    if not golds:
        if mode == "both":
            return None
        raise PathpruneError(
            f"{where}: the problem has no gold answer and the path no grade; map one: --map gold=FIELD or correct=FIELD, or give the answers in a separate file: "
            f"{advice.option(golds='FILE')}"
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
