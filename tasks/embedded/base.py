"""What both embedded tasks share: endless problems by seed, disjoint splits, grading, and the training corpus."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from harness.api import PathpruneError, Problem, Sampling, Task, TaskDefaults
from tasks.embedded.arithmetic import (
    VOCABULARY,
    Definition,
    Shape,
    draw_definitions,
    evaluate,
    final_answer,
    prompt_text,
)

SPLITS = ("train", "label", "dev", "test")


@dataclass(frozen=True)
class Example:
    """A written solution, word by word, and for each word whether a model is trained on it."""

    words: list[str]
    trained: list[bool]


class EmbeddedTask(Task, ABC):
    """Problems by seed: the splits are disjoint because the split's name is part of every problem's seed."""

    name: str
    version: str
    shape: Shape
    short: Shape  # of the corpus in the first part of training
    trained: Shape | None = None  # of the rest of the corpus, where it is not the problems' own
    prefixes: tuple[int, ...]
    vocabulary: tuple[str, ...] = VOCABULARY
    reads: tuple[tuple[str, str], ...] = ()  # patterns of a text, and the words that they are read as
    writes: tuple[
        tuple[str, str], ...
    ] = ()  # patterns of words with a space between each two, and the text that they stand for
    distinct = False
    temperature = 1.0
    labelled = 4096  # problems with success labels
    labelling = 16  # paths of each
    engine: Mapping[str, Any] = MappingProxyType({})  # options of the engine that its model needs

    @property
    def defaults(self) -> TaskDefaults:  # type: ignore[override]
        return TaskDefaults(
            model=self.name,
            sampling=Sampling(temperature=self.temperature),
            max_tokens=300,
            problems=200,
            prefixes=self.prefixes,
            closing="answer",
            step=".",
            # Many problems with a single fresh continuation each: at equal tokens K = 8 and 32 gain less (make ablation).
            labels={"problems": self.labelled, "n": self.labelling, "continuations": 2},
            engine=self.engine,
        )

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        """``n`` problems of a split, the same ones for ever; ``start`` skips the first ones."""
        if split not in SPLITS:
            raise PathpruneError(f"split {split!r} is not one of {', '.join(SPLITS)}")
        count = self.defaults.problems if n is None else n
        return [self._problem(split, i) for i in range(start, start + count)]

    def answer(self, text: str) -> str | None:
        return final_answer(text)

    def correct(self, answer: str | None, problem: Problem) -> bool:
        return answer is not None and answer == problem.answer

    def corpus(self, seed: int, short: bool) -> Iterator[tuple[str, Example]]:
        """Endless (prompt, solution) pairs for training the embedded model."""
        rng = random.Random(f"{self.name}/{self.version}/corpus/{seed}/{short}")
        while True:
            ordered, shown, query = self._draw(rng, self.short if short else self.trained or self.shape)
            yield prompt_text(shown, query), self.example(rng, ordered, query)

    def _problem(self, split: str, index: int) -> Problem:
        rng = random.Random(f"{self.name}/{self.version}/{split}/{index}")
        ordered, shown, query = self._draw(rng, self.shape)
        answer = str(evaluate(ordered)[query])
        return Problem(id=f"{self.name}-{split}-{index:06d}", prompt=prompt_text(shown, query), answer=answer)

    def _draw(self, rng: random.Random, shape: Shape) -> tuple[list[Definition], list[Definition], str]:
        """Definitions in an order that can be computed, in the order the problem shows them, and the query."""
        ordered = draw_definitions(rng, shape, reassign=not self.distinct)
        return ordered, self.order(rng, ordered), ordered[-1].name

    @abstractmethod
    def order(self, rng: random.Random, definitions: list[Definition]) -> list[Definition]:
        """The order in which the problem shows its definitions."""

    @abstractmethod
    def example(self, rng: random.Random, definitions: list[Definition], query: str) -> Example:
        """One written solution."""
