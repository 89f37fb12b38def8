"""The text of an answer: LaTeX, Unicode and plain notation brought to one, and taken apart at commas and brackets."""

from __future__ import annotations

import re
from fractions import Fraction

_LONGEST_NUMBER = 4000  # characters; Python refuses to print integers of more than 4,300 digits
NAMED = re.compile(r"[^=<>]*[A-Za-z][^=<>]*=[^=]")
_NAME = r"\(?[A-Za-z]'?(?:_\{?\w+\}?)?(?:\([\w, ]*\))?(?:\s*,\s*[A-Za-z])*\)?|[A-Za-z ]{3,}"
_LETTERS = {"−": "-", "–": "-", "⁄": "/", "÷": "/", "²": "^2", "³": "^3", "√": "sqrt", "°": r"^\circ "}
_FRACTIONS = {"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3"}
_SPACES = dict.fromkeys("\u00a0\u202f\u2009", " ")
_RELATIONS = {"≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∈": r"\in "}
_SYMBOLS = {"×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "±": r"\pm ", "π": r"\pi ", "∞": r"\infty "}
_SETS = {"∪": r"\cup ", "∅": r"\emptyset "}
_UNICODE = str.maketrans(_LETTERS | _FRACTIONS | _SPACES | _RELATIONS | _SYMBOLS | _SETS)
_FONT = r"\\(?:text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mbox|underline|boldsymbol|bm|operatorname)\*?\s*"
_SCALE = r"(?:hundred|thousand|million|billion|trillion|dozen|score|mod|and|or|times|plus|minus|over|choose|pi|sqrt)"
_UNIT = re.compile(rf"(?:[\s~/]*{_FONT}\{{(?!\s*{_SCALE})[^{{}}]{{2,}}\}}(?:\^\{{?-?\d\}}?)?)+$")
_ONE_LETTER_UNIT = re.compile(r"(?<=\d)[\s~]*\\(?:text|mathrm)\s*\{\s*[a-zA-Z]\s*\}(?:\^\{?-?\d\}?)?$")
_WORD_UNIT = re.compile(
    rf"^([-+]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:/\d+)?)\s+(?!{_SCALE}\b)"
    r"(?:(?:cm|mm|km|kg|mg|ml|ft|in|mph|hr|hrs|min|sec|lb|lbs|oz|sq)\b|[a-z]{3,}\b)(?:(?:\s+[a-z]+|\^\d))*$"
)
_STEPS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), new)
    for pattern, new in (
        (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])\.?", ""),
        (r"(?<=\d)(?:\\[,!;: ]|\{,\}|~)+(?=\d{3}(?!\d))|(?<=\d)(?:\\!)?,\\!(?=\d{3}(?!\d))", ""),
        (r"\{,\}", ","),
        (r"(?<!\\)\\(?:[,!;:> ]|q?quad(?![a-z])|displaystyle(?![a-z])|limits(?![a-z]))|~", " "),
        (r"\\[dtc]frac(?![a-z])", r"\\frac"),
        (r"\\\$|\$|[€£]|\\[()\[\]]", ""),
        (r"\\(?:lbrace|\{)", r"\\{"),
        (r"\\(?:rbrace|\})", r"\\}"),
        (r"\\langle(?![a-z])", "("),
        (r"\\rangle(?![a-z])", ")"),
        (r"\\le(?:q|qslant)(?![a-z])", r"\\le"),
        (r"\\ge(?:q|qslant)(?![a-z])", r"\\ge"),
        (r"\\mathrm\s*\{\s*([ei])\s*\}", r"\1"),
        (rf",?\s*{_FONT}\{{\s*,?\s*(?:and|or)\s*\}}\s*", ","),
        (r"(?<=[\d})\]])\s*,?\s+(?:and|or)\s+", ","),
        (r"^[A-Za-z]\s*\\in(?![a-z])\s*", ""),
        (r"^\s*\+(?=\s*\\infty)", ""),
        (r"_\{(\w)\}", r"_\1"),
        (r"\*\*(?=[\d({\-])", "^"),
        (r"(?<![\\A-Za-z])(sqrt|pi|sin|cos|tan|ln|log|exp)(?![a-zA-Z])", r"\\\1"),
        (r"\\sqrt\s*\(([^()]*)\)", r"\\sqrt{\1}"),
        (r"\\sqrt\s*(\[\d+\])?\s*(\d+)", r"\\sqrt\1{\2}"),
        (r"\^\s*(-?\d{2,})", r"^{\1}"),
        (r"\^\s*\((-?\d+)\)", r"^{\1}"),
        (r"(?<=\d)i(?![a-zA-Z])", " i"),
    )
)


def tidy(answer: str) -> str:
    """An answer without decoration: dollar signs, spacing, fonts, sizes, units, degree and percent signs, final stop."""
    text = answer.translate(_UNICODE).strip().strip("*").strip()
    for pattern, new in _STEPS:
        text = pattern.sub(new, text)
    text = text.strip().rstrip(".,;").strip()
    if whole := re.fullmatch(rf"{_FONT}\{{([^{{}}]*)\}}", text):
        return tidy(whole[1])
    text = re.sub(rf"{_FONT}\{{([^{{}}]*)\}}", r"\1", _unitless(text))
    text = re.sub(r"\s+", " ", _WORD_UNIT.sub(r"\1", text)).strip()
    return text[1:-1].strip() if re.fullmatch(r"\{[^{}]*\}", text) else text


def _unitless(text: str) -> str:
    """A text without the unit, percent or degree sign at its end; degrees elsewhere, as in a sine, become radians."""
    text = _ONE_LETTER_UNIT.sub("", _UNIT.sub("", text) or text).strip()
    text = re.sub(r"\s*(?:\\?%|\bpercent)$", "", text)
    if not re.search(r"\\(?:sin|cos|tan)", text):
        text = re.sub(r"\s*\^\s*\{?\s*\\(?:circ|degree)\s*\}?$", "", text)
    return re.sub(r"(\d+)\s*\^\s*\{?\\circ\s*\}?", r"{(\\frac{\1\\pi}{180})}", text)


def flat(text: str) -> str:
    """A text normalised for white space, and for case where it is nothing but words."""
    text = re.sub(r"\s+", " ", text).strip()
    if re.fullmatch(r"[A-Za-z][A-Za-z'’ -]+", text) and (len(text) > 2 or text.lower() in ("no", "up")):
        return text.lower()
    if wordy(text):
        return re.sub(r"\s*,\s*", ",", text)
    return re.sub(r"(?<![\dA-Za-z]) | (?![\d.A-Za-z])", "", text)


def wordy(text: str) -> bool:
    """Whether a text has words in it that are no LaTeX commands."""
    return bool(
        re.search(r"[A-Za-z]{3,}", re.sub(r"\\(?:begin|end)\{\w+\}|\\[A-Za-z]+", " ", text))
    ) or text.lower() in ("no", "up")


def number(text: str) -> Fraction | None:
    """The exact value of an integer, decimal, fraction or mixed number in plain notation.

    Thousands may be set apart by commas or spaces, decimals repeat (``0.\\overline{3}``) or have a power of ten (1e5).
    """
    text = re.sub(r"^([-+])\s+", r"\1", text.strip())
    if len(text) > _LONGEST_NUMBER:
        return None
    if match := re.fullmatch(r"([-+]?)\\frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(-?\d+)\s*\}|(\d))", text):
        text = f"{match[1]}{match[2] or match[3]}/{match[4] or match[5]}".replace("--", "")
    if match := re.fullmatch(r"([-+]?)(\d+) (\d+)/(\d+)", text):
        text = f"{match[1]}{int(match[2]) * int(match[4]) + int(match[3])}/{match[4]}"
    if match := re.fullmatch(r"([-+]?)(\d*)\.(\d*)\\overline\s*\{(\d+)\}", text):
        sign, whole, once, again = match.groups()  # 0.1666... is (16 - 1)/90
        top = int(whole + once + again) - int(whole + once or "0")
        text = f"{sign}{top}/{'9' * len(again)}{'0' * len(once)}"
    if re.fullmatch(r"[-+]?[1-9]\d{0,2}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?", text):
        text = re.sub("[, ]", "", text)
    match = re.fullmatch(r"([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?)(?:\s*/\s*(-?\d+))?", text)
    if not match or (match[2] and not int(match[2])):
        return None
    return Fraction(match[1]) / int(match[2] or 1)


def split(text: str, separator: str) -> list[str]:
    """The parts of a text at a separator (a pattern) outside all brackets; thousands separators do not split."""
    if number(text) is not None:
        return [text]
    parts, depth, start = [], 0, 0
    thousands = r"(?<![\d,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,]*\d)"
    for match in re.finditer(
        rf"(?P<skip>{thousands})|(?P<open>\\?[({{\[])|(?P<close>\\?[)}}\]])|(?P<cut>{separator})", text
    ):
        depth += bool(match["open"]) - bool(match["close"])
        if match["cut"] and depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [p.strip() for p in [*parts, text[start:]] if p.strip()]


def opened(text: str) -> tuple[str, str, str] | None:
    """(bracket, contents, bracket) of a text that one pair of brackets encloses; half-open intervals are a pair."""
    match = re.fullmatch(r"(\\\{|[(\[])(.*)(\\\}|[)\]])", text)
    if not match:
        return None
    depth = 0
    for bracket in re.finditer(r"[({\[]|[)}\]]", match[2]):
        depth += 1 if bracket[0] in "({[" else -1
        if depth < 0:
            return None
    return match[1], match[2], match[3]


def signs(text: str) -> list[str]:
    """Both readings of a text with one plus-minus sign in it, else the text."""
    return [text.replace(r"\pm", sign) for sign in "+-"] if text.count(r"\pm") == 1 else [text]


def join(left: str, parts: list[str], right: str) -> str:
    """Canonical parts between brackets: in braces sorted and each once."""
    return left + ",".join(sorted(set(parts)) if left == r"\{" else parts) + right


def relation(text: str) -> list[str] | None:
    """The sides of an equation that count: one where the others only name it or lead to it; None if it is none."""
    sides = split(text, r"(?<![\\<>!:])=")
    if len(sides) < 2 or re.search(r"[<>]|\\(?:le|ge|ne|approx|equiv)(?![a-z])", text):
        return None
    first, last = sides[0], sides[-1]
    name = re.fullmatch(_NAME, first)
    total = re.fullmatch(r"[a-wA-W](?:\s*[-+]\s*[a-wA-W])+", first) and number(last) is not None
    plain = not re.search(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", "", first))
    if plain and re.fullmatch(r"[A-Za-z]", last):
        return [first]
    return [last] if name or total or plain else sides


def exact(text: str) -> str:
    """What stands before an approximation sign; what stands behind it where there is but a name before."""
    parts = split(text, r"\\(?:approx|simeq|doteq)(?![a-z])")
    if not parts:
        return text
    return parts[1] if len(parts) > 1 and re.fullmatch(_NAME, parts[0]) else parts[0]


def matrix(text: str) -> list[list[str]] | None:
    """The cells of a matrix in round, square or no brackets, row by row."""
    match = re.fullmatch(r"\\begin\s*\{([pb]?matrix)\}(.*)\\end\s*\{\1\}", text)
    if not match or r"\begin" in match[2]:
        return None
    rows = match[2].strip().removesuffix(r"\\").split(r"\\")
    return [[cell.strip() for cell in row.split("&")] for row in rows]
