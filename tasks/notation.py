"""The notation of answers: brings LaTeX, Unicode and plain text to one notation, without words around the answer."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

_LONGEST_NUMBER = 4000  # characters; Python refuses to print integers of more than 4,300 digits

# -- Unicode ---------------------------------------------------------------------------------------------------------

_RAISED = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱˣ", "0123456789+-()nix")
_LOWERED = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₍₎ₙₐₓᵢⱼₖₘ", "0123456789+-()naxijkm")
_RUN_RAISED, _RUN_LOWERED = (re.compile(f"[{''.join(map(chr, run))}]+") for run in (_RAISED, _LOWERED))
_SIGNS = {
    "-": "−–‐‑‒﹣－", "": "\u200b\u200c\u200d\u2060\ufeff\u00ad\u2061\u2062", " ": "\u00a0\u202f\u2009\u2002\u2003\u200a\u205f\u3000\u2005",
    "'": "′’‘ʹ", '"': "“”„«»″", "/": "÷∕⁄", "*": "∗", "(": "⟨〈", ")": "⟩〉", ":": "∶", "$": "€£¥₹¢",
    r"\times ": "×✕✖⨯", r"\cdot ": "·⋅∙•", r"\sqrt ": "√", r"\sqrt[3] ": "∛", r"\sqrt[4] ": "∜", r"^\circ ": "°º˚", r"\pm ": "±",
    r"\mp ": "∓", r"\infty ": "∞", r"\le ": "≤⩽≦", r"\ge ": "≥⩾≧", r"\ne ": "≠", r"\approx ": "≈≃≅", r"\equiv ": "≡", r"\in ": "∈",
    r"\notin ": "∉", r"\cup ": "∪", r"\cap ": "∩", r"\emptyset ": "∅⌀", r"\setminus ": "∖", r"\mathbb{R}": "ℝ", r"\mathbb{Z}": "ℤ",
    r"\mathbb{N}": "ℕ", r"\mathbb{Q}": "ℚ", r"\mathbb{C}": "ℂ", r"\angle ": "∠", r"\triangle ": "△", r"\lfloor ": "⌊",
    r"\rfloor ": "⌋", r"\lceil ": "⌈", r"\rceil ": "⌉", r"\|": "‖∥", r"\ldots ": "…⋯", r"\to ": "→", r"\mu ": "µ", r"\Omega ": "Ω",
    r"\ell ": "ℓ", r"\checkmark ": "✓✔✅", r"\blacksquare ": "■□∎▪",
}  # fmt: skip
_UNICODE = str.maketrans({sign: text for text, signs in _SIGNS.items() for sign in signs})


def _plain(text: str) -> str:
    """A text in ASCII, as far as LaTeX has names for its signs. Letters of alphabets other than Greek stay."""
    if text.isascii():
        return text
    text = _RUN_RAISED.sub(lambda run: f"^{{{run[0].translate(_RAISED)}}}", text)
    text = _RUN_LOWERED.sub(lambda run: f"_{{{run[0].translate(_LOWERED)}}}", text)
    return "".join(map(_letter, text.translate(_UNICODE)))


def _letter(sign: str) -> str:
    """The ASCII form of one sign, if it is a fraction, a Greek letter or a variant of an ASCII sign."""
    if sign.isascii():
        return sign
    shape = unicodedata.normalize("NFKC", sign)
    if len(parts := shape.split("⁄")) == 2 and all(part.isdigit() for part in parts):
        return rf"\frac{{{parts[0]}}}{{{parts[1]}}}"
    name = unicodedata.name(shape, "") if len(shape) == 1 else ""
    if match := re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (?:FINAL )?([A-Z]+)", name):
        letter = match[2].replace("LAMDA", "LAMBDA").lower()
        return f"\\{letter if match[1] == 'SMALL' else letter.capitalize()} "
    return shape if shape.isascii() else sign


# -- commands --------------------------------------------------------------------------------------------------------

_SAME = {  # our name of a command, and its names in LaTeX
    "": "left right middle big bigl bigr bigm Big Bigl Bigr bigg biggl biggr Bigg Biggl Biggr mleft mright displaystyle textstyle "
    "scriptstyle limits nolimits tiny small normalsize large Large LARGE huge Huge nonumber centering rm bf it tt sf cal hfill "
    "noindent par newline hline checkmark blacksquare square Box qed qedsymbol textdollar textsterling texteuro textyen pounds "
    "ensuremath strut ! ( ) [ ] $ relax",
    " ": ", ; : > quad qquad thinspace enspace thickspace medspace nobreakspace space",
    "(": "langle lparen", ")": "rangle rparen", "[": "lbrack", "]": "rbrack", "|": "lvert rvert vert mid",
    r"\|": "lVert rVert Vert parallel", r"\{": "lbrace", r"\}": "rbrace", "<": "lt", ">": "gt", ":": "colon", "*": "ast",
    "/": "div slash", "'": "prime", r"\%": "percent", r"\frac": "dfrac tfrac cfrac", r"\binom": "dbinom tbinom",
    r"\le ": "leq leqslant leqq", r"\ge ": "geq geqslant geqq", r"\ne ": "ne neq", r"\approx ": "simeq doteq thickapprox cong sim",
    r"\emptyset ": "varnothing", r"\setminus ": "smallsetminus backslash", r"\ldots ": "dots dotsc dotsb cdots dotsm",
    r"^\circ ": "degree degrees deg textdegree", r"\cdot ": "cdotp bullet", r"\triangle ": "bigtriangleup vartriangle",
    r"\hat{i}": "imath", r"\hat{j}": "jmath", r"\bar": "overline",
    r"\text ": "textbf textit textrm textsf texttt textnormal textup textsc emph mathrm mathit mathsf mathtt mathnormal mbox hbox underline "
    "mathop mathord mathbin mathrel fbox boxed operatorname",
    r"\vec ": "mathbf boldsymbol bm pmb hat widehat overrightarrow overleftrightarrow mathcal mathscr mathfrak tilde widetilde",
}  # fmt: skip
_COMMANDS = {name: text for text, names in _SAME.items() for name in names.split()} | {" ": " "}
_COMMAND = re.compile(r"\\([A-Za-z]+|.)\*?")
_GROUP = r"\{((?:[^{}]|\{[^{}]*\})*+)\}"
_INVISIBLE = re.compile(
    r"\\(?:[hv]?phantom|hspace|vspace|label|tag|textcolor|colorbox|color)\*?\s*\{[^{}]*\}|\\color\s*[a-z]+\s"
)
_TEXT = re.compile(rf"\\text\s*{_GROUP}|\\text\s*([A-Za-z0-9])")
_VECTOR = re.compile(rf"\\vec\s*(?:{_GROUP}|(\\?[A-Za-z]+|\d))")
_BETWEEN_THOUSANDS = r"(?:\\[,;:! ]|~|\{,\}|\\text\s*\{,\}|,\s?\\!\s?|\\!,\s?(?:\\!\s?)?|['_ ])"
_THOUSANDS = re.compile(rf"(?<![\w.,\\}}^])[1-9]\d{{0,2}}(?:{_BETWEEN_THOUSANDS}\d{{3}})+(?![\d_])")


def _commands(text: str) -> str:
    """LaTeX with one name per command, without commands that only affect the layout."""
    text = _THOUSANDS.sub(lambda number: re.sub(r"\D", "", number[0]), text)
    text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)  # a comma without space that does not separate thousands
    text = _INVISIBLE.sub(" ", text).replace(r"\$", "").replace("$", "").replace("~", " ").replace("{,}", ",")
    if r"\begin" not in text:
        text = re.sub(r"\\\\(?=[A-Za-z]{2})", r"\\", text)  # as escaped in JSON
    text = _COMMAND.sub(lambda command: _COMMANDS.get(command[1], command[0]), text)
    for _ in range(3):  # fonts in fonts
        text = _VECTOR.sub(_letter_alone, _TEXT.sub(_words_alone, text))
    text = re.sub(r"\^\s*(?:\{\s*)?\^?\s*\\circ(?![a-z])(?:\s*\})?", r"^\\circ ", text)
    return re.sub(r"<=|=<|\\not\s*>", r"\\le ", re.sub(r">=|\\not\s*<", r"\\ge ", _UNEQUAL.sub(r"\\ne ", text)))


_UNEQUAL = re.compile(r"\\not\s*=|(?:(?<=\s)|^)!=|=/=|<>")


def _words_alone(match: re.Match[str]) -> str:
    r"""The content of a font command: in ``\text{}`` if it has letters, which may be words or a unit, else unchanged."""
    inside = match[1] if match[1] is not None else match[2]
    if not re.search(r"[A-Za-z]", inside) or re.search(r"\\(?!%)", inside) or inside.strip() in ("e", "i"):
        return inside
    return r"\text{" + inside.replace("{", "").replace("}", "") + "}"


def _letter_alone(match: re.Match[str]) -> str:
    """A bold, hatted or calligraphic letter becomes the plain letter, except for unit vectors."""
    inside = (match[1] or match[2] or "").strip()
    while whole := re.fullmatch(r"\{(.*)\}|\\hat\s*\{(.*)\}|\\text\s*\{(.*)\}", inside):
        inside = (whole[1] or whole[2] or whole[3] or "").strip()
    return rf"\hat{{{inside}}}" if inside in ("i", "j", "k") else f"{inside} "


# -- words around an answer --------------------------------------------------------------------------------------------

SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_CONNECTIVES = "and|or|nor|if|when|where|unless|plus|minus|times|than|more|less|fewer|greater|to|through"
_MEANING = (  # words after a number that change its meaning
    rf"(?:{_CONNECTIVES}|mod|modulo|over|choose|squared|cubed|factorial|for|with|such|is|are|not|by|divided|pi|am|pm|noon|midnight|base|"
    rf"dozen|score|sqrt|as|{'|'.join(SCALES)})(?![A-Za-z])"
)
_ABBREVIATED = (
    r"(?:cm|mm|km|dm|nm|kg|mg|ml|mL|dl|ft|in|yd|mi|mph|kph|kmh|hr|hrs|min|mins|sec|secs|ms|lb|lbs|oz|sq|cu|gal|rad|deg|rpm|Hz|kHz|Pa|kPa|"
    r"kJ|kW|kWh|MW|eV|mol|cal|kcal|kN|USD|EUR|GBP)(?![A-Za-z])\.?"
)
_POWER = r"(?:\s*\^\s*(?:\{\s*-?\d\s*\}|-?\d))?"
_IN_FONT = rf"\\text\{{(?!\s*(?:{_MEANING}|[ap]\.m\.))[^{{}}]*\}}"
_UNIT = rf"""(?:(?:\^?\s*\\circ\s*)?{_IN_FONT}|{_ABBREVIATED}|\^?\s*\\circ\s*[CFK](?![A-Za-z])
    |\\frac\s*\{{\s*{_IN_FONT}\s*\}}\s*\{{\s*{_IN_FONT}\s*\}}|\\mu\s*(?:{_IN_FONT}|[mgs](?![A-Za-z]))|\\Omega){_POWER}"""
_LETTER_UNIT = rf"[msLhgNJWVAK](?![A-Za-z]){_POWER}"
_UNITS = re.compile(rf"\s*{_UNIT}(?:\s*(?:(?:/|\\cdot|\*|per\s)\s*)?(?:{_UNIT}|{_LETTER_UNIT}))*\s*$", re.VERBOSE)
_LETTER_UNITS = re.compile(
    rf"""(?<=[\d}}i])\s+[msLVWJ](?![A-Za-z]){_POWER}(?:\s*(?:/|\\cdot)\s*(?:{_UNIT}|{_LETTER_UNIT}))*\s*$
    |(?<=\d)\s*{_LETTER_UNIT}\s*/\s*{_LETTER_UNIT}\s*$""",
    re.VERBOSE,
)
_WORDS = re.compile(
    rf"""(?<=[\d}})!i])\s+(?:of\s+)?(?!{_MEANING})[A-Za-z][a-z]{{2,}}(?:[\ -]+(?!(?:{_CONNECTIVES})\b)[A-Za-z]+)*(?:\^\d)?\s*$""",
    re.VERBOSE,
)
_GLOSS = re.compile(
    r"(?<=[\d}\w)])\s*(?:\\text\{\s*)?\((?!\s*(?:\\text\{\s*)?mod)(?=[^()]*[A-Za-z]{3})[^()\\=]*\)\s*\}?\s*$"
)
_PERCENT = re.compile(
    r"""\s*(?:\\?%|(?:\\text\{\s*)?(?<![A-Za-z])(?:percent(?:age)?|pct)\b\s*\.?\s*\}?)(?:\s*(?:\\text\{)?\s*of\s[A-Za-z\ ]*\}?)?\s*$""",
    re.VERBOSE,
)
_CURRENCY = re.compile(r"^(?:\\text\{)?\s*(?:Rs|USD|US|INR|EUR|GBP|CAD|AUD|RMB|CNY)\b\.?\s*\}?\s*(?=\d)")
_ORDINAL = re.compile(
    r"(?<=\d)\s*\^?\s*(?:\{\s*\\text\{(?:st|nd|rd|th)\}\s*\}|\\text\{\s*(?:st|nd|rd|th)\}|\{(?:st|nd|rd|th)\}|(?:st|nd|rd|th))$"
)
_QUOTED = re.compile(r"""["'`]++([^"'`]*+)["'`]++""")
_NO_SUBJECT = r"(?:not|no|never|least|most|greater|less|more|than|between|either|neither|if|when)\b"
_HEDGED = re.compile(
    r"^(?:about|approximately|approx\.?|roughly|around|exactly|only|just)\s+(?=[-+$\\\d.])", re.IGNORECASE
)
_SAID = re.compile(  # "The area is 5", "Answer: 5", "Area: 5"
    rf"""(?:(?:(?!{_NO_SUBJECT})[A-Za-z][A-Za-z'-]*[\ ,]+)*+(?:(?<=is\ )|(?<=are\ )|(?<=equals\ )|(?<=equal\ to\ )|(?<=be\ )|(?<=of\ ))
        (?=[-+\\\d(\[{{.])(?=.*\d)
    |(?:[Tt]he\ )?(?:[Ff]inal\ |[Cc]orrect\ )?(?:[Aa]nswer|ANSWER|[Rr]esult|[Ss]olution)\s*[:=]\s*
    |(?=[A-Za-z\ ]*[a-z]{{3}})[A-Za-z]+(?:\ [A-Za-z]+)*:\s*)""",
    re.VERBOSE,
)


def tidy(answer: str) -> str:
    """An answer without decoration: dollar signs, spacing, fonts, sizes, units, percent sign, full stop, and words
    around it.

    Args:
        answer: text by a model or a data set, of at most about a thousand characters.
    """
    if r"\begin" not in answer:
        answer = re.sub(r"(?<=[^\s,;])[^\S\n]*+\n[^\S\n]*+\n\s*+", ", ", answer.strip())
    text = _clean(answer)
    if quoted := _QUOTED.fullmatch(text):
        text = quoted[1]
    text = _stripped(_PERCENT.sub("", _CURRENCY.sub("", text)))
    plain = re.sub(" +", " ", _unfonted(text))
    said = _SAID.match(plain)
    if said and 0 < said.end() < len(plain):
        text = plain[said.end() :]
    text = _HEDGED.sub("", text)
    return _bare(_unitless(_unfonted(_unitless(_stripped(text)))))


def _clean(answer: str) -> str:
    """An answer in our notation, including the words around it."""
    return _stripped(" ".join(_commands(_plain(" ".join(answer.split()))).split()))


def _stripped(text: str) -> str:
    """A text without surrounding white space, emphasis and punctuation."""
    text = text.strip().strip("*").strip()
    return text if text.endswith("...") else text.rstrip(" .,;")


def _bare(text: str) -> str:
    """A text without braces around the whole."""
    text = _stripped(re.sub(r"\s+", " ", text))
    return text[1:-1].strip() if re.fullmatch(r"\{[^{}]*\}", text) else text


def _unfonted(text: str) -> str:
    return re.sub(r"\\text\{([^{}]*)\}", r"\1", text)


def _unitless(text: str) -> str:
    """A text without unit, ordinal ending, currency and trailing remark."""
    for _ in range(3):
        before = text
        for pattern in (_ORDINAL, _GLOSS, _UNITS, _LETTER_UNITS, _WORDS):
            shorter = pattern.sub("", text)
            if shorter.strip() and re.search(r"[\d)}\\]", shorter):
                text = shorter.strip()
        text = re.sub(r"(?<=\d)'{1,2}$", "", text)
        if text == before:
            return text
    return text


def unit(answer: str) -> str:
    """The unit after a number, or ""."""
    text = _clean(answer)
    match = _UNITS.search(text)
    return re.sub(r"\\text|[\s{}.]", "", match[0]) if match and match.start() else ""


def percent(answer: str) -> bool:
    """Whether an answer is written as a percentage."""
    return bool(_PERCENT.search(_clean(answer)))


def flat(text: str) -> str:
    """A text with normalised white space, and in lower case if it consists of words."""
    text = re.sub(r"\s+", " ", text).strip()
    if re.fullmatch(r"[A-Za-z][A-Za-z'’ .-]+", text) and (len(text) > 2 or text.lower() in ("no", "up")):
        return re.sub(r"^(?:an?|the) (?=[a-z]{3})", "", text.lower())
    if wordy(text):
        return re.sub(r"\s*,\s*", ", ", text)
    return re.sub(r"(?<![\dA-Za-z,]) | (?![\d.A-Za-z])", "", re.sub(r"\s*,\s*", ", ", text)).strip()


_FUNCTION = re.compile(
    "sqrt|sin|cos|tan|cot|sec|csc|log|exp|arcsin|arccos|arctan|sinh|cosh|tanh|binom|floor|ceil|gcd|lcm|max|min|inf|infinity|theta|alpha|beta|"
    "gamma|lambda|sigma|omega|phi"
)


def wordy(text: str) -> bool:
    """Does a text contain words, other than LaTeX commands and products of letters?"""
    plain = re.sub(r"\\(?:begin|end|text|operatorname)\s*\{\w+\}|\\[A-Za-z]+|[_^]\{\w+\}", " ", text)
    runs = [run for run in re.findall(r"(?<![A-Za-z])[A-Za-z]{3,}", plain) if not _FUNCTION.fullmatch(run)]
    if plain.strip().lower() in ("no", "up"):
        return True
    return bool(runs) and (len(max(runs, key=len)) > 4 or bool(re.fullmatch(r"[A-Za-z ,.'-]+", plain)) or len(runs) > 2)


# -- numbers and parts -----------------------------------------------------------------------------------------------

_DECIMAL = r"\d+\.?\d*|\.\d+"


def number(text: str) -> Fraction | None:
    r"""The exact value of an integer, decimal, fraction or mixed number in plain notation.

    Commas or spaces may separate thousands. Decimals may repeat (``0.\overline{3}``, ``0.(3)``, ``0.333...``) or have a
    power of ten (1e5).
    """
    text = re.sub(r"^([-+])\s+", r"\1", text.strip())
    if len(text) > _LONGEST_NUMBER:
        return None
    if match := re.fullmatch(
        r"([-+]?)(?:(\d+) ?)?\\frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(-?\d+)\s*\}|(\d))", text
    ):
        sign, whole, top, bottom = match[1], match[2], int(match[3] or match[4]), int(match[5] or match[6])
        return _mixed(sign, whole or "0", Fraction(top, bottom), bool(whole)) if bottom else None
    if match := re.fullmatch(r"([-+]?)(\d+) (\d+)/(\d+)", text):
        sign, whole, top, bottom = match[1], match[2], int(match[3]), int(match[4])
        return _mixed(sign, whole, Fraction(top, bottom), True) if bottom else None
    if (value := _repeating(text)) is not None:
        return value
    if re.fullmatch(r"[-+]?[1-9]\d{0,2}(?:(?:,\d{3})+|(?: \d{3})+)(?:\.\d+)?", text):
        text = re.sub("[, ]", "", text)
    match = re.fullmatch(rf"([-+]?(?:{_DECIMAL})(?:[eE][-+]?\d{{1,3}})?)(?:\s*/\s*(-?\d+))?", text)
    if not match or (match[2] and not int(match[2])):
        return None
    return Fraction(match[1]) / int(match[2] or 1)


def _mixed(sign: str, whole: str, part: Fraction, mixed: bool) -> Fraction | None:
    if mixed and not 0 < part < 1:
        return None
    return (int(whole) + part) * (-1 if sign == "-" else 1)


def _repeating(text: str) -> Fraction | None:
    """The value of a repeating decimal in any of its notations: 0.1666... is (16 - 1)/90."""
    match = re.fullmatch(r"([-+]?)(\d*)\.(\d*)(?:\\(?:overline|bar|dot)\s*\{(\d+)\}|\((\d+)\))", text)
    if match:
        sign, whole, once, again = match[1], match[2], match[3], match[4] or match[5]
    elif text.endswith(("..", "ldots")) and (
        match := re.fullmatch(r"([-+]?)(\d*)\.(\d*?)(\d{1,6}?)(?:\4){2,}(?:\\ldots|\.\.+)", text)
    ):
        sign, whole, once, again = match.groups()
    else:
        return None
    top = int(whole + once + again) - int(whole + once or "0")
    return Fraction(top, int("9" * len(again) + "0" * len(once))) * (-1 if sign == "-" else 1)


_CUT = r"(?P<skip>(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?![\d,]*\d))|(?P<open>\\?[({\[]|\\begin\b)|(?P<close>\\?[)}\]]|\\end\b)"


def split(text: str, separator: str, thousands: bool = True) -> list[str]:
    """The parts of a text at a separator outside all brackets.

    Args:
        text: a tidy text.
        separator: a pattern.
        thousands: whether ``1,000`` is one part.
    """
    if thousands and number(text) is not None:
        return [text]
    parts, depth, start = [], 0, 0
    for match in re.finditer(
        rf"{_CUT if thousands else _CUT[_CUT.index('|(?P<open>') + 1 :]}|(?P<cut>{separator})", text
    ):
        groups = match.groupdict()
        depth += bool(groups["open"]) - bool(groups["close"])
        if groups["cut"] and depth == 0:
            parts.append(text[start : match.start()])
            start = match.end()
    return [p.strip() for p in [*parts, text[start:]] if p.strip()]


def opened(text: str) -> tuple[str, str, str] | None:
    """(bracket, content, bracket) of a text that is enclosed in one pair of brackets. Half-open intervals count as a
    pair."""
    if re.fullmatch(r"\{[^{}]*,[^{}]*\}", text):  # a set in braces without LaTeX's backslashes
        text = rf"\{text[:-1]}\}}"
    match = re.fullmatch(r"(\\\{|[(\[])(.*)(\\\}|[)\]])", text, re.DOTALL)
    if not match:
        return None
    depth = 0
    for bracket in re.finditer(r"[({\[]|[)}\]]", match[2]):
        depth += 1 if bracket[0] in "({[" else -1
        if depth < 0:
            return None
    return (match[1], match[2].strip(), match[3]) if not depth else None


def signs(text: str) -> list[str]:
    """Both readings of a text with one plus-minus sign, else the text itself."""
    return [text.replace(r"\pm", sign) for sign in "+-"] if text.count(r"\pm") == 1 else [text]
