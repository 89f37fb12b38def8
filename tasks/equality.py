"""Equality of written answers: a canonical string for votes, and a comparison with the gold answer.

An answer is brought to one notation (``tasks.notation``), read as a value (``tasks.values``) whose formulas are trees
(``tasks.formulas``), and compared by what kind of value it is:

=====================  ============================================================================================
a number, a formula    exactly: numbers to more digits than a difference of their size could hide in, formulas with
                       letters at points, letters with their case; ``x^2 + c`` is ``x^2 + C``
a decimal              exactly; of at least six places it is also a fraction without end, never an irrational number
a list or set          in any order, each item once: ``2, 3`` or ``\\{3, 2\\}``; ``1,000`` is a thousand, ``1, 000`` a list
a tuple, a vector      in order, with its brackets; three and more in ``[]`` as in ``()``; a matrix of one row or column
a matrix               entry by entry, whatever its brackets
an interval, a set of  as sets of numbers: ``2 < x \\le 4`` is ``(2, 4]``, ``x \\ne 3`` is ``\\mathbb{R} \\setminus \\{3\\}``;
numbers, inequalities  other inequalities side by side, in either direction
a named value          as the value: ``x = 5``, ``AB = 5``, ``m + n = 5``; ``x = 2, y = 3`` is ``(2, 3)`` and no other pair
an equation            as an equation, up to a factor; ``2x = 3`` and ``x^2 = 3`` are not 3, ``y = x + 1`` is ``x - y + 1 = 0``
``a \\pmod{m}``         as the residue; with two moduli, both must agree
a condition beside it  where both have one; ``n = 2k, k \\in \\mathbb{Z}`` is ``n = 2k``
a unit, ``\\circ``, $   dropped, but ``5\\text{ cm}`` is not ``5\\text{ m}``; ``90^\\circ`` is 90 and ``\\pi/2``; 5 million is 5,000,000
a percentage           50% is 50 and 0.5
a ratio, a base        as written: ``6:4`` is not ``3:2``, ``1010_2`` is not 10
words, all else        as texts; words without case
=====================  ============================================================================================

An ambiguous answer is treated as a text, because wrong acceptance is worse than refusal. The canonical form for votes keeps all that
grading needs, except for units and degrees.

Models write arbitrary text, so all work on an answer is bounded: patterns see ``LONGEST`` characters, the formula parser 300 of
them, nothing is computed that may need more than 4,000 digits, and parsing and comparing take at most ``SECONDS`` of CPU time
each, enforced by an alarm. Beyond a bound, an answer is treated as its text.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from functools import cache, lru_cache

from harness.api import PathpruneError
from tasks import formulas
from tasks.formulas import Node, UnreadError
from tasks.limits import LateError, within
from tasks.notation import flat, percent, tidy, unit
from tasks.values import FLIPPED, Beside, Formula, Items, Matrix, Named, Relation, Union, Value, Words, value

SECONDS = 0.5  # CPU time for one answer's canonical form, and for one comparison
LONGEST = 1000  # characters; a longer answer is a text
HUNDRED = Node("number", Fraction(100))
PAIRS = 400  # pairs of items that are compared as formulas


_ends: ContextVar[float] = ContextVar("_ends")  # CPU time at which the current answer's limit is reached


def _start() -> None:
    """Start the time limit for one answer."""
    _ends.set(time.process_time() + SECONDS)


@cache
def _load() -> None:
    """Import the computer algebra libraries, outside of any answer's time limit."""
    began = time.process_time()
    formulas.simplest(formulas.read(r"\frac{1}{1+\sqrt{2}}+x"))
    formulas.same(formulas.read(r"\sqrt{2}"), formulas.read("2^{x}"))
    _ends.set(_ends.get() + time.process_time() - began)


@contextmanager
def _timed() -> Iterator[None]:
    """Raise ``LateError`` in the block when this answer's time is up, repeatedly until the block ends."""
    if threading.current_thread() is not threading.main_thread():
        raise PathpruneError(
            "formulas are compared under a time limit, which works only in the main thread: grade there"
        )
    _load()
    if (left := _ends.get() - time.process_time()) <= 0:
        raise LateError
    with within(left):
        yield


def canonical(answer: str) -> str:
    """The canonical form of an answer: equal answers give the same string, and the function is idempotent.

    A formula that cannot be simplified within ``SECONDS`` keeps its text, with white space normalised.
    """
    return _canonical(answer)


@lru_cache(maxsize=65536)
def _canonical(answer: str) -> str:
    if len(answer) > LONGEST:
        return flat(answer)
    _start()
    form = _form(answer)
    for _ in range(3):
        if len(form) > LONGEST:
            return flat(form)
        again = _form(form)
        if again == form:
            return form
        form = again
    return flat(answer)


def _form(answer: str) -> str:
    said = value(tidy(answer))
    return _printed(said) + r"\%" * (percent(answer) and isinstance(said, Formula))


# -- the canonical form ----------------------------------------------------------------------------------------------


def _printed(said: Value) -> str:
    if isinstance(said, Words):
        return said.text
    if isinstance(said, Formula):
        return _simplest(said)
    if isinstance(said, Named):
        return f"{said.name}={_printed(said.value)}" if _keeps_name(said) else _printed(said.value)
    if isinstance(said, Beside):
        behind = rf"\pmod{{{said.text}}}" if said.kind == "mod" else f", {said.text}"
        return f"{_printed(said.value)} {behind}" if said.kind == "mod" else _printed(said.value) + behind
    if isinstance(said, Matrix):
        rows = (" & ".join(map(_printed, row)) for row in said.rows)
        return r"\begin{pmatrix}" + r" \\ ".join(rows) + r"\end{pmatrix}"
    if isinstance(said, Items):
        return _listed(said)
    pieces = real(said)
    if pieces is not None:
        return (
            r" \cup ".join(f"{'[' if c else '('}{_node(a)}, {_node(b)}{']' if d else ')'}" for a, c, b, d in pieces)
            or r"\emptyset"
        )
    if isinstance(said, Relation):
        sides, signs = _oriented(said)
        return "".join(
            x for pair in zip(map(_printed, sides), [f" {s} " for s in signs] + [""], strict=True) for x in pair
        )
    return f" {said.sign} ".join(map(_printed, said.parts))


def _listed(said: Items) -> str:
    if said.left == ":":
        return ":".join(map(_printed, said.parts))
    pieces = real(said) if said.left == r"\{" and any(isinstance(p, Relation) for p in said.parts) else None
    if pieces is not None:
        return r" \cup ".join(f"{'[' if c else '('}{_node(a)}, {_node(b)}{']' if d else ')'}" for a, c, b, d in pieces)
    parts = [f"{p.name}={_printed(p.value)}" if isinstance(p, Named) else _printed(p) for p in said.parts]
    if said.left == r"\{":
        parts = sorted(set(parts))
        if len(parts) == 1:
            return parts[0]
    return f"{said.left}{', '.join(parts)}{said.right}"


def _keeps_name(said: Named) -> bool:
    """Whether names are part of the answer: for a curve, and for numbers whose names are not in the usual order."""
    if "," in said.name:
        return sorted(said.name.split(",")) != said.name.split(",")
    return (
        said.name in ("x", "y", "z")
        and isinstance(said.value, Formula)
        and bool({"x", "y", "z"} & formulas.symbols(said.value.node))
    )


def _node(node: Node) -> str:
    return _simplest(Formula("", node))


@lru_cache(maxsize=65536)
def _simplest(said: Formula) -> str:
    node = said.node
    if node.kind == "number":
        return str(node.value)
    if node.kind == "symbol":
        return str(node.value)
    if formulas.endless(node):
        sign = formulas.sign_of_infinity(node)
        return {1: r"\infty", -1: r"-\infty"}.get(sign or 0, flat(said.text))
    try:
        with _timed():
            return formulas.simplest(node)
    except (LateError, ArithmeticError, TypeError, ValueError, NotImplementedError, AttributeError, RecursionError):
        return flat(said.text or formulas.source(node))


# -- comparison ------------------------------------------------------------------------------------------------------


def equivalent(gold: str, answer: str) -> bool:
    """Whether an answer equals the gold answer, by the module's policy.

    A comparison that exceeds ``SECONDS`` counts as unequal. Answers with the same canonical form get the same grade, except for
    different units.

    Raises:
        PathpruneError: formulas would be compared outside the main thread.
    """
    if len(gold) > LONGEST or len(answer) > LONGEST:
        return flat(gold) == flat(answer)
    return _equivalent(gold, answer)


@lru_cache(maxsize=65536)
def _equivalent(gold: str, answer: str) -> bool:
    if not _units_meet(gold, answer):
        return False
    first, second = value(tidy(gold)), value(tidy(answer))
    if first == second or _option(gold, answer) or _option(answer, gold):
        return True
    one, other = _number(first), _number(second)
    if one is not None and other is not None:
        return _numbers_meet(gold, answer, one, other)
    _start()
    try:
        with _timed():
            if _meet(gold, answer, first, second):
                return True
    except (LateError, UnreadError, RecursionError):
        return False
    return canonical(gold) == canonical(answer)


_OPTION = re.compile(
    r"(?:(?:option|choice|letter)\s+)?[(\[]?([A-Z])[)\]]?(?:\s*[.:)]\s*|\s+[-–—]\s+|\s*—\s*)\S.*|(?:option|choice|letter)\s+\(?([A-Z])\)?\.?",
    re.IGNORECASE,
)


def _option(letter: str, text: str) -> bool:
    """Whether a text names an option by letter, possibly followed by its content: ``C) Arnold``, ``Option C``."""
    if len(letter) != 1 or not letter.isupper():
        return False
    named = _OPTION.fullmatch(re.sub(r"\\text(?:bf)?\b|[{}$*]", "", text).strip())
    return named is not None and letter in (named[1], named[2])


def _meet(gold: str, answer: str, first: Value, second: Value) -> bool:
    if percent(gold) != percent(answer) and isinstance(first, Formula) and isinstance(second, Formula):
        marked, plain = (first, second) if percent(gold) else (second, first)
        if formulas.same(marked.node, Node("product", None, (plain.node, HUNDRED))):
            return True
    if same(first, second):
        return True
    return _decimal_comma(first, answer) or _decimal_comma(second, gold)


def _decimal_comma(number: Value, text: str) -> bool:
    """Whether a text is the number with a decimal comma; tried only against a single number, and not for thousands."""
    text = text.replace("{,}", ",").strip("$ ")
    match = re.fullmatch(r"([-+]?)(\d{1,3}(?:\.\d{3})+|\d+),(\d+)", text)
    if not match or not isinstance(number, Formula) or re.fullmatch(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+", text):
        return False
    return same(number, value(f"{match[1]}{match[2].replace('.', '')}.{match[3]}"))


def _units_meet(gold: str, answer: str) -> bool:
    """Whether units are compatible: two known, different units are not."""
    one, other = unit(gold), unit(answer)
    return one == other or not (one in _UNITS and other in _UNITS)


_UNITS = frozenset(
    ("cm", "mm", "km", "m", "kg", "g", "mg", "in", "ft", "yd", "mi", "s", "min", "h", "hr", "L", "mL", "ml")
)


def _number(said: Value) -> Fraction | None:
    said = said.value if isinstance(said, Named) else said
    if isinstance(said, Formula) and said.node.kind == "number":
        return Fraction(said.node.value)  # type: ignore[arg-type]
    return None


def _numbers_meet(gold: str, answer: str, first: Fraction, second: Fraction) -> bool:
    if first == second or _rounded(first, second) or _rounded(second, first):
        return True
    if percent(gold) and not percent(answer):
        return first / 100 == second
    return percent(answer) and not percent(gold) and second / 100 == first


def _rounded(exact: Fraction, given: Fraction) -> bool:
    """Whether a decimal of at least six places is a non-terminating fraction, rounded or truncated."""
    if _finite(exact) or not _finite(given):
        return False
    places = next(k for k in range(2 * formulas.DIGITS) if 10**k % given.denominator == 0)
    return places >= 6 and abs(exact - given) < Fraction(1, 10**places)


def _finite(number: Fraction) -> bool:
    """Whether a number has a finite decimal expansion."""
    rest = number.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def same(first: Value, second: Value) -> bool:
    """Whether two values are equal, regardless of their names."""
    if first == second:
        return True
    if isinstance(first, Beside) or isinstance(second, Beside):
        return _beside(first, second)
    if isinstance(first, Named) or isinstance(second, Named):
        return _named(first, second)
    if isinstance(first, Formula) and isinstance(second, Formula):
        return _formulas(first, second)
    if isinstance(first, Matrix) or isinstance(second, Matrix):
        return _matrices(first, second)
    if (
        isinstance(first, Relation | Union)
        or isinstance(second, Relation | Union)
        or _of_relations(first)
        or _of_relations(second)
        or _LINE_SAID in (first, second)
    ):
        return _sets(first, second)
    if isinstance(first, Items) or isinstance(second, Items):
        return _items(first, second)
    return isinstance(first, Words) and isinstance(second, Words) and first.text == second.text


_LINE_SAID = Words(r"\mathbb{R}")


def _of_relations(said: Value) -> bool:
    return isinstance(said, Items) and any(isinstance(p, Relation) and set(p.signs) != {"="} for p in said.parts)


def _formulas(first: Formula, second: Formula) -> bool:
    one, other = first.node, second.node
    if formulas.same(one, other):
        return True
    if formulas.in_degrees(one) != formulas.in_degrees(other):
        return formulas.same(one, other, None)
    return _constants_of_integration(one, other)


def _constants_of_integration(one: Node, other: Node) -> bool:
    """``x^2 + c`` is ``x^2 + C``."""
    names, others = formulas.symbols(one), formulas.symbols(other)
    if names ^ others != {"c", "C"}:
        return False
    (here,), (there,) = names - others, others - names
    renamed = formulas.substituted(one, here, Node("symbol", there))
    return any(t == Node("symbol", here) for t in one.args) and one.kind == "sum" and formulas.same(renamed, other)


def _beside(first: Value, second: Value) -> bool:
    if isinstance(first, Beside) and isinstance(second, Beside):
        if first.kind != second.kind or first.text != second.text:
            return False
        if same(first.value, second.value):
            return True
        one, other = _number(first.value), _number(second.value)
        if first.kind != "mod" or one is None or other is None or not first.text.isdigit():
            return False
        return int(first.text) > 0 and (one - other) % int(first.text) == 0
    one_side, other_side = (first.value, second) if isinstance(first, Beside) else (first, second.value)  # type: ignore[union-attr]
    return same(one_side, other_side)


def _named(first: Value, second: Value) -> bool:
    if isinstance(first, Named) and isinstance(second, Named) and "," in first.name and "," in second.name:
        names, others = first.name.split(","), second.name.split(",")
        inner = second.value
        if sorted(names) == sorted(others) and isinstance(inner, Items) and len(inner.parts) == len(names):
            by_name = dict(zip(others, inner.parts, strict=True))
            return same(first.value, Items(inner.left, tuple(by_name[n] for n in names), inner.right))
    for one, other in ((first, second), (second, first)):
        if isinstance(one, Named) and isinstance(other, Relation):
            return isinstance(one.value, Formula) and other.signs == ("=",) and _solved(one, other)
    bare, other_bare = (s.value if isinstance(s, Named) else s for s in (first, second))
    return same(bare, other_bare)


def _solved(named: Named, equation: Relation) -> bool:
    """Whether an equation is equivalent to a formula for one of its letters."""
    nodes = [s.node for s in equation.sides if isinstance(s, Formula)]
    assert isinstance(named.value, Formula)
    if len(nodes) != 2 or named.name not in formulas.symbols(_minus(*nodes)):
        return False
    other = _minus(Node("symbol", named.name), named.value.node)
    if formulas.proportional(other, _minus(*nodes)):
        return True
    at = [formulas.substituted(_minus(*nodes), named.name, Node("number", Fraction(k))) for k in range(3)]
    affine = formulas.nothing(
        Node(
            "sum", None, (at[0], at[2], formulas.negative(Node("product", None, (Node("number", Fraction(2)), at[1]))))
        )
    )
    solved = formulas.substituted(_minus(*nodes), named.name, named.value.node)
    return affine and not formulas.same(at[0], at[1]) and formulas.nothing(solved)


def _minus(first: Node, second: Node) -> Node:
    return Node("sum", None, (first, formulas.negative(second)))


def _matrices(first: Value, second: Value) -> bool:
    if isinstance(first, Matrix) and isinstance(second, Matrix):
        if [len(r) for r in first.rows] != [len(r) for r in second.rows]:
            return False
        pairs = zip((c for r in first.rows for c in r), (c for r in second.rows for c in r), strict=True)
        return all(same(a, b) for a, b in pairs)
    matrix, other = (first, second) if isinstance(first, Matrix) else (second, first)
    assert isinstance(matrix, Matrix)
    if isinstance(other, Items) and other.left in ("(", "[") and min(len(matrix.rows), len(matrix.rows[0])) == 1:
        cells = [c for r in matrix.rows for c in r]
        return len(cells) == len(other.parts) and all(same(a, b) for a, b in zip(cells, other.parts, strict=True))
    return False


def _items(first: Value, second: Value) -> bool:
    if not (isinstance(first, Items) and isinstance(second, Items)):
        items, other = (first, second) if isinstance(first, Items) else (second, first)
        assert isinstance(items, Items)
        return items.left == r"\{" and all(same(part, other) for part in items.parts)
    if first.left == r"\{" and second.left == r"\{":
        return _unordered(first.parts, second.parts)
    if first.left == r"\{" or second.left == r"\{":
        return _assigned(first, second) or _assigned(second, first)
    brackets = (first.left, first.right), (second.left, second.right)
    if brackets[0] != brackets[1] and not (len(first.parts) > 2 and set(brackets) == {("(", ")"), ("[", "]")}):
        return False
    return len(first.parts) == len(second.parts) and all(
        same(a, b) for a, b in zip(first.parts, second.parts, strict=True)
    )


def _assigned(assigned: Items, ordered: Items) -> bool:
    """Whether assignments such as ``x = 2, y = 3`` equal a tuple such as ``(2, 3)``."""
    if ordered.left != "(" or not all(isinstance(p, Named) for p in assigned.parts):
        return False
    by_name = sorted((p for p in assigned.parts if isinstance(p, Named)), key=lambda p: p.name)
    return len(by_name) == len(ordered.parts) and all(
        same(a.value, b) for a, b in zip(by_name, ordered.parts, strict=True)
    )


def _unordered(first: tuple[Value, ...], second: tuple[Value, ...]) -> bool:
    """Whether each value of one side equals a value of the other."""
    shared = set(first) & set(second)
    ones, others = [v for v in first if v not in shared], [v for v in second if v not in shared]
    if len(ones) * len(others) > PAIRS:
        return False
    return all(any(_same_item(a, b) for b in second) for a in ones) and all(
        any(_same_item(a, b) for a in first) for b in others
    )


def _same_item(first: Value, second: Value) -> bool:
    if isinstance(first, Named) and isinstance(second, Named):
        return first.name == second.name and same(first.value, second.value)
    return same(first, second)


# -- sets of real numbers --------------------------------------------------------------------------------------------

Piece = tuple[Node, bool, Node, bool]  # from, included, to, included
_OO = Node("constant", "oo")
_MINUS_OO = formulas.negative(_OO)
_LINE: Piece = (_MINUS_OO, False, _OO, False)


def real(said: Value) -> list[Piece] | None:
    """The real intervals that an answer denotes, in order; None if it denotes none."""
    if isinstance(said, Words):
        return [_LINE] if said.text == r"\mathbb{R}" else [] if said.text == r"\emptyset" else None
    if isinstance(said, Relation):
        return _solutions(said)
    if isinstance(said, Items):
        return _pieces_of_items(said)
    if isinstance(said, Formula) and not formulas.symbols(said.node):
        return [(said.node, True, said.node, True)]
    if not isinstance(said, Union):
        return None
    sets = [real(p) for p in said.parts]
    if any(s is None for s in sets):
        return None
    known = [s for s in sets if s is not None]
    if said.sign == r"\cup":
        return _ordered([p for s in known for p in s])
    rest = known[0]
    for other in known[1:]:
        found = _common(rest, other if said.sign == r"\cap" else _complement(other))
        if found is None:
            return None
        rest = found
    return rest


def _pieces_of_items(said: Items) -> list[Piece] | None:
    if said.left in ("(", "[") and said.right in (")", "]") and len(said.parts) == 2:
        ends = [p.node for p in said.parts if isinstance(p, Formula)]
        return [(ends[0], said.left == "[", ends[1], said.right == "]")] if len(ends) == 2 else None
    if said.left != r"\{":
        return None
    sets = [real(p) for p in said.parts]
    if any(s is None for s in sets):
        return None
    known = [s for s in sets if s is not None]
    if not any(isinstance(p, Relation) for p in said.parts) or "or" in said.words:
        return _ordered([p for s in known for p in s])
    common: list[Piece] | None = known[0]
    for other in known[1:]:
        common = None if common is None else _common(common, other)
    return common or (_ordered([p for s in known for p in s]) if "and" not in said.words else [])


def _solutions(said: Relation) -> list[Piece] | None:
    """A relation such as ``3 < x \\le 5`` as intervals; it needs one letter, bounded by terms without it."""
    sides, signs = _oriented(said)
    letters = [i for i, s in enumerate(sides) if isinstance(s, Formula) and s.node.kind == "symbol"]
    if not all(isinstance(s, Formula) for s in sides) or len(sides) > 3 or not letters:
        return None
    nodes = [s.node for s in sides if isinstance(s, Formula)]
    place = 1 if len(sides) == 3 else letters[0]
    if nodes[place].kind != "symbol" or any(formulas.symbols(n) for i, n in enumerate(nodes) if i != place):
        return None
    if signs == [r"\ne"]:
        end = nodes[1 - place]
        return [(_MINUS_OO, False, end, False), (end, False, _OO, False)]
    if not set(signs) <= {"<", r"\le"}:
        return None
    low = (nodes[place - 1], signs[place - 1] == r"\le") if place else (_MINUS_OO, False)
    high = (nodes[place + 1], signs[place] == r"\le") if place + 1 < len(nodes) else (_OO, False)
    return [(*low, *high)]


def _oriented(said: Relation) -> tuple[list[Value], list[str]]:
    """Sides and signs, ordered from the smaller to the larger side."""
    if set(said.signs) <= {">", r"\ge"}:
        return list(reversed(said.sides)), [FLIPPED[s] for s in reversed(said.signs)]
    return list(said.sides), list(said.signs)


def _at(node: Node) -> float:
    known = formulas.approximate(node)
    if known is None:
        raise UnreadError("no real number")
    return known


def _ordered(pieces: list[Piece]) -> list[Piece] | None:
    """Pieces in order, with adjacent ones merged."""
    if len(pieces) < 2:
        return pieces
    try:
        pieces = sorted(pieces, key=lambda p: (_at(p[0]), _at(p[2])))
        joined = [pieces[0]]
        for low, low_in, high, high_in in pieces[1:]:
            last = joined[-1]
            if _at(low) < _at(last[2]) or (_at(low) == _at(last[2]) and (low_in or last[3])):
                if _at(high) > _at(last[2]) or (_at(high) == _at(last[2]) and high_in):
                    joined[-1] = (last[0], last[1], high, high_in)
            else:
                joined.append((low, low_in, high, high_in))
    except UnreadError:
        return None
    return joined


def _complement(pieces: list[Piece]) -> list[Piece]:
    rest, low, low_in = [], _MINUS_OO, False
    for start, start_in, end, end_in in pieces:
        rest.append((low, low_in, start, not start_in))
        low, low_in = end, not end_in
    return [p for p in [*rest, (low, low_in, _OO, False)] if p[0] != p[2]]


def _common(ones: list[Piece], others: list[Piece]) -> list[Piece] | None:
    try:
        both = []
        for a in ones:
            for b in others:
                low, low_in = max(((a[0], a[1]), (b[0], b[1])), key=lambda e: (_at(e[0]), not e[1]))
                high, high_in = min(((a[2], a[3]), (b[2], b[3])), key=lambda e: (_at(e[0]), e[1]))
                if _at(low) < _at(high) or (_at(low) == _at(high) and low_in and high_in):
                    both.append((low, low_in, high, high_in))
    except UnreadError:
        return None
    return _ordered(both)


def _sets(first: Value, second: Value) -> bool:
    """Whether two sets of numbers, or two relations, are equal."""
    ones, others = real(first), real(second)
    if ones is not None and others is not None:
        return len(ones) == len(others) and all(
            a[1] == b[1] and a[3] == b[3] and formulas.same(a[0], b[0]) and formulas.same(a[2], b[2])
            for a, b in zip(ones, others, strict=True)
        )
    if isinstance(first, Relation) and isinstance(second, Relation):
        return _relations(first, second)
    if isinstance(first, Union) and isinstance(second, Union) and first.sign == second.sign:
        if first.sign == r"\setminus":
            return len(first.parts) == len(second.parts) and all(
                same(a, b) for a, b in zip(first.parts, second.parts, strict=True)
            )
        return _unordered(first.parts, second.parts)
    if isinstance(first, Items) and isinstance(second, Items):
        return _items(first, second)
    return False


def _relations(first: Relation, second: Relation) -> bool:
    if first.signs == second.signs == ("=",):
        nodes = [s.node for r in (first, second) for s in r.sides if isinstance(s, Formula)]
        if len(nodes) == 4:
            return formulas.proportional(_minus(*nodes[:2]), _minus(*nodes[2:]))
    (sides, signs), (others, other_signs) = _oriented(first), _oriented(second)
    if signs != other_signs:
        return False
    if set(signs) == {r"\ne"} and len(sides) == 2 and not same(sides[0], others[0]):
        others.reverse()
    return all(same(a, b) for a, b in zip(sides, others, strict=True))
