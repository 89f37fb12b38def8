"""The language of the embedded tasks: chained definitions over single letters, with values mod 13.

A problem reads ``a = 5 ; b = 12 ; c = a + b * a ; c = c - b ; c ?``. ``*`` binds tighter than ``+`` and ``-``. A solver
writes each step as ``c : a 5 + b 12 * a 5 = 5 + 8 = 0 , c 0 .``: each variable is followed by its value, one operation
is reduced at a time, and the step ends with the variable and its new value. Looking up a value is therefore the work of
an induction head, and a million parameters are enough.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

MODULUS = 13
LETTERS = "abcdefghijklmnopqrstuvwxyz"
CONNECTIVES = ("so", "then", "next", "now", "also", "hence")
SPECIALS = ("<pad>", "<bos>", "<eos>")
VOCABULARY = (
    *SPECIALS,
    *map(str, range(MODULUS)),
    *LETTERS,
    *("+", "-", "*", "=", ";", "?", ":", ",", "."),
    *CONNECTIVES,
    *("check", "wait", "plan", "answer"),
    *(f"<unused{i}>" for i in range(3)),
)

Operand = str | int
Apply = Callable[[str, int, int], int]


@dataclass(frozen=True)
class Definition:
    """``name = operands[0] ops[0] operands[1] ops[1] ...``; an operand is a letter or a constant 0..12."""

    name: str
    operands: tuple[Operand, ...]
    ops: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """The definition as a list of words."""
        written = [self.name, "=", str(self.operands[0])]
        for op, operand in zip(self.ops, self.operands[1:], strict=True):
            written += [op, str(operand)]
        return written


@dataclass(frozen=True)
class Shape:
    """The distribution of problems: number of definitions, and density of each kind of trap."""

    definitions: tuple[int, int]
    densities: tuple[float, ...] = (0.1, 0.4, 0.8)
    recent: float = 0.95
    front_loading: float = 1.4


def exact(op: str, x: int, y: int) -> int:
    """``x op y`` mod 13."""
    return {"+": x + y, "-": x - y, "*": x * y}[op] % MODULUS


def evaluate(definitions: Sequence[Definition]) -> dict[str, int]:
    """The value of every variable after all definitions, in order."""
    values: dict[str, int] = {}
    for d in definitions:
        values[d.name] = reduce(d, values)[-1][0][0]
    return values


def reduce(
    d: Definition, values: dict[str, int], apply: Apply = exact, left_to_right: bool = False
) -> list[tuple[list[int], list[str]]]:
    """Reduce a definition one operation at a time; each entry is (remaining operands, remaining operators)."""
    xs = [values[o] if isinstance(o, str) else o for o in d.operands]
    ops = list(d.ops)
    states = [(list(xs), list(ops))]
    while ops:
        at = ops.index("*") if "*" in ops and not left_to_right else 0
        xs[at : at + 2] = [apply(ops[at], xs[at], xs[at + 1])]
        del ops[at]
        states.append((list(xs), list(ops)))
    return states


def step_words(d: Definition, values: dict[str, int], states: list[tuple[list[int], list[str]]]) -> list[str]:
    """The words of a step, for example ``n : g 12 + c 4 * 7 = 12 + 2 = 1 , n 1 .``"""
    out = [d.name, ":"]
    for i, operand in enumerate(d.operands):
        out += ([d.ops[i - 1]] if i else []) + [str(operand)]
        if isinstance(operand, str):
            out.append(str(values[operand]))
    for xs, ops in states[1:]:
        out += ["=", str(xs[0])]
        for op, x in zip(ops, xs[1:], strict=True):
            out += [op, str(x)]
    return [*out, ",", d.name, str(states[-1][0][0]), "."]


def draw_definitions(rng: random.Random, shape: Shape, reassign: bool = True) -> list[Definition]:
    """A chain of definitions in a computable order. The first two are constants.

    Products inside sums, subtractions and re-assignments each have a separate density per problem, so problems differ
    in the misconceptions that they trigger. The first half has more traps (``front_loading``), because pruning at a
    prefix depends on early mistakes.
    """
    n = rng.randint(*shape.definitions)
    products, minuses, again = (rng.choice(shape.densities) for _ in range(3))
    names = rng.sample(LETTERS, n)
    defs = [Definition(names.pop(), (rng.randrange(MODULUS),)) for _ in range(2)]
    for i in range(2, n):
        early = shape.front_loading if i < (n + 2) / 2 else 2 - shape.front_loading
        known = list(dict.fromkeys(d.name for d in defs))
        ops = _draw_ops(rng, min(1.0, products * early), min(1.0, minuses * early))
        operands = _draw_operands(rng, len(ops) + 1, defs[-1].name, known, shape.recent)
        reuse = reassign and len(known) > 2 and rng.random() < again / 2
        defs.append(Definition(rng.choice(known[:-1]) if reuse else names.pop(), operands, ops))
    return defs


def _draw_ops(rng: random.Random, products: float, minuses: float) -> tuple[str, ...]:
    first = "-" if rng.random() < minuses else "+"
    if rng.random() < products:
        return (first, "*")
    if rng.random() < 0.15:
        return ("*",)
    return (first, "+") if rng.random() < 0.3 else (first,)


def _draw_operands(rng: random.Random, n: int, last: str, known: list[str], recent: float) -> tuple[Operand, ...]:
    drawn: list[Operand] = [rng.choice(known) if rng.random() < 0.75 else rng.randrange(MODULUS) for _ in range(n)]
    if rng.random() < recent:
        drawn[rng.randrange(n)] = last
    return tuple(drawn)


def connective(rng: random.Random, favourites: tuple[str, str]) -> str:
    """The first word of a step, drawn with the author's preferences."""
    roll = rng.random()
    if roll < 0.4:
        return favourites[0]
    return favourites[1] if roll < 0.6 else rng.choice(CONNECTIVES)


def prompt_text(definitions: Sequence[Definition], query: str) -> str:
    """The prompt of a problem: its definitions, then the letter whose value is asked for."""
    words = [w for d in definitions for w in [*d.words(), ";"]]
    return " ".join([*words, query, "?"])


def final_answer(text: str) -> str | None:
    """The number after the last ``answer``, or None without one."""
    words = text.split()
    for i in range(len(words) - 2, -1, -1):
        if words[i] == "answer" and words[i + 1].isdigit():
            return words[i + 1]
    return None
