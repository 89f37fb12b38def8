"""Parses tidy answers to values: number, formula, list, interval, matrix, equation or words."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from tasks import formulas
from tasks.formulas import Node, UnreadError
from tasks.notation import SCALES, flat, number, opened, signs, split, wordy

MOST = 200  # items in a list; a longer list is a text
LEVELS = 6  # levels of nested lists
_INDEX = r"(?:_(?:\w|\{[^{}]*\}))?"
_GREEK = r"\\(?:alpha|beta|gamma|delta|theta|lambda|mu|phi|omega|rho|varphi|psi|tau|sigma)(?![A-Za-z])"
_LETTER = rf"(?:[A-Za-z]|{_GREEK})'*{_INDEX}"
NAME = re.compile(  # text before an equals sign that only names the value
    rf"""{_LETTER}(?:\s*(?:\^\s*\{{?-1\}}?)?\s*'*\s*\([^()=]*\))?  # x, a_n, f'(2), f^{{-1}}(x), P(A)
    |[A-Za-z]\^\{{(?:-1|\\?[A-Z'*])\}}  # of a matrix
    |[A-Z]{{2,4}}|\\bar\s*\{{[A-Z]+\}}|(?:m\s*)?\\(?:angle|triangle)\s*[A-Z]+  # AB, segments, angles
    |\|\s*(?:[A-Z]+|z)\s*\||\\\|\s*[A-Za-z]+\s*\\\|  # lengths
    |\\frac\s*(?:\{{[A-Z]{{2}}\}}\s*\{{[A-Z]{{2}}\}}|\{{[a-w]\}}\s*\{{[a-w]\}}|[a-w]\s*[a-w])|[A-Z]{{2}}\s*/\s*[A-Z]{{2}}
    |[A-Z]+(?::[A-Z]+)+|{_LETTER}(?:\s*:\s*{_LETTER})+  # ratios
    |(?:[EPV]|Var|\\mathbb\{{[EP]\}})\s*[\[(][^\[\]()=]*[\])]  # E[X]
    |(?=[A-Za-z'\ ]*[A-Za-z]{{3}})(?![xyz]+$)[A-Za-z][A-Za-z'\ ]{{2,}}(?:\s*\([^()=]*\))?  # words""",
    re.VERBOSE,
)
_TUPLE_NAME = re.compile(rf"\(\s*{_LETTER}(?:\s*,\s*{_LETTER})*\s*\)|{_LETTER}(?:\s*,\s*{_LETTER})+")
_SUM_NAME = re.compile(r"[a-wA-W](?:\s*[-+]\s*[a-wA-W])+|[a-w]\s?[a-w](?:\s?[a-w])?")
_RELATION = r"(?<![\\<>!:=])=(?!=)|<|>|\\(?:le|ge|ne|equiv|in|notin|approx|subset|implies|iff|to)(?![a-z])"
FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_ENVIRONMENT = re.compile(r"\\begin\s*\{(\w+\*?)\}\s*(?:\[\w*\]\s*)?(?:\{[clr| ]*\}\s*)?(.*?)\\end\s*\{\1\}", re.DOTALL)
_MATRICES = ("matrix", "pmatrix", "bmatrix", "Bmatrix", "vmatrix", "smallmatrix", "array")
_ROWS = ("aligned", "align", "align*", "gathered", "gather", "gather*", "cases", "split", "array", "alignedat")


@dataclass(frozen=True)
class Words:
    """A text that is compared verbatim."""

    text: str


@dataclass(frozen=True)
class Formula:
    """One number or formula."""

    text: str
    node: Node


@dataclass(frozen=True)
class Items:
    """Several values: ``{`` for an unordered list or set, else the opening bracket of a tuple."""

    left: str
    parts: tuple[Value, ...]
    right: str
    words: tuple[str, ...] = ()  # the connectives between them


@dataclass(frozen=True)
class Matrix:
    """Rows of values."""

    rows: tuple[tuple[Value, ...], ...]


@dataclass(frozen=True)
class Relation:
    """Sides and the signs between them: ``3 < x \\le 5`` has three and two."""

    sides: tuple[Value, ...]
    signs: tuple[str, ...]


@dataclass(frozen=True)
class Named:
    """A value with a name: ``x = 5``."""

    name: str
    value: Value


@dataclass(frozen=True)
class Union:
    """A union of values, or a set difference."""

    sign: str
    parts: tuple[Value, ...]


@dataclass(frozen=True)
class Beside:
    """A value with a modulus or a condition."""

    value: Value
    kind: str
    text: str


Value = Words | Formula | Items | Matrix | Relation | Named | Union | Beside

_BESIDE_MOD = re.compile(r"(.+?)\s*(?:\\pmod\s*\{?(\w+)\}?|\(?\s*\\?(?:bmod|mod(?:ulo)?)\s*\{?(\w+)\}?\s*\)?)\s*")
_BESIDE_ALL = re.compile(
    r"(.*?[\w})\]])\s*[,;]?\s*\(?((?:for (?:all|any|every|some|each)|where|with|such that|for (?=\\?[A-Za-z]\b))\b.*|\\forall.*|"
    r"(?<=[,;\s(])[A-Za-z](?:_\w+)?\s*\\in\s*(?:\\mathbb\{[A-Z]\}|[ZNRQ])(?:\s*[\^_]\s*\{?\s*[+*>0-]*\s*\}?)?)\)?"
)
_LIST = r"[,;]?\s*(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|[,;]|\\(?:land|lor|wedge|vee|quad)(?![a-z])"
_CLOCK = re.compile(r"(\d{1,2})(?::(\d\d)(:\d\d)?)?\s*([ap])\.?\s*m\.?", re.IGNORECASE)
_BASED = re.compile(r"\(?\s*([0-9A-F]+)\s*\)?\s*_\s*\{?\s*(\d{1,2}|[a-z]+)\s*\}?")
_SCALED = re.compile(rf"([-+\d.,/ ]*\d)\s*({'|'.join(SCALES)})")
_COUNTS = {
    "zero": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
}
_SAME_WORDS = {
    word: text
    for text, words in {
        r"\emptyset": "none|no solution|no solutions|no real solution|no real solutions|empty set|the empty set|there is no solution|there are no solutions|empty",
        r"\mathbb{R}": "all real numbers|all reals|real numbers|the real numbers|any real number|all real x|all real values|r",
        "does not exist": "dne|undefined",
    }.items()
    for word in words.split("|")
    if word != "r"
}


@lru_cache(maxsize=8192)
def value(text: str, level: int = 0) -> Value:
    """Parse a tidy text.

    Args:
        text: output of ``tasks.notation.tidy``.
        level: nesting depth in lists.
    """
    if level > LEVELS:
        return Words(flat(text))
    for read in (_rows, _beside, _named, _words, _chosen, _list, _related, _joined, _bracketed, _ratio):
        found = read(text, level)
        if found is not None:
            return found
    return _atom(text)


def _rows(text: str, level: int) -> Value | None:
    """A matrix in any brackets, or the rows of a LaTeX environment."""
    if r"\begin" not in text:
        return None
    whole = re.sub(r"\s*\^\s*\{?\s*(?:T|\\top|\\intercal)\s*\}?$", "", text)
    bracket = opened(whole)
    inner = bracket[1] if bracket else whole
    match = _ENVIRONMENT.fullmatch(inner)
    if not match or r"\begin" in match[2]:
        return None
    rows = [row.strip() for row in re.split(r"\\\\(?:\s*\[[^\]]*\])?", match[2]) if row.strip()]
    if match[1] in _MATRICES and (bracket or match[1] != "array" or len(rows) > 1):
        cells = [tuple(value(cell.strip(), level + 1) for cell in row.split("&")) for row in rows]
        if whole != text and len({len(row) for row in cells}) == 1:
            cells = [tuple(column) for column in zip(*cells, strict=True)]
        return Matrix(tuple(cells))
    if match[1] in _ROWS:
        return value(", ".join(row.replace("&", "").strip(" ,;") for row in rows), level + 1)
    return None


def _beside(text: str, level: int) -> Value | None:
    if "mod" in text and (match := _BESIDE_MOD.fullmatch(text)):
        first = split(match[1], r"\\equiv(?![a-z])")
        named = len(first) == 2 and NAME.fullmatch(first[0])
        return Beside(value(first[1] if named else match[1], level + 1), "mod", match[2] or match[3])
    match = _BESIDE_ALL.fullmatch(text) if re.search(r"for |where|with|such|\\in\b|\\forall", text) else None
    if match and re.search(r"[\d=A-Za-z]", match[1]) and not wordy(match[1]):
        return Beside(value(match[1], level + 1), "where", flat(match[2]))
    return None


def _named(text: str, level: int) -> Value | None:
    """A value after a single equals or membership sign whose other side is a name."""
    sides = split(text, r"(?<![\\<>!:=])=(?!=)", thousands=False)
    if len(sides) == 2 and not re.search(r"[<>]|\\(?:le|ge|ne|approx|equiv|in)(?![a-z])", text):
        if _TUPLE_NAME.fullmatch(sides[0]):
            inner = value(sides[1], level + 1)
            if isinstance(inner, Items) and inner.left != "(" and "," in sides[1] and not sides[0].startswith("("):
                parts = split(sides[1], ",")
                inner = Items("(", tuple(value(p, level + 1) for p in parts), ")")
            return Named(re.sub(r"[()\s]", "", sides[0]), inner)
        if NAME.fullmatch(sides[0]) and not re.search(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])", sides[0]):
            if re.fullmatch(_LETTER, sides[0]) and re.fullmatch("[A-Za-z]", sides[1]):
                return Relation((value(sides[0], level + 1), value(sides[1], level + 1)), ("=",))
            return Named(sides[0], value(sides[1], level + 1))
    if point := re.fullmatch(r"([ABD-OQ-Z]'?)\s*(\([^()]*,[^()]*\))", text):
        return Named(point[1], value(point[2], level + 1))
    sides = split(text, r"\\in(?![a-z])")
    if len(sides) == 2 and (re.fullmatch(_LETTER, sides[0]) or _TUPLE_NAME.fullmatch(sides[0])):
        return value(sides[1], level + 1)
    return None


def _words(text: str, level: int) -> Value | None:
    plain = flat(text)
    if plain.lower().rstrip(".") in _SAME_WORDS:
        return Words(_SAME_WORDS[plain.lower().rstrip(".")])
    if plain.lower() in _COUNTS:
        return _number(text, _COUNTS[plain.lower()])
    if match := _CLOCK.fullmatch(text):
        return Words(f"{int(match[1])}:{match[2] or '00'}{match[3] or ''} {match[4].lower()}m")
    if (match := _SCALED.fullmatch(text)) and (size := number(match[1].strip())) is not None:
        return _number(text, size * 10 ** SCALES[match[2]])
    return Words(plain) if wordy(re.sub(r"(?<![A-Za-z])(?:and|or)(?![A-Za-z])", " ", text)) else None


def _number(text: str, size: Fraction | int) -> Formula:
    return Formula(text, Node("number", Fraction(size)))


def _chosen(text: str, level: int) -> Value | None:
    """A single letter, or digits with a stated base."""
    if letter := re.fullmatch(r"\(?([A-Za-z])\)?", text):
        return Formula(letter[1], formulas.read(letter[1]))
    if based := _BASED.fullmatch(text):
        base = based[2] if based[2].isdigit() else _COUNTS.get(based[2])
        if base is not None and re.search(r"\d", based[1]):
            return Words(f"{based[1]}_{{{base}}}")
    return None


def _list(text: str, level: int) -> Value | None:
    if ";" in text and "," in text and len(groups := split(text, ";")) > 1:  # x = 1, y = 2; x = 3, y = 4
        return _items(r"\{", groups, r"\}", level)
    if len(parts := split(text, _LIST)) < 2 and text.count(r"\pm") != 1:
        return None
    if re.search(r"\\(?:cup|setminus)(?![a-z])", text) and len(parts) < 2:
        return None
    if len(parts) < 2 and opened(text):
        return None
    connectives = tuple(re.findall(r"(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])", text))
    return _items(r"\{", [s for p in parts for s in signs(p)], r"\}", level, connectives)


def _items(left: str, texts: list[str], right: str, level: int, words: tuple[str, ...] = ()) -> Value:
    """A list; the common name in "x = 2, x = 3" is dropped, those in "x = 2, y = 3" are kept."""
    if len(texts) > MOST:
        return Words(left + ", ".join(texts) + right)
    parts = tuple(value(t, level + 1) for t in texts)
    names = {p.name for p in parts if isinstance(p, Named)}
    if len(names) == 1 or (
        len(names) > 1 and all(re.fullmatch(r"\w_\{?\w\}?", n) for n in names) and len({n[0] for n in names}) == 1
    ):
        parts = tuple(p.value if isinstance(p, Named) else p for p in parts)
    return Items(left, parts, right, words)


def _related(text: str, level: int) -> Value | None:
    """An equation, an inequality or a chain of them; of a derivation, only the final side."""
    signs_, sides, start, depth = [], [], 0, 0
    for match in re.finditer(
        rf"(?P<open>\\?[({{\[]|\\begin\b)|(?P<close>\\?[)}}\]]|\\end\b)|(?P<sign>{_RELATION})", text
    ):
        depth += bool(match["open"]) - bool(match["close"])
        if match["sign"] and (depth == 0):
            sides.append(text[start : match.start()].strip())
            signs_.append(match["sign"])
            start = match.end()
    sides.append(text[start:].strip())
    if r"\approx" in signs_:
        return _approximate(sides, signs_, level)
    if not signs_:
        return None
    if not all(sides):
        return value(sides[-1], level + 1) if signs_ == ["="] and sides[-1] and not sides[0] else Words(flat(text))
    if set(signs_) == {"="}:
        return _equation(sides, level)
    return Relation(tuple(value(s, level + 1) for s in sides), tuple(signs_))


def _approximate(sides: list[str], signs_: list[str], level: int) -> Value:
    """The side before an approximation sign, or the side after it if only a name precedes it."""
    place = signs_.index(r"\approx")
    before, behind = sides[: place + 1], sides[place + 1 :]
    if not before[-1] or (len(before) == 1 and NAME.fullmatch(before[0])):
        return value(behind[0], level + 1) if behind and behind[0] else Words("")
    return value(" = ".join(before), level + 1)


def _equation(sides: list[str], level: int) -> Value:
    first, last = sides[0], value(sides[-1], level + 1)
    plain = isinstance(last, Formula) and not formulas.symbols(last.node)
    if NAME.fullmatch(first) or _TUPLE_NAME.fullmatch(first):
        return Named(first, last)
    if plain and (
        _SUM_NAME.fullmatch(first)
        or re.match(r"\\(?:lim|sum|int|prod|det|deg)(?![a-z])", first)
        or _CALLED.fullmatch(first)
    ):
        return Named(first, last)
    computed = value(first, level + 1)
    if isinstance(computed, Formula) and not formulas.symbols(computed.node) and computed.node.kind != "constant":
        if isinstance(last, Formula) and re.fullmatch(_LETTER, last.text):
            return computed
        if plain or not isinstance(last, Formula):
            return last
    return Relation((computed, *(value(s, level + 1) for s in sides[1:-1]), last), ("=",) * (len(sides) - 1))


_CALLED = re.compile(
    r"\\(?:sin|cos|tan|cot|sec|csc)\s*\(?\s*(?:\\angle\s*)?(?:[A-W]{1,3}|\\(?:theta|alpha|beta|gamma|phi))\s*\)?|\[\s*[A-Z]{3,}\s*\]"
)


def _joined(text: str, level: int) -> Value | None:
    for sign in (r"\setminus", r"\cup", r"\cap"):
        parts = split(text, rf"\{sign}(?![a-z])", thousands=False)
        if len(parts) > 1:
            return Union(sign, tuple(value(p, level + 1) for p in parts))
    parts = split(text, r"(?<=\})\s*-\s*(?=\\\{)", thousands=False)
    return Union(r"\setminus", tuple(value(p, level + 1) for p in parts)) if len(parts) == 2 else None


def _bracketed(text: str, level: int) -> Value | None:
    bracket = opened(text)
    if not bracket:
        return None
    left, inside, right = bracket
    spaced = re.search(r"[,;]\s", inside) is not None
    separator = ";" if ";" in inside and "," not in re.sub(r"\d,\d", "", inside) else "[,;]"
    texts = [s for p in split(inside, separator if left != r"\{" else _LIST, thousands=spaced) for s in signs(p)]
    if left == r"\{":
        if not inside:
            return Words(r"\emptyset")
        if re.search(r"\||:", inside):
            return _set_by_condition(text, inside, level)
        return _items(left, texts, right, level)
    if len(texts) < 2:
        return None
    items = _items(left, texts, right, level)
    rows = [p.parts for p in items.parts if isinstance(p, Items) and p.left == "["] if isinstance(items, Items) else []
    if left == "[" and len(rows) == len(texts) and len({len(row) for row in rows}) == 1:
        return Matrix(tuple(rows))
    return items


def _set_by_condition(text: str, inside: str, level: int) -> Value:
    """A set such as ``\\{x \\mid x > 2\\}``: its condition if that is an inequality, else a text."""
    match = re.fullmatch(rf"({_LETTER})\s*(?:\\in\s*\\mathbb\{{R\}})?\s*[|:]\s*([^|]+)", inside)
    condition = value(match[2], level + 1) if match else None
    return condition if isinstance(condition, Relation | Items) and "=" not in inside else Words(flat(text))


def _ratio(text: str, level: int) -> Value | None:
    parts = split(text, ":")
    if len(parts) < 2:
        return None
    return Items(":", tuple(value(p, level + 1) for p in parts), "")


def _atom(text: str) -> Value:
    """A number or formula, else a text."""
    if text in (r"\emptyset", r"\ldots"):
        return Words(text)
    if re.fullmatch(r"\\mathbb\s*\{?\s*[A-Z]\s*\}?", text):
        return Words(rf"\mathbb{{{text.strip(' }')[-1]}}}")
    if (size := number(text)) is not None:
        return _number(text, size)
    joined = (
        text
        if "(" in text
        else re.sub(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?!\d)", lambda n: n[0].replace(",", ""), text)
    )
    try:
        return Formula(text, formulas.read(formulas.longhand(joined)))
    except UnreadError:
        return Words(flat(text))
