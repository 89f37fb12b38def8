"""Formulas: parsing of a line of LaTeX or plain notation to a tree, exact comparison, and simplification.

The parser covers the notation of answers and has to consume the whole text. Unknown or ambiguous notation (``1/2\\pi``,
``3 4``) is not a formula. Parsing evaluates nothing, so the size of a formula's value is bounded before anything is
computed. Letters are case-sensitive.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

LENGTH = 300  # characters; longer texts are not parsed as formulas
DEPTH = 25  # levels of brackets and arguments
DIGITS = 4000  # a formula whose value may need more is not computed
GUARD = 40  # digits beyond those of the numbers compared
POINTS = 5  # at which formulas with letters are compared


class UnreadError(ValueError):
    """A text that is not a formula, is ambiguous, or denotes a value too large to compute."""


class Node(NamedTuple):
    """A formula: nodes ``number`` and ``symbol`` have a value, the others have arguments."""

    kind: str  # number, symbol, constant, sum, product, power, or the name of a function
    value: Fraction | str | None = None
    args: tuple[Node, ...] = ()


MINUS_ONE = Node("number", Fraction(-1))
DEGREE = Node("constant", "degree")

_GREEK = re.compile(
    "alpha|beta|gamma|delta|(?:var)?epsilon|zeta|eta|(?:var)?theta|iota|kappa|lambda|mu|nu|xi|rho|sigma|tau|upsilon|(?:var)?phi|chi|psi|omega|"
    "Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega|ell|hbar"
)
_CONSTANTS = {"pi": "pi", "infty": "oo"}
_TRIGONOMETRIC = ("sin", "cos", "tan", "cot", "sec", "csc")
_INVERSES = {
    **{f"arc{name}": f"a{name}" for name in _TRIGONOMETRIC},
    **{f"a{name}": f"a{name}" for name in _TRIGONOMETRIC},
}
_HYPERBOLIC = ("sinh", "cosh", "tanh", "coth")
_OF_ONE = {**{name: name for name in (*_TRIGONOMETRIC, *_HYPERBOLIC, "exp", "ln", "log", "lg")}, **_INVERSES}
_OF_LISTS = ("gcd", "lcm", "max", "min")
_ROUNDING = {"\\lfloor": ("\\rfloor", "floor"), "\\lceil": ("\\rceil", "ceiling")}
_APPLIED = frozenset("fgh")  # letters that denote functions before a bracket
_TOKEN = re.compile(
    r"(?P<number>\d+(?:\.\d*)?|\.\d+)|(?P<command>\\(?:[A-Za-z]+|[{}|]))|(?P<letter>[A-Za-z])|(?P<mark>[-+*/^_!'(){}\[\]|,])"
    r"|(?P<space>\s+)"
)


_NAMES_IN_PLAIN = (
    "sqrt|pi|sin|cos|tan|cot|sec|csc|ln|log|exp|arcsin|arccos|arctan|sinh|cosh|tanh|gcd|lcm|max|min|lg|binom|floor|ceil"
)
_NAMES_IN_PLAIN += "|theta|alpha|beta|gamma|delta|lambda|sigma|omega|phi|infty"
_SHORTHAND: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (rf"(?<![\\A-Za-z])({_NAMES_IN_PLAIN})(?![A-Za-z])", r"\\\1"),
        (r"(?<![\\A-Za-z])(?:infinity|inf|oo)(?![A-Za-z])", r"\\infty "),
        (r"\\binom\s*\(([^(),]+),([^(),]+)\)", r"\\binom{\1}{\2}"),
        (r"(?:\{\s*\}|(?<![\w})]))\s*[\^_]\s*\{?(\w+)\}?\s*C\s*_\s*\{?(\w+)\}?", r"\\binom{\1}{\2}"),
        (r"\\floor\s*\(([^()]*)\)", r"\\lfloor \1\\rfloor "),
        (r"\\ceil\s*\(([^()]*)\)", r"\\lceil \1\\rceil "),
        (r"\^\s*(?:\{\s*)?('+)(?:\s*\})?", r"\1"),
        (r"\*\*", "^"),
        (r"\\sqrt\s*(\[\s*\d+\s*\])?\s*\(((?:[^()]|\([^()]*\))*)\)", r"\\sqrt\1{\2}"),
        (r"\\sqrt\s*(\[\s*\d+\s*\])?\s*(\d+(?:\.\d+)?)", r"\\sqrt\1{\2}"),
        (r"\^\s*(-?\d{2,}|-\d)", r"^{\1}"),
        (r"\^\s*\(((?:[^()]|\([^()]*\))*)\)", r"^{\1}"),
        (r"(?<=[\d.])\s*[eE]\s*\{?\s*([-+]?\d{1,3})(?![\d.])", r"\\cdot 10^{\1}"),
    )
)


def longhand(text: str) -> str:
    """Expand shorthand in a tidy formula: plain names become commands, and arguments get braces."""
    for pattern, new in _SHORTHAND:
        text = pattern.sub(new, text)
    return text


class Token(NamedTuple):
    """A piece of a formula's text."""

    kind: str
    text: str
    spaced: bool  # preceded by white space


def _tokens(text: str) -> list[Token]:
    tokens, place, spaced = [], 0, False
    while place < len(text):
        match = _TOKEN.match(text, place)
        if not match:
            raise UnreadError(text[place])
        place = match.end()
        if match["space"]:
            spaced = True
            continue
        tokens.append(Token(str(match.lastgroup), match[0], spaced))
        spaced = False
    return tokens


def read(text: str) -> Node:
    """Parse a formula.

    Args:
        text: a formula in tidy notation (``tasks.notation.tidy``).

    Raises:
        UnreadError: the text is not a formula, is ambiguous, or is too large.
    """
    if len(text) > LENGTH:
        raise UnreadError("too long")
    node = _Reader(_tokens(text)).whole()
    if size(node) > DIGITS:
        raise UnreadError("too large")
    return node


class _Reader:
    """A recursive-descent parser; each method reads one grammar rule and moves ``place`` past it."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.tokens, self.place, self.depth = tokens, 0, 0
        self.bars = 0  # open absolute values

    def whole(self) -> Node:
        node = self.group()
        if self.place < len(self.tokens):
            raise UnreadError(self.tokens[self.place].text)
        return node

    def group(self) -> Node:
        """A sum, or two sums separated by one of TeX's old infix commands, which apply to a whole group."""
        node = self.sum()
        if self.peek() == "\\over":
            self.take()
            return Node("product", None, (node, Node("power", None, (self.sum(), MINUS_ONE))))
        if self.peek() == "\\choose":
            self.take()
            return Node("binomial", None, (node, self.sum()))
        return node

    def peek(self, ahead: int = 0) -> str:
        place = self.place + ahead
        return self.tokens[place].text if place < len(self.tokens) else ""

    def kind(self) -> str:
        return self.tokens[self.place].kind if self.place < len(self.tokens) else ""

    def take(self, text: str = "") -> str:
        found = self.peek()
        if not found or (text and found != text):
            raise UnreadError(f"{found!r} for {text!r}")
        self.place += 1
        return found

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > DEPTH:
            raise UnreadError("too deep")
        terms = [self.signed()]
        while self.peek() in ("+", "-"):
            sign = self.take()
            term = self.product()
            terms.append(negative(term) if sign == "-" else term)
        self.depth -= 1
        return terms[0] if len(terms) == 1 else Node("sum", None, tuple(terms))

    def signed(self) -> Node:
        if self.peek() in ("+", "-"):
            return self.product() if self.take() == "+" else negative(self.product())
        return self.product()

    def product(self) -> Node:
        """Factors side by side, times and over, from left to right."""
        factors = [self.factor()]
        divided = False  # the last factor is a bare denominator, and the text after it may belong to it
        while True:
            if self.peek() in ("*", "\\cdot", "\\times"):
                self.take()
                factors.append(self.factor(signed=True))
                divided = False
            elif self.peek() in ("/", "\\div"):
                self.take()
                bracketed = self.peek() in ("(", "[", "{", "\\frac")
                factors.append(Node("power", None, (self.factor(signed=True), MINUS_ONE)))
                divided = not bracketed
            elif self.starts_factor():
                if self.kind() == "number" and not (self.peek(1) == "^" and factors[-1].kind == "symbol"):
                    raise UnreadError("a number behind a factor")
                if divided and not self.tokens[self.place].spaced:
                    raise UnreadError("a denominator with two ends")
                factors.append(self.factor())
            else:
                return factors[0] if len(factors) == 1 else Node("product", None, tuple(factors))

    def starts_factor(self) -> bool:
        text = self.peek()
        if self.kind() in ("number", "letter"):
            return True
        if text == "|":
            return not self.bars
        if text.startswith("\\"):
            name = text[1:]
            return (
                text in _ROUNDING
                or name in _CONSTANTS
                or name in _OF_ONE
                or name in _OF_LISTS
                or name in ("frac", "sqrt", "binom", "operatorname", "bar", "hat", "lvert", "circ", "mathrm")
                or _GREEK.fullmatch(name) is not None
            )
        return text in ("(", "{", "[")

    def factor(self, signed: bool = False) -> Node:
        """An operand with its exponents, postfix marks and indices."""
        if signed and self.peek() in ("+", "-"):
            return negative(self.factor(True)) if self.take() == "-" else self.factor(True)
        node = self.operand()
        while True:
            text = self.peek()
            if text == "^":
                self.take()
                if self.degree():
                    node = Node("product", None, (node, DEGREE))
                    continue
                node = Node("power", None, (node, self.argument(raised=True)))
            elif text == "!":
                self.take()
                double = self.peek() == "!" and not self.tokens[self.place].spaced
                if double:
                    self.take()
                node = Node("factorial2" if double else "factorial", None, (node,))
            else:
                return node

    def degree(self) -> bool:
        """Consume a degree sign after ``^``, if there is one."""
        for form in (("\\circ",), ("{", "\\circ", "}")):
            if tuple(self.peek(i) for i in range(len(form))) == form:
                self.place += len(form)
                return True
        return False

    def operand(self) -> Node:
        kind, text = self.kind(), self.take()
        if kind == "number":
            return self.number(text)
        if kind == "letter":
            return self.letter(text)
        if kind == "command":
            return self.command(text)
        if text == "|":
            return self.bar("|")
        closing = {"(": ")", "{": "}", "[": "]"}.get(text)
        if not closing:
            raise UnreadError(text)
        return self.enclosed(closing)

    def enclosed(self, closing: str) -> Node:
        bars, self.bars = self.bars, 0
        node = self.group()
        self.take(closing)
        self.bars = bars
        return node

    def bar(self, closing: str) -> Node:
        self.bars += 1
        node = self.sum()
        self.take(closing)
        self.bars -= 1
        return Node("abs", None, (node,))

    def number(self, text: str) -> Node:
        """A number, or a mixed number if a proper fraction follows."""
        value = Fraction(text.rstrip(".") if text != "." else "")
        if self.peek() == "_":
            raise UnreadError("a number with an index")
        if self.peek() == "\\frac" and "." not in text:
            start = self.place
            self.take()
            top, bottom = self.argument(), self.argument()
            if top.kind == bottom.kind == "number":
                part = Fraction(top.value) / Fraction(bottom.value) if bottom.value else Fraction(1)  # type: ignore[arg-type]
                if not 0 < part < 1:
                    raise UnreadError("no mixed number")
                return Node("number", value + part)
            self.place = start
        return Node("number", value)

    def letter(self, text: str) -> Node:
        if text in ("C", "P") and self.peek() == "(":
            start = self.place
            args = self.list()
            if len(args) == 2:
                return Node("binomial" if text == "C" else "permutations", None, tuple(args))
            self.place = start
        if text == "e":
            return Node("constant", "e")
        if text == "i" and self.peek() != "_":
            return Node("constant", "i")
        return self.symbol(text)

    def symbol(self, name: str) -> Node:
        """A name with its primes and index; for a function, with its arguments."""
        while self.peek() == "'":
            name += self.take()
        if self.peek() == "_":
            self.take()
            name += f"_{{{self.raw()}}}"
        applied = name[0] in _APPLIED or "'" in name
        if self.peek() == "^" and applied and self.inverse():
            name += "^{-1}"
        if applied and self.peek() == "(":
            name += f"({','.join(map(source, self.list()))})"
        return Node("symbol", name)

    def raw(self) -> str:
        """An index as written: one token, or the content of braces."""
        if self.peek() != "{":
            return self.take()
        self.take()
        parts: list[str] = []
        depth = 1
        while True:
            text = self.take()
            depth += (text == "{") - (text == "}")
            if not depth:
                return "".join(parts)
            parts.append(text)

    def list(self) -> list[Node]:
        closing = "\\}" if self.peek() == "\\{" else ")"
        self.take("\\{" if closing == "\\}" else "(")
        args = [self.sum()]
        while self.peek() == ",":
            self.take()
            args.append(self.sum())
        self.take(closing)
        return args

    def command(self, text: str) -> Node:
        name = text[1:]
        if name == "operatorname":
            self.take("{")
            name = self.raw_name()
        if name in _CONSTANTS:
            return Node("constant", _CONSTANTS[name])
        if _GREEK.fullmatch(name):
            return self.symbol(f"\\{name}")
        if name in ("bar", "hat"):
            return self.symbol(f"\\{name}{{{self.raw()}}}")
        if name == "frac":
            top, bottom = self.argument(), self.argument()
            return Node("product", None, (top, Node("power", None, (bottom, MINUS_ONE))))
        if name == "binom":
            return Node("binomial", None, (self.argument(), self.argument()))
        if name == "sqrt":
            return self.root()
        if name == "lvert":
            return self.bar("\\rvert")
        if text in _ROUNDING:
            closing, rounding = _ROUNDING[text]
            return Node(rounding, None, (self.enclosed(closing),))
        if name in _OF_LISTS:
            return Node(name, None, tuple(self.list()))
        if name == "log":
            return self.logarithm()
        if name in _OF_ONE:
            return self.function(_OF_ONE[name])
        raise UnreadError(text)

    def raw_name(self) -> str:
        name = ""
        while self.peek() != "}":
            name += self.take()
        self.take("}")
        return name

    def root(self) -> Node:
        index: Node = Node("number", Fraction(2))
        if self.peek() == "[":
            self.take()
            index = self.sum()
            self.take("]")
        return Node("root", None, (self.argument(), index))

    def logarithm(self) -> Node:
        base = None
        if self.peek() == "_":
            self.take()
            base = self.argument()
        node = self.function("log")
        if base is None:
            return node
        if node.kind == "power":
            inner = Node("log", None, (node.args[0].args[0], base))
            return Node("power", None, (inner, node.args[1]))
        return Node("log", None, (node.args[0], base))

    def function(self, name: str) -> Node:
        power = None
        if self.peek() == "^":
            if self.inverse():
                if name not in _TRIGONOMETRIC:
                    raise UnreadError("an inverse of what?")
                name = f"a{name}"
            else:
                self.take()
                power = self.argument(raised=True)
        node = Node(name, None, (self.applied(),))
        return node if power is None else Node("power", None, (node, power))

    def inverse(self) -> bool:
        """Consume ``^{-1}``, if there is one."""
        form = ("^", "{", "-", "1", "}")
        if tuple(self.peek(i) for i in range(len(form))) != form:
            return False
        self.place += len(form)
        return True

    def applied(self) -> Node:
        """The argument of a function without brackets: ``2x`` in ``\\sin 2x + 1``, but ``x`` in ``\\sin x \\cos x``."""
        if self.peek() in ("(", "{", "["):
            return self.factor_of_brackets()
        factors = [self.factor(signed=not self.peek().startswith("\\"))]
        while self.starts_factor() and self.peek() not in ("(", "[", "{") and self.peek()[1:] not in _OF_ONE:
            if self.kind() == "number":
                raise UnreadError("a number behind a factor")
            factors.append(self.factor())
        if self.peek() == "/":
            if not any(_holds(f, "pi") for f in factors):
                raise UnreadError("an argument with two ends")
            self.take()
            factors.append(Node("power", None, (self.factor(), MINUS_ONE)))
            if self.starts_factor():
                raise UnreadError("an argument with two ends")
        return factors[0] if len(factors) == 1 else Node("product", None, tuple(factors))

    def factor_of_brackets(self) -> Node:
        node = self.operand()
        if self.peek() == "^" and (self.peek(1) == "\\circ" or (self.peek(1), self.peek(2)) == ("{", "\\circ")):
            self.take()
            self.degree()
            return Node("product", None, (node, DEGREE))
        if self.peek() in ("^", "!"):
            raise UnreadError("a bracket with something behind it")
        return node

    def argument(self, raised: bool = False) -> Node:
        """The argument of a TeX command: the content of braces, or one token; of a number, one digit."""
        if self.peek() == "{":
            self.take()
            return self.enclosed("}")
        if raised and self.peek() in ("-", "+"):
            return negative(self.argument(True)) if self.take() == "-" else self.argument(True)
        if self.kind() == "number" and not raised:
            token = self.tokens[self.place]
            if len(token.text) > 1 and token.text[0] != ".":
                rest = Token("number", token.text[1:], False)
                self.tokens = [
                    *self.tokens[: self.place],
                    Token("number", token.text[0], False),
                    rest,
                    *self.tokens[self.place + 1 :],
                ]
            return Node("number", Fraction(self.take()))
        if self.kind() == "letter" and not raised:
            name = self.take()
            return Node("constant", name) if name in "ei" else Node("symbol", name)
        return self.operand()


def negative(node: Node) -> Node:
    """The negative of a formula."""
    if node.kind == "number":
        return Node("number", -Fraction(node.value))  # type: ignore[arg-type]
    return Node("product", None, (MINUS_ONE, node))


def walk(node: Node) -> Iterator[Node]:
    """A node and all below it."""
    yield node
    for arg in node.args:
        yield from walk(arg)


def symbols(node: Node) -> frozenset[str]:
    """The names of symbols in a formula."""
    return frozenset(str(n.value) for n in walk(node) if n.kind == "symbol")


def _holds(node: Node, constant: str) -> bool:
    return any(n.kind == "constant" and n.value == constant for n in walk(node))


def in_degrees(node: Node) -> bool:
    """Whether a formula has a degree sign outside trigonometric functions."""
    if node == DEGREE:
        return True
    return node.kind not in _TRIGONOMETRIC and any(map(in_degrees, node.args))


def endless(node: Node) -> bool:
    """Whether a formula contains infinity."""
    return _holds(node, "oo")


def source(node: Node) -> str:
    """A formula as an unambiguous text, equal for equal trees."""
    if node.value is not None:
        return str(node.value)
    return f"{node.kind}({','.join(map(source, node.args))})"


def size(node: Node) -> float:
    """An upper bound on the digits, before or after the decimal point, of all numbers in computing a formula.

    Raises:
        UnreadError: no bound can be given.
    """
    if node.kind == "number":
        value = Fraction(node.value)  # type: ignore[arg-type]
        return max(1.0, (value.numerator.bit_length() + value.denominator.bit_length()) * 0.302)
    if node.kind in ("symbol", "constant"):
        return 1.0
    sizes = [size(a) for a in node.args]
    total = sum(sizes)
    if total > DIGITS:
        raise UnreadError("too large")
    if node.kind in ("power", "exp", "sinh", "cosh", "tanh", "coth"):
        return max(1.0, sizes[0] if node.kind == "power" else 1.0) * max(1.0, _most(node.args[-1], sizes[-1]))
    if node.kind in ("factorial", "factorial2", "permutations"):
        most = _most(node.args[0], sizes[0])
        return most * math.log10(max(most, 10.0)) + 1
    if node.kind == "binomial":
        return _most(node.args[0], sizes[0]) + total
    return total


def _most(node: Node, digits: float) -> float:
    """An upper bound on the absolute value of a formula with this many digits; letters count as small numbers."""
    import mpmath

    if node.kind == "number":
        return float(abs(value)) if abs(value := Fraction(node.value)) < 10**9 else math.inf  # type: ignore[arg-type]
    if symbols(node) or endless(node):
        return 10.0 * len(node.args or (1,))
    if digits > 300:
        return math.inf
    with mpmath.workdps(15):
        size = _value(node, {"": mpmath.pi / 180, "log": mpmath.mpf(2)})
    return math.inf if size is None or abs(size) > 10**9 else float(abs(size)) + 1


def rational(node: Node) -> Fraction | None:
    """The exact value of a formula of numbers, sums, products and small powers; None for any other."""
    if node.kind == "number":
        return Fraction(node.value)  # type: ignore[arg-type]
    if node.kind not in ("sum", "product", "power"):
        return None
    values = [rational(a) for a in node.args]
    if any(v is None for v in values):
        return None
    known = [v for v in values if v is not None]
    if node.kind == "sum":
        return sum(known, Fraction(0))
    if node.kind == "product":
        return math.prod(known, start=Fraction(1))
    base, exponent = known
    if exponent.denominator != 1 or abs(exponent) > DIGITS or (exponent < 0 and not base):
        return None
    bits = max(base.numerator.bit_length(), base.denominator.bit_length())
    return base**exponent.numerator if bits * abs(exponent) * 0.302 <= DIGITS else None


# -- values: mpmath, to as many digits as tell two formulas apart --------------------------------------------------


def _real(value: Any) -> Any:
    """Check that the value is real."""
    import mpmath

    if isinstance(value, mpmath.mpc):
        if value.imag:
            raise UnreadError("not real")
        return value.real
    return value


def _whole(value: Any) -> int:
    value = _real(value)
    if value != int(value):
        raise UnreadError("not whole")
    return int(value)


def _root(value: Any, index: Any) -> Any:
    import mpmath

    number = _whole(index)
    if number < 2:
        raise UnreadError("no root")
    if number % 2 and not isinstance(value, mpmath.mpc) and value < 0:
        return -mpmath.root(-value, number)  # the real one
    return mpmath.sqrt(value) if number == 2 else mpmath.root(value, number)


def _power(base: Any, exponent: Any) -> Any:
    import mpmath

    if not base and (isinstance(exponent, mpmath.mpc) or exponent <= 0):
        raise UnreadError("zero to no power")
    return mpmath.power(base, exponent)


def _logarithm(value: Any, base: Any) -> Any:
    import mpmath

    return mpmath.log(value) / mpmath.log(base)


@functools.cache
def _functions() -> Mapping[str, Callable[..., Any]]:
    import mpmath

    named = {
        name: getattr(mpmath, name)
        for name in (*_TRIGONOMETRIC, *_HYPERBOLIC, *_INVERSES.values(), "exp", "ln", "floor")
    }
    return named | {
        "ceiling": mpmath.ceil,
        "abs": abs,
        "lg": lambda x: _logarithm(x, 10),
        "log": _logarithm,
        "root": _root,
        "factorial": mpmath.factorial,
        "factorial2": lambda x: mpmath.fac2(_whole(x)),
        "binomial": mpmath.binomial,
        "permutations": lambda n, k: mpmath.ff(n, k),
        "gcd": lambda *args: math.gcd(*map(_whole, args)),
        "lcm": lambda *args: math.lcm(*map(_whole, args)),
        "max": lambda *args: max(map(_real, args)),
        "min": lambda *args: min(map(_real, args)),
    }


def _computed(node: Node, known: Mapping[str, Any]) -> Any:
    """The value of a formula at the working precision; ``known``: values of the names, and of a degree."""
    import mpmath

    if node.kind == "number":
        value = Fraction(node.value)  # type: ignore[arg-type]
        return mpmath.mpf(value.numerator) / value.denominator
    if node.kind == "symbol":
        return known[str(node.value)]
    if node.kind == "constant":
        constants = {"pi": mpmath.pi, "e": mpmath.e, "degree": known[""]}
        if node.value == "i":
            return mpmath.mpc(0, 1)
        if node.value not in constants:
            raise UnreadError(str(node.value))
        return +constants[str(node.value)]
    if node.kind in _TRIGONOMETRIC:
        known = {**known, "": mpmath.pi / 180}
    args = [_computed(a, known) for a in node.args]
    if node.kind == "sum":
        return mpmath.fsum(args)
    if node.kind == "product":
        return mpmath.fprod(args)
    if node.kind == "power":
        return _power(*args)
    if node.kind == "log" and len(args) == 1:
        args.append(known["log"])
    return _functions()[node.kind](*args)


def _points(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Values of the names at which formulas are compared: positive, integer, and finally negative."""
    import mpmath

    for point in range(POINTS):
        values = {}
        for place, name in enumerate(names):
            seed = mpmath.sqrt(2 + 3 * point + 7 * place) + mpmath.mpf(place + 1) / (point + 3)
            values[name] = (
                mpmath.mpf(2 + place + point) if point == POINTS - 2 else -seed if point == POINTS - 1 else seed
            )
        yield values


_FAILURES = (ArithmeticError, ValueError, TypeError, NotImplementedError, OverflowError)


def _value(node: Node, known: Mapping[str, Any]) -> Any:
    """The value at a point; None if undefined."""
    import mpmath

    try:
        value = _computed(node, known)
    except _FAILURES:
        return None
    return value if mpmath.isfinite(value) else None


def values(nodes: Sequence[Node], degree: Fraction | None = None) -> Iterator[tuple[list[Any], Any, bool]]:
    """Yield, for each point, (values of the formulas, the tolerance for equal values, whether the point is negative).

    Args:
        nodes: formulas.
        degree: the value of a degree sign outside trigonometric functions; None: pi / 180.
    """
    import mpmath

    names = sorted(frozenset().union(*map(symbols, nodes)))
    digits = int(sum(map(size, nodes))) + GUARD
    with mpmath.workdps(2 * digits + GUARD):
        unit = mpmath.pi / 180 if degree is None else mpmath.mpf(degree.numerator) / degree.denominator
        for point, at in enumerate(_points(names) if names else [{}]):
            known = {**at, "": unit, "log": mpmath.mpf(7) / 3}  # base of logarithms without a stated one
            results = [_value(n, known) for n in nodes]
            scale = max([mpmath.mpf(1), *(abs(r) for r in results if r is not None)])
            yield results, scale * mpmath.mpf(10) ** -digits, point == POINTS - 1


def same(first: Node, second: Node, degree: Fraction | None = Fraction(1)) -> bool:
    """Whether two formulas have the same value wherever both are defined.

    Numbers are compared to more digits than unequal numbers of their size can share. Formulas with letters are compared at
    several points; at negative points only real values count, because identities with roots are mostly meant for positive letters.
    """
    if endless(first) or endless(second):
        return source(first) == source(second) or sign_of_infinity(first) == sign_of_infinity(second) is not None
    met = 0
    for (one, other), nothing, negative_point in values((first, second), degree):
        if one is None and other is None:
            continue
        if negative_point and any(v is None or _imaginary(v, nothing) for v in (one, other)):
            continue
        if one is None or other is None or abs(one - other) > nothing:
            return False
        met += 1
    return met > 0


def _imaginary(value: Any, nothing: Any) -> bool:
    import mpmath

    return isinstance(value, mpmath.mpc) and abs(value.imag) > nothing


def sign_of_infinity(node: Node) -> int | None:
    """1 or -1 for plus or minus infinity, None for any other formula."""
    if node.kind == "constant" and node.value == "oo":
        return 1
    if (
        node.kind == "product"
        and len(node.args) == 2
        and node.args[0] == MINUS_ONE
        and (sign := sign_of_infinity(node.args[1]))
    ):
        return -sign
    return None


def proportional(first: Node, second: Node) -> bool:
    """Whether one formula is a non-zero constant times the other, as equivalent equations are."""
    if symbols(first) != symbols(second):
        return False
    ratio, met = None, 0
    for (one, other), nothing, _ in values((first, second)):
        if one is None or other is None or abs(other) <= nothing or abs(one) <= nothing:
            continue
        if ratio is None:
            ratio = one / other
        elif abs(one / other - ratio) > nothing * max(1, abs(ratio)):
            return False
        met += 1
    return met > 1


def substituted(node: Node, name: str, by: Node) -> Node:
    """A formula with a name replaced by another formula."""
    if node.kind == "symbol" and node.value == name:
        return by
    return node._replace(args=tuple(substituted(a, name, by) for a in node.args))


def approximate(node: Node) -> float | None:
    """The approximate real value of a formula without letters, infinity included; None if it has none."""
    if (sign := sign_of_infinity(node)) is not None:
        return sign * math.inf
    if symbols(node) or endless(node):
        return None
    import mpmath

    with mpmath.workdps(int(size(node)) + GUARD):
        value = _value(node, {"": mpmath.mpf(1), "log": mpmath.mpf(2)})
        return None if value is None or isinstance(value, mpmath.mpc) else float(value)


def nothing(node: Node) -> bool:
    """Whether a formula is zero."""
    return same(node, Node("number", Fraction(0)))


# -- the simplest form: sympy --------------------------------------------------------------------------------------


def expression(node: Node, degree: Any = 1) -> Any:
    """A formula as a sympy expression; degrees outside trigonometric functions are plain numbers."""
    import sympy

    if node.kind == "number":
        value = Fraction(node.value)  # type: ignore[arg-type]
        return sympy.Rational(value.numerator, value.denominator)
    if node.kind == "symbol":
        return sympy.Symbol(str(node.value))
    if node.kind == "constant":
        return {"pi": sympy.pi, "e": sympy.E, "i": sympy.I, "oo": sympy.oo, "degree": degree}[str(node.value)]
    inner = sympy.pi / 180 if node.kind in _TRIGONOMETRIC else degree
    args = [expression(a, inner) for a in node.args]
    plain = {
        "sum": sympy.Add,
        "product": sympy.Mul,
        "power": sympy.Pow,
        "root": sympy.root,
        "lg": lambda x: sympy.log(x, 10),
    }
    plain |= {"abs": sympy.Abs, "max": sympy.Max, "min": sympy.Min, "permutations": sympy.ff, "ln": sympy.log}
    if node.kind == "root" and args[1].is_odd and args[0].is_negative:
        return -sympy.root(-args[0], args[1])
    if node.kind == "log" and len(args) == 1:
        return sympy.Function("log")(args[0])  # base unknown
    return (plain.get(node.kind) or getattr(sympy, node.kind))(*args)


def simplest(node: Node) -> str:
    """A formula evaluated, expanded and printed as LaTeX, for votes: most notations of a value give the same text.

    Raises:
        UnreadError: the formula has no finite value.
    """
    import sympy

    value = expression(node)
    if not isinstance(value, sympy.Expr) or value.has(sympy.nan, sympy.zoo, sympy.oo, -sympy.oo):
        raise UnreadError("no finite value")
    if value.is_Rational:
        return str(value)
    powers = [p.exp for p in value.atoms(sympy.Pow) if p.base.is_Add]
    if sympy.count_ops(value) < 100 and all(abs(p) <= 12 for p in powers if p.is_Rational):
        value = sympy.radsimp(sympy.expand(sympy.sqrtdenest(value)))
        value = sympy.cancel(value) if value.free_symbols and value.is_rational_function() else sympy.expand(value)
    return sympy.latex(value, ln_notation=True)
