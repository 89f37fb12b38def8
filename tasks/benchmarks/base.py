"""The base of benchmarks with fixed problems: reading of common data formats, the paper's prompts, and grading.

Prompts and sampling are those of STOP (arXiv 2604.16029, sec. 4.1 and App. C).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from typing import ClassVar

from harness.api import END_OF_THINKING, PathpruneError, Problem, Sampling, Task, TaskDefaults, UnavailableError
from harness.rng import derive
from harness.text import unfit
from tasks.answers import canonical, choice, equivalent, extract
from tasks.benchmarks import fields
from tasks.benchmarks.files import Hub, Place, Row, fetch, read

BOXED = "Please reason step by step, and put your final answer within \\boxed{}."
LETTER = 'Please show your choice in the answer field with only the choice letter, e.g., "ANSWER": "C".'
PAPER = Sampling(temperature=0.6, top_p=0.95, top_k=40)
LONGEST = 1_000_000  # characters of a problem; no context window holds more


class Benchmark(Task):
    """A list of problems with one answer each, free-form or multiple choice.

    ``skip``: skip invalid rows and list them in ``skipped``. ``data``: a local file instead of the Hub. ``dev``, ``label``,
    ``train``: files of further splits, which learned pruners need. ``shuffle``: a seed for the order of each problem's options,
    or "none" for the published order. The version is a digest of prompts, problems and answers.
    """

    name: str
    hub: ClassVar[Hub | None] = None
    distinct: ClassVar[bool] = False  # whether duplicates are refused; published data sets may contain some
    max_tokens: ClassVar[int] = 32768
    prefix: ClassVar[int] = 2048

    def __init__(
        self,
        data: str = "",
        dev: str = "",
        label: str = "",
        train: str = "",
        shuffle: int | str = "none",
        skip: bool = False,
    ) -> None:
        self._files = {"test": data, "dev": dev, "label": label, "train": train}
        for option, given in zip(("data", "dev", "label", "train"), self._files.values(), strict=True):
            if not isinstance(given, str):
                raise PathpruneError(f"{self.name}: {option} is a file of problems, not {given!r}")
        if isinstance(shuffle, bool) or not (isinstance(shuffle, int) or shuffle == "none"):
            raise PathpruneError(f"{self.name}: shuffle is a seed (a whole number) or none, not {shuffle!r}")
        self.shuffle = shuffle
        self.skipped: list[str] | None = [] if skip else None
        self._splits: dict[str, list[Problem]] = {}
        self._tested: dict[str, str] = {}  # location of each test problem, by its question
        self._letters = ""  # of the longest list of options; "" for free-form answers
        test = self._split("test")
        self.defaults = TaskDefaults(
            model="deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
            sampling=PAPER,
            max_tokens=self.max_tokens,
            problems=len(test),
            prefixes=(self.prefix,),
            closing=END_OF_THINKING + '"ANSWER": "' if self._letters else TaskDefaults.closing,
        )
        told = json.dumps([[p.id, p.prompt, p.answer] for p in test], ensure_ascii=False)
        self.version = f"1.{hashlib.sha256(told.encode()).hexdigest()[:8]}"

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        """Problems of a split in order, at most all."""
        known = self._split(split)
        return known[start : len(known) if n is None else start + n]

    def answer(self, text: str) -> str | None:
        if self._letters:
            return choice(text, self._letters)
        written = extract(text)
        return None if written is None else canonical(written)

    def correct(self, answer: str | None, problem: Problem) -> bool:
        if answer is None:
            return False
        return answer == problem.answer if self._letters else equivalent(problem.answer, answer)

    def _split(self, split: str) -> list[Problem]:
        if split not in self._files:
            raise PathpruneError(f"split {split!r} is not one of {', '.join(self._files)}")
        if split not in self._splits:
            self._splits[split] = self._read(self._rows(split), split)
        return self._splits[split]

    def _rows(self, split: str) -> list[Place]:
        if self._files[split]:
            return read(self._files[split], self.skipped)
        hub = self._published(split)
        if hub is None:
            raise UnavailableError(
                f"{self.name} has no {split} problems; name a file of them: --task '{self.name}:{'data' if split == 'test' else split}=FILE.jsonl'"
            )
        return fetch(hub, self.name)

    def _published(self, split: str) -> Hub | None:
        return self.hub if split == "test" else None

    def _read(self, rows: Sequence[Place], split: str) -> list[Problem]:
        rows, parsed = self._parsed(rows, split)
        kinds = {bool(letters) for _, letters in parsed}
        if len(kinds) > 1:
            source = rows[0].where.rpartition(", ")[0]
            raise PathpruneError(f"{source}: some problems have options and some do not; split it into two files")
        self._letters = max([self._letters, *(letters for _, letters in parsed)], key=len)
        problems = [problem for problem, _ in parsed]
        self._refuse_twice(problems, [where for where, _ in rows], split)
        return problems

    def _parsed(self, rows: Sequence[Place], split: str) -> tuple[list[Place], list[tuple[Problem, str]]]:
        """(valid rows, their problems with option letters); an invalid row is skipped and listed, or an error."""
        good: list[Place] = []
        parsed: list[tuple[Problem, str]] = []
        first: dict[str, str] = {}
        asked: dict[str, str] = {}
        for number, (where, row) in enumerate(rows, 1):
            try:
                problem, letters = self._problem(row, where, f"{split}-{number:05d}")
                if problem.id in first:
                    name, known = problem.id.removeprefix(self.name + "-"), _beside(first[problem.id], where)
                    raise PathpruneError(f"{where}: id {name!r} is also that of {known}")
                if self.skipped is not None and self.distinct and (known := asked.get(_asked(problem.prompt), "")):
                    raise PathpruneError(f"{where}: the problem is also that of {_beside(known, where)}")
            except PathpruneError as flaw:
                if self.skipped is None:
                    raise
                self.skipped.append(str(flaw))
                continue
            first[problem.id] = asked[_asked(problem.prompt)] = where
            good.append(Place(where, row))
            parsed.append((problem, letters))
        if not parsed:
            raise PathpruneError(
                f"{self.name}: no row is left of {len(rows)}" + (f"; first {self.skipped[0]}" if self.skipped else "")
            )
        return good, parsed

    def _refuse_twice(self, problems: Sequence[Problem], places: Sequence[str], split: str) -> None:
        """Refuse a problem under two ids in a user's file, and a test problem in the file of another split."""
        asked = [(_asked(p.prompt), where) for p, where in zip(problems, places, strict=True)]
        if split == "test":
            self._tested = dict(reversed(asked))
        first: dict[str, str] = {}
        for problem, where in asked:
            if split != "test" and self._files[split] and (tested := self._tested.get(problem)):
                raise PathpruneError(
                    f"{where}: the problem is a test problem, {_beside(tested, where)}; leave one of them out"
                )
            if self.distinct and first.setdefault(problem, where) != where:
                known = _beside(first[problem], where)
                raise PathpruneError(
                    f"{where}: the problem is also that of {known}, so it would count twice; leave one of them out"
                )

    def _problem(self, row: Row, where: str, fallback: str) -> tuple[Problem, str]:
        """A row as (problem, letters of its options)."""
        question = fields.question(row, where)
        if len(question) > LONGEST:
            raise PathpruneError(f"{where}: the problem has {len(question):,} characters, more than {LONGEST:,}")
        name = fields.identity(row, where) or fallback
        full = f"{self.name}-{name}".replace("/", "_")  # ids of MATH-500 are paths
        if why := unfit(name.replace("/", "_")) or unfit(full):
            raise PathpruneError(f"{where}: the id {why}; it names a file")
        if options := fields.options(row, where):
            texts, gold = options
            order = self._order(len(texts), name)
            asked = "\n".join(f"{fields.LETTERS[i]}. {texts[j]}" for i, j in enumerate(order))
            prompt, answer = f"{question}\n\n{asked}\n\n{LETTER}", fields.LETTERS[order.index(gold)]
            return Problem(full, prompt, answer), fields.LETTERS[: len(texts)]
        return Problem(full, f"{question}\n\n{BOXED}", fields.gold(row, where)), ""

    def _order(self, count: int, name: str) -> list[int]:
        order = list(range(count))
        if self.shuffle != "none":
            random.Random(derive("options", self.shuffle, name)).shuffle(order)
        return order


def _asked(prompt: str) -> str:
    """A prompt's question, independent of white space and of the order of its options."""
    if not prompt.endswith(LETTER):
        return " ".join(prompt.split())
    return "\n".join(sorted(re.sub(r"^[A-Z]\. ", "", line) for line in prompt.splitlines()))


def _beside(first: str, second: str) -> str:
    """A location relative to another: only the line if the file is the same."""
    file, _, line = first.rpartition(", ")
    return line if file == second.rpartition(", ")[0] else first
