"""When two written answers are equal: one canonical string for a vote, and math-verify for the gold answer.

Policy. Degree and percent signs, currencies and units behind a number are dropped; ``equivalent`` also lets 50% equal
0.5. ``1,000`` is a thousand, ``100, 200`` (or braces) a set, whose order and repetition do not matter; in ``(a, b)``
and ``[a, b)`` order does. ``x = 5`` is 5, ``m + n = 5`` too, ``x + y = 1`` is an equation. Words are compared without
case, single letters as votes with it. Decimals are exact: 0.333 is not 1/3 as a vote.

A model writes anything, so all work on an answer is bounded: patterns see ``LONGEST`` characters, the reader of formulas
``LENGTH`` of them without words (it calls by name what sympy has, and evaluates no Python), evaluation numbers of ``DIGITS``
digits, and reading, simplifying and comparing take ``SECONDS`` each, by an alarm. Beyond a bound an answer is its text.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from typing import Any

from harness.api import PathpruneError
from tasks.notation import NAMED, exact, flat, join, matrix, number, opened, relation, signs, split, tidy, wordy

SECONDS = 5  # for reading, simplifying and comparing, each
LENGTH = 300  # characters; no longer answer is read as a formula
LONGEST = 5000  # characters; a longer answer is a text
DIGITS = 4000  # a formula with a longer number in it stays unevaluated
_UNREAD = re.compile(
    r"\\(?:sum|prod|int|lim|partial|nabla|overline|begin)\b|\d_|:|!!"
    r"|(?<!frac )(?<!binom )(?<!_)\d +\d|\.\d*\."  # sympy reads 1 000 and 1.000 as products
    r"|\\binom(?!(?:\s*(?:\{\w{1,4}\}|\w)){2})"
)


def canonical(answer: str) -> str:
    """One string for all ways to write an answer; it is its own canonical form.

    A formula that sympy cannot read, or not within ``SECONDS``, keeps its text, normalised for white space.
    """
    return _canonical(answer)


@lru_cache(maxsize=65536)
def _canonical(answer: str) -> str:
    if len(answer) > LONGEST:
        return flat(answer)
    answer = " ".join(answer.split())  # patterns try every part of a long run
    form = _form(tidy(answer))
    for _ in range(3):
        again = _form(tidy(form))
        if again == form:
            return form
        form = again
    return flat(answer)


def equivalent(gold: str, answer: str) -> bool:
    """Whether an answer equals the gold answer: as canonical strings, else by math-verify.

    More than ``SECONDS`` to compare counts as not equal; every other failure is raised. Two different numbers with
    finitely many decimals are never equal, 1/3 and 0.333333 are (math-verify rounds to six decimals).
    """
    first, second = canonical(gold), canonical(answer)
    if first == second or len(answer) > LONGEST:
        return first == second
    if percent(gold) != percent(answer):
        first, second = (f"({c})/100" if percent(s) else c for c, s in ((first, gold), (second, answer)))
        return canonical(first) == canonical(second)
    return not (_finite(first) and _finite(second)) and _verified(tidy(gold), tidy(answer))


def percent(answer: str) -> bool:
    """Whether an answer is written as a percentage."""
    return bool(re.search(r"(?:%|\bpercent\b)[\s.$}]*$", answer))


def _finite(form: str) -> bool:
    """Whether a canonical form is a number with finitely many decimals."""
    value = number(form)
    if value is None:
        return False
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    return rest == 1


def _form(text: str) -> str:
    """The canonical form of a tidy text, part by part."""
    sides = relation(text)
    if wordy(text):
        return _form(sides[0]) if sides and len(sides) == 1 else flat(text)
    if cells := matrix(text):
        return r"\begin{pmatrix}" + r"\\".join("&".join(map(_form, row)) for row in cells) + r"\end{pmatrix}"
    if len(parts := split(text, r"\\cup\b")) > 1:
        return r"\cup".join(sorted({_form(p) for p in parts}))
    if bracket := opened(text):
        left, inside, right = bracket
        parts = [s for p in split(inside, "[,;]") for s in signs(p)]
        if left == r"\{" or len(parts) > 1:
            return join(left, _unnamed(parts), right)
    if len(parts := [s for p in split(text, "[,;]") for s in signs(p)]) > 1:
        return join(r"\{", _unnamed(parts), r"\}")
    if (part := exact(text)) != text:
        return _form(part)
    if sides:
        return "=".join(_form(s) for s in sides)
    return _atom(text)


def _unnamed(parts: list[str]) -> list[str]:
    """Canonical elements; the name in "x = 2, x = 3" goes, those in "x = 2, y = 3" stay."""
    names = {p.partition("=")[0].strip() for p in parts if NAMED.match(p)}
    if len(names) < 2:
        return [_form(p) for p in parts]
    return ["=".join(_form(side) for side in p.split("=")) for p in parts]


def _atom(text: str) -> str:
    """The canonical form of one formula, number or letter."""
    if (value := number(text)) is not None:
        return str(value)
    if letter := re.fullmatch(r"\(?([A-Za-z])\)?", text):
        return letter[1]
    expression = _expression(text)
    if expression is None:
        return flat(text)
    from math_verify.errors import TimeoutException
    from math_verify.utils import timeout

    try:
        return timeout(SECONDS)(_printed)(expression) or flat(text)
    except (TimeoutException, ArithmeticError, TypeError, ValueError, NotImplementedError, RecursionError):
        return flat(text)


@lru_cache(maxsize=4096)
def _expression(text: str) -> Any:
    """The unevaluated sympy object that math-verify reads, or None where it reads none that is safe to evaluate."""
    if len(text) > LENGTH or wordy(text) or _UNREAD.search(text):
        return None
    _main_thread()
    import sympy
    from math_verify import LatexExtractionConfig, parse
    from math_verify.errors import TimeoutException
    from math_verify.parser import NormalizationConfig

    rules = NormalizationConfig(units=False, malformed_operators=True, nits=True, boxed="last")
    reader = LatexExtractionConfig(try_extract_without_anchor=False, boxed_match_priority=0, normalization_config=rules)
    try:
        expressions = parse(rf"\boxed{{{text}}}", [reader], "no_fallback", parsing_timeout=SECONDS, raise_on_error=True)
    except TimeoutException:
        return None
    endless = (sympy.oo, -sympy.oo, sympy.zoo, sympy.nan)
    if (
        not expressions
        or _digits(_exact(expressions[0])) > DIGITS
        or (isinstance(expressions[0], sympy.Expr) and expressions[0].has(*endless))
    ):
        return None
    return expressions[0]


@lru_cache(maxsize=65536)
def _verified(gold: str, answer: str) -> bool:
    first, second = _expression(gold), _expression(answer)
    if first is None or second is None:
        return False
    from math_verify import verify
    from math_verify.errors import TimeoutException

    try:
        return bool(verify(first, second, timeout_seconds=SECONDS, raise_on_error=True))
    except TimeoutException:
        return False


def _main_thread() -> None:
    if threading.current_thread() is not threading.main_thread():
        raise PathpruneError("formulas are compared under a time limit, which needs the main thread: grade there")


def _exact(expression: Any) -> Any:
    """The expression with its decimals as fractions."""
    import sympy

    return expression.xreplace({f: sympy.Rational(str(f)) for f in expression.atoms(sympy.Float)})


def _digits(expression: Any) -> float:
    """A bound on the digits of the numbers that evaluating an expression makes; infinite where there is none."""
    import sympy

    if isinstance(expression, sympy.Rational):
        return (abs(expression.p).bit_length() + expression.q.bit_length()) * 0.302
    if isinstance(expression, sympy.Sum | sympy.Product | sympy.Integral | sympy.Limit | sympy.Derivative):
        return float("inf")
    sizes = [_digits(a) for a in expression.args] or [1.0]
    if isinstance(expression, sympy.Pow | sympy.exp):
        exponent = expression.args[-1].doit() if sizes[-1] <= DIGITS else sympy.oo
        return sizes[0] * max(1.0, float(abs(exponent))) if exponent.is_Rational or exponent.is_infinite else sizes[0]
    if isinstance(expression, sympy.factorial | sympy.factorial2 | sympy.gamma):
        return float(expression.args[0]) * sizes[0] if isinstance(expression.args[0], sympy.Integer) else float("inf")
    return sum(sizes)


def _printed(expression: Any) -> str | None:
    """The expression evaluated, expanded and in LaTeX; None where that is no finite formula."""
    import sympy

    if not isinstance(expression, sympy.Expr):
        return None
    value = _exact(expression).doit()
    value = value.subs({s: sympy.I for s in value.free_symbols if s.name == "i"})
    if value.has(sympy.nan, sympy.zoo):
        return None
    powers = [p.exp for p in value.atoms(sympy.Pow) if p.base.is_Add]
    if sympy.count_ops(value) < 100 and all(abs(p) <= 12 for p in powers if p.is_Rational):
        value = sympy.radsimp(sympy.expand(sympy.sqrtdenest(value)))
        value = sympy.cancel(value) if value.free_symbols and value.is_rational_function() else sympy.expand(value)
    return str(value) if value.is_Rational else sympy.latex(value, ln_notation=True)
