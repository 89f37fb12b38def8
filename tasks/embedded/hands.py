"""``hands``: arithmetic solved by several simulated authors; the default embedded task.

Four anonymous authors wrote the corpus. The first is careful. The second evaluates from left to right. The third
subtracts the smaller number from the larger. The fourth adds one too many when a sum reaches 14. They share a
vocabulary and differ slightly in habits: their favourite connectives, how often they write ``check``, and how often
they notice a wrong step and write ``wait``. A model of this corpus imitates one author per path. A prefix therefore
contains information about the outcome that token confidence lacks, because a misconception is written with the same
confidence as a correct step.

This is a testbed in which confidence is insufficient by design. Its results do not transfer to real reasoning models.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from harness.api import PathpruneError
from tasks.embedded.arithmetic import LETTERS, MODULUS, Definition, Shape, connective, exact, reduce, step_words
from tasks.embedded.base import EmbeddedTask, Example


@dataclass(frozen=True)
class Author:
    """A simulated author: misconception and habits (probabilities)."""

    weight: float
    favourites: tuple[str, str]
    check: float
    notice: float
    left_to_right: bool = False
    unsigned: bool = False
    overcounts: bool = False

    def apply(self, op: str, x: int, y: int) -> int:
        """``x op y`` mod 13 as this author computes it, correctly or not."""
        if op == "-" and self.unsigned:
            return abs(x - y)
        return exact(op, x, y + 1 if op == "+" and self.overcounts and x + y >= 14 else y)


AUTHORS = (
    Author(0.22, ("so", "hence"), check=0.20, notice=0.0),
    Author(0.26, ("then", "next"), check=0.06, notice=0.20, left_to_right=True),
    Author(0.26, ("now", "then"), check=0.08, notice=0.22, unsigned=True),
    Author(0.26, ("also", "so"), check=0.05, notice=0.25, overcounts=True),
)


def write_solution(rng: random.Random, definitions: list[Definition]) -> list[str]:
    """A solution by one author, word by word. Constants are read from the problem and not restated."""
    author = rng.choices(AUTHORS, [a.weight for a in AUTHORS])[0]
    values: dict[str, int] = {}
    words: list[str] = []
    for d in definitions:
        if not d.ops:
            values[d.name] = int(d.operands[0]) % MODULUS
            continue
        if rng.random() < 0.6:
            words.append(connective(rng, author.favourites))
        states = reduce(d, values, author.apply, author.left_to_right)
        words += step_words(d, values, states)
        truth = reduce(d, values)
        if states[-1] != truth[-1] and rng.random() < author.notice:
            words += ["wait", *step_words(d, values, truth)]
            states = truth
        elif rng.random() < author.check:
            words += ["check", "."]
        values[d.name] = states[-1][0][0]
    return [*words, "answer", str(values[definitions[-1].name])]


class Hands(EmbeddedTask):
    """8 to 10 definitions; the answer is the value of the last one. Other numbers of definitions make another version
    of the task."""

    name = "hands"
    version = "1"
    shape = Shape(definitions=(8, 10))
    short = Shape(definitions=(4, 7))
    labelled = 8192
    prefixes = (22, 43)  # 17 % and 33 % of the mean length on calibration (dev) problems, 129 tokens

    def __init__(self, shortest: int = 8, longest: int = 10) -> None:
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in (shortest, longest))
        if not whole or not 3 <= shortest <= longest <= len(LETTERS):
            raise PathpruneError(
                f"hands: shortest and longest are whole numbers of definitions, 3 <= shortest <= longest <= {len(LETTERS)}, "
                f"not {shortest} and {longest}"
            )
        if (shortest, longest) != self.shape.definitions:
            self.version = f"{Hands.version}.{shortest}-{longest}"
            self.shape = replace(self.shape, definitions=(shortest, longest))

    def order(self, rng: random.Random, definitions: list[Definition]) -> list[Definition]:
        """Definitions in the order in which the problem states them."""
        return definitions

    def example(self, rng: random.Random, definitions: list[Definition], query: str) -> Example:
        """A problem with one worked solution, for training."""
        words = write_solution(rng, definitions)
        return Example(words, [True] * len(words))
