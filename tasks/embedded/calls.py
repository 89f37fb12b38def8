"""``calls``: the problems of ``hands``, solved by several simulated authors who let Python compute.

An author writes a few definitions per call as Python, and reads the value of the last one. Variables persist between
calls. Four anonymous authors wrote the corpus. The first is careful. The second evaluates from left to right and states
this with parentheses. The third computes the new value of a variable without assigning it, so later calls read the old
value. The fourth continues with an invented value when Python prints an error. Each author occasionally forgets to tell
Python a constant or to close a bracket, and reacts to that in a characteristic way. Their habits differ slightly, as in
``hands``.

This is a testbed in which confidence is insufficient by design. Its results do not transfer to real reasoning models.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from tasks.embedded.arithmetic import CONNECTIVES, LETTERS, MODULUS, SPECIALS, Definition, Shape, connective
from tasks.embedded.base import EmbeddedTask, Example

CALL, OUTPUT, END = "```python", "```output", "```"
SHUT = f")%{MODULUS}"
OTHER, NOTHING, UNDONE = "<other>", "nothing", "undone"
ERRORS = ("NameError", "SyntaxError", "TypeError")
VOCABULARY = (
    *SPECIALS,
    OTHER,
    *map(str, range(MODULUS)),
    *LETTERS,
    *("+", "-", "*", "=", ";", "?", ".", "(", ")", SHUT),
    *CONNECTIVES,
    *("check", "wait", "answer"),
    *(CALL, OUTPUT, END),
    *ERRORS,
    *(NOTHING, UNDONE),
    *(f"<unused{i}>" for i in range(2)),
)
# Replacements in a text before the tokenizer looks up words, in this order. An error becomes its class and the name it concerns.
READS = (
    (r"\[This call was undone: variables are as before it\.\]", f" {UNDONE} "),
    (r"\(no output\)", f" {NOTHING} "),
    (r"[^\n]*Warning: [^\n]*\n(?:  [^\n]*\n)?", ""),
    (r"Traceback \(most recent call last\):\n", ""),
    (r"^  [^\n]*\n", ""),
    (r"(?<=NameError): name '(?=\w+' is not defined)", " "),
    (r"(?<=\w)' is not defined[^\n]*", ""),
    (r"(?<=Error): [^\n]*", ""),
    (r"```(?=\n)", "``` "),
)
# Replacements in words joined by spaces. The beginning of a line matters to Python.
WRITES = (
    (r" ?```python ?", "\n```python\n"),
    (r" ?```output ?", "\n```output\n"),
    (r" ?```(?!python|output) ?", "\n```\n"),
    (r"\n\n", "\n"),
    (UNDONE, "[This call was undone: variables are as before it.]"),
)


@dataclass(frozen=True)
class Author:
    """A simulated author: misconception and habits (probabilities)."""

    weight: float
    favourites: tuple[str, str]
    check: float
    notice: float  # probability of noticing a wrong call and correcting it
    forget: float  # probability of omitting a constant
    repair: float  # probability of defining the name that an error concerns
    left_to_right: float = 0.0
    stale: float = 0.0


AUTHORS = (
    Author(0.22, ("so", "hence"), check=0.20, notice=0.0, forget=0.20, repair=1.0),
    Author(0.26, ("then", "next"), check=0.06, notice=0.20, forget=0.25, repair=1.0, left_to_right=0.85),
    Author(0.26, ("now", "then"), check=0.08, notice=0.20, forget=0.25, repair=1.0, stale=0.85),
    Author(0.26, ("also", "so"), check=0.05, notice=0.20, forget=0.55, repair=0.15),
)
SIZES = (0.15, 0.45, 0.40)  # shares of calls with one, two and three definitions
TYPO = 0.04  # share of calls in which a bracket stays open


class Calculator:
    """Python for the authors' code, without a sandbox. It prints what the sandbox prints, in words of the vocabulary."""

    def __init__(self, values: dict[str, int] | None = None) -> None:
        self.values = values or {}

    def run(self, words: Sequence[str]) -> list[str]:
        """The output of a call. Its assignments persist."""
        *statements, last = " ".join(words).split(" ; ")
        try:
            compile(" ; ".join([*statements, last]), "<call>", "exec")
            for statement in statements:
                exec(statement, {"__builtins__": {}}, self.values)
            return [str(eval(last, {"__builtins__": {}}, self.values))]
        except SyntaxError:
            return ["SyntaxError"]
        except NameError as error:
            return ["NameError", str(error.name)]


def as_python(d: Definition, left_to_right: bool = False) -> list[str]:
    """The right side of a definition as Python, with parentheses if it is evaluated from left to right."""
    if not d.ops:
        return [str(d.operands[0])]
    operands = [str(o) for o in d.operands]
    written = [operands[0]]
    for op, operand in zip(d.ops, operands[1:], strict=True):
        written += [op, operand]
    if left_to_right and misread(d):
        written = ["(", *written[:3], ")", *written[3:]]
    return ["(", *written, SHUT]


def misread(d: Definition) -> bool:
    """Whether evaluation from left to right changes the value of a definition."""
    return "*" in d.ops[1:]


@dataclass
class Writer:
    """The state of an author while writing a solution."""

    rng: random.Random
    author: Author
    told: Calculator = field(default_factory=Calculator)
    words: list[str] = field(default_factory=list)
    trained: list[bool] = field(default_factory=list)

    def say(self, *words: str, trained: bool = True) -> None:
        """Write words. The model is not trained on the output of Python."""
        self.words += words
        self.trained += [trained] * len(words)

    def call(self, words: Sequence[str]) -> list[str]:
        """Write a call and its output."""
        self.say(CALL, *words, END)
        printed = self.told.run(words)
        self.say(OUTPUT, *printed, END, trained=False)
        return printed

    def chance(self, probability: float) -> bool:
        """Draw an event with this probability."""
        return self.rng.random() < probability


@dataclass(frozen=True)
class Step:
    """The definitions of a call: correct, and as the author writes them."""

    definitions: tuple[Definition, ...]
    wrong: tuple[bool, ...]
    stale: bool  # the last one is computed but not assigned
    typo: bool = False

    def statements(self, right: bool = False) -> list[list[str]]:
        """The assignments, followed by the expression whose value is printed."""
        written = [
            [d.name, "=", *as_python(d, wrong and not right)]
            for d, wrong in zip(self.definitions, self.wrong, strict=True)
        ]
        if self.stale and not right:
            return [*written[:-1], written[-1][2:]]
        return [*written, [self.definitions[-1].name]]


def joined(statements: Sequence[Sequence[str]]) -> list[str]:
    """The statements, joined to one line."""
    return [word for i, s in enumerate(statements) for word in ([";"] if i else []) + list(s)]


def steps(rng: random.Random, definitions: Sequence[Definition], author: Author) -> list[Step]:
    """The definitions that an author puts into each call, with the author's mistakes."""
    waiting = [d for d in definitions if d.ops]
    known = {d.name for d in definitions if not d.ops}
    planned = []
    while waiting:
        size = rng.choices((1, 2, 3), SIZES)[0]
        taken: list[Definition] = []
        stale = False
        while waiting and len(taken) < size and not stale:
            taken.append(waiting.pop(0))
            stale = taken[-1].name in known and rng.random() < author.stale
            known.add(taken[-1].name)
        wrong = tuple(misread(d) and rng.random() < author.left_to_right for d in taken)
        planned.append(Step(tuple(taken), wrong, stale, rng.random() < TYPO))
    return planned


def write_solution(rng: random.Random, definitions: list[Definition]) -> Example:
    """A solution by one author, word by word. The model is not trained on the output of Python."""
    author = rng.choices(AUTHORS, [a.weight for a in AUTHORS])[0]
    constants = {d.name: d for d in definitions if not d.ops}
    w = Writer(rng, author)
    first = [[d.name, "=", *as_python(d)] for d in constants.values() if not w.chance(author.forget)]
    value = ""
    for step in steps(rng, definitions, author):
        if w.chance(0.6):
            w.say(connective(rng, author.favourites))
        value, first = _take(w, step, first, constants)
    w.say("answer", value)
    return Example(w.words, w.trained)


def _take(
    w: Writer, step: Step, first: list[list[str]], constants: dict[str, Definition]
) -> tuple[str, list[list[str]]]:
    """Write a step with all its consequences, and return the value that the author believes and the beginning of the
    next call."""
    before = {name: int(d.operands[0]) for name, d in constants.items()} | w.told.values
    before |= {statement[0]: int(statement[2]) for statement in first}
    name, statements = step.definitions[-1].name, [*first, *step.statements()]
    printed = w.call(_open(w.rng, joined(statements)) if step.typo else joined(statements))
    while printed[0] in ERRORS:
        missing = printed[1] if printed[0] == "NameError" else None
        if missing not in (None, *constants) or not w.chance(w.author.repair):
            value = str(w.rng.randrange(MODULUS))
            w.say(name, value, ".")
            return value, [[name, "=", value]]
        w.say("wait")
        if missing is not None:
            told = [missing, "=", *as_python(constants[missing])]
            statements = [told, *_rest(statements, missing)]
        printed = w.call(joined(statements))
    printed = _mended(w, step, before) or printed
    w.say(name, printed[0], ".")
    if w.chance(w.author.check):
        w.say("check", ".")
    return printed[0], []


def _open(rng: random.Random, words: list[str]) -> list[str]:
    """Write a call with a bracket that is never closed."""
    at = rng.choice([i for i, word in enumerate(words) if word == SHUT])
    return words[:at] + words[at + 1 :]


def _rest(statements: list[list[str]], missing: str) -> list[list[str]]:
    """The statements of a call that a missing name prevented from running."""
    uses = [missing in (s[2:] if "=" in s else s) for s in statements]
    return statements[uses.index(True) :]


def _mended(w: Writer, step: Step, before: dict[str, int]) -> list[str] | None:
    """Write a wrong call again, corrected; None if the author does not notice the mistake or the correction would fail."""
    if not (any(step.wrong) or step.stale):
        return None
    statements, names = joined(step.statements(right=True)), [d.name for d in step.definitions]
    right, again = Calculator(dict(before)), Calculator(dict(w.told.values))
    right.run(statements)
    if all(w.told.values.get(n) == right.values.get(n) for n in names) or not w.chance(w.author.notice):
        return None
    again.run(statements)
    if any(again.values.get(n) != right.values.get(n) for n in names):
        return None
    w.say("wait")
    return w.call(statements)


class Calls(EmbeddedTask):
    """Definitions in order, computed by Python. The answer is the value of the last one."""

    name = "calls"
    version = "1"
    shape = Shape(definitions=(5, 7))
    trained = Shape(definitions=(6, 8), densities=(0.3, 0.6, 0.9))
    short = Shape(definitions=(3, 6), densities=(0.3, 0.6, 0.9))
    temperature = 0.7  # chosen on dev problems before any pruner ran (docs/tools.md)
    prefixes = (27, 17)  # 35 % and 22 % of the mean length on dev problems, 77 drawn tokens
    vocabulary = VOCABULARY
    engine: Mapping[str, Any] = MappingProxyType({"tools": "python", "tool_format": "fenced", "tool_paths": 256})
    labelled = 384
    labelling = 8
    reads = READS
    writes = WRITES

    def order(self, rng: random.Random, definitions: list[Definition]) -> list[Definition]:
        """Definitions in the order in which the problem states them."""
        return definitions

    def example(self, rng: random.Random, definitions: list[Definition], query: str) -> Example:
        """A problem with one worked solution, for training."""
        return write_solution(rng, definitions)
