"""Answers: extraction from a model's text, the canonical form for votes, and comparison with the gold answer.

Six sources are read, in this order, and only outside the model's thinking: the last ``\\boxed{...}`` (including boxes joined to it
by "or", "and" or a comma; a box before a question mark is a guess), the last JSON ``"answer"`` field, the last ``<answer>``
tag, the last line of the form ``#### 42``, and the last "the answer is ..." sentence or "Answer" heading. A remark on an answer
("this answer is unique") is not an answer. A bare last number is never taken as an answer, and an answer is never empty.
"""

from __future__ import annotations

import re

from tasks.equality import canonical, equivalent
from tasks.notation import tidy
from tasks.spoken import spoken

__all__ = ["canonical", "choice", "equivalent", "extract", "spoken", "usual"]

LONGEST = 5000  # characters of a sentence's answer; the rest is not read
MOST = 50  # answer sentences that are read, counted from the last

# Patterns read whole paths and must run in linear time: repetitions are possessive (``++``) if backtracking cannot help.
_BRACE = re.compile(
    r"""(?P<box>(?:\\(?:boxed|fbox)\s*\{|<\|begin_of_box\|>))|(?P<boxed><\|end_of_box\|>)
    |\\(?:boxed|fbox)\s*(?P<word>[-+]?\d[\d,]*+(?:\.\d+)?(?:/\d+)?|\\pi(?![a-z])|(?<=\s)[A-Za-z](?=\s?(?:\$|\\\)|\.?$)))
    |\\.|[{}]""",
    re.DOTALL | re.VERBOSE,
)
_TEXT_OR = r"(?:and|or|\\text\s?\{\s?(?:and|or)\s?\})"
_SPACE = r"(?:[\s$]|\\q?quad(?![a-z])|\\[ ,;])*"
_BETWEEN_BOXES = re.compile(
    rf"{_SPACE}(?:\\[)\]])?{_SPACE}(?:[,;]{_SPACE}{_TEXT_OR}?|{_TEXT_OR}){_SPACE}(?:\\[(\[])?{_SPACE}(?:[A-Za-z]\w{{0,3}}\s*=\s*)?"
)
_JSON = re.compile(
    r"""["“'](?:final[ _])?answer["”']\s*:\s*(?:\{\s*"\w{1,40}"\s*:\s*)?
    (?:"(?P<string>(?:[^"\\\n]|\\.)*)"|'(?P<quoted>[^'\n]*)'|(?P<list>\[[^\]\n]{0,1000}\])|(?P<bare>[^\s,}\]"]+))""",
    re.IGNORECASE | re.VERBOSE,
)
_LIST_OF_ONE = re.compile(r"""\[\s*(?:"([^"]*)"|([^\s",\[\]]+))\s*\]""")
_TAGGED = re.compile(r"<answer>((?:(?!<answer>|</answer>).)++)(?:</answer>|\Z)", re.IGNORECASE | re.DOTALL)
_HASHED = re.compile(r"^####[ \t]*+([-+$\\]?[\d.\\$][^\n]{0,80})$", re.MULTILINE)
_VERB = r"""(?:(?:must|should|would|will|has\sto|comes\sout\sto|turns\sout\sto|works\sout\sto)\s(?:then\s|therefore\s|thus\s)?be
    |comes\sout\s(?:to|as)|is|are|was|equals|becomes)"""
_MARK = re.compile(
    rf"""(?P<this>(?<![A-Za-z])(?:this|that|any|another|an|no|every|each|your|whose)\s)?
    (?<![A-Za-z])(?:(?:final\s)?answers?|ans|(?:correct|right|best|final)\s(?:option|choice)|final\sresult)(?![A-Za-z])\.?
    (?:,\s(?:then|therefore|thus|hence|of\scourse|in\sfact|indeed|finally),)?
    (?:\s?\([^()\n]{{0,60}}\))?(?:\s+(?:to|for|in|of)\s[^.\n:]{{0,80}}?)?  # ... to the question
    (?:[*_]*\s*+:\s*+[*_]*\s*+|[*_]*\s++{_VERB}\b\s*+:?\s*+|[*_]*\s*+=\s*+|\s[-–—]\s|(?:\*\*|\#)*[^\S\n]*+\n\s*+(?=[*$\\\d(-]))
    (?=\S)""",
    re.IGNORECASE | re.VERBOSE,
)
_ADVERBS = re.compile(
    r"""(?:(?:thus|then|therefore|hence|exactly|precisely|approximately|roughly|about|around|simply|just|indeed|clearly|actually|also|now|
    only|equal\sto|given\sby|(?:found|determined|calculated|computed|known)\sto\sbe|(?:the\s)?(?:option|choice|letter|number|value|integer|fraction)(?=\s+[\d(A-Z\\$*]))\b[\s,:]*)+""",
    re.IGNORECASE | re.VERBOSE,
)
_REMARK = re.compile(
    r"""(?:not|never|in?correct|in?valid|wrong|right|true|good|fine|well|clear|unique|consistent|obvious|plausible|sensible|reasonable|
    verified|confirmed|supported|the\ssame|as\sfollows|given|found|shown|known|unknown|expected|required|needed|indeed|already|based|
    positive|negative|still|too|very|simplified|complete|final|below|above|boxed|what|that|independent|likely|probably|somewhere|
    between|either|greater|less|more|in|at|of|to|an?|so|it|we|I|you|there|easy|hard|simple|determined|obtained|calculated|derived)\b""",
    re.IGNORECASE | re.VERBOSE,
)
_MATH = r"(?:\$\$[^$]+\$\$|\$[^$]+\$|\\\((?:(?!\\\)).){1,2000}\\\)|\\\[(?:(?!\\\]).){1,2000}\\\])"
_SCALE = r"(?:\s*(?:hundred|thousand|million|billion|trillion|percent|\\?%)(?![A-Za-z]))?"
_LEADING_MATH = re.compile(rf"{_MATH}(?:\s*(?:,|,?\s*and|,?\s*or)\s+{_MATH})*{_SCALE}", re.DOTALL)
_LEADING_ROWS = re.compile(r"\\begin\{(\w+)\}(?:(?!\\begin|\\end).){0,2000}\\end\{\1\}", re.DOTALL)
_BOLD = re.compile(r"(\*\*|__)(.+?)\1")
_SENTENCE_END = re.compile(
    r"""(?<!\s[ap]\.m)(?<!\bin)[.!?](?=[*_"”']*(?:\s|$))|;\s|\s[—–]\s|\s--\s|\s[-]\s(?=[A-Za-z]{2})
    |(?:,|(?<!\s))\s++(?:because|since|which|so\sthat|as|i\.e\.|e\.g\.|namely|found|obtained)\s|,\s++(?:so|where|giving|not|but)\s""",
    re.VERBOSE,
)
_LETTER_IS_RIGHT = re.compile(
    r"\b(?:option|choice|answer|letter)\s\(?([A-Z])\)?\s(?:is|must\sbe)\s(?:the\s)?(?:correct|right|best|answer)\b",
    re.IGNORECASE,
)
_LETTER_ALONE = re.compile(r"^(?:option|choice)?[*_\s(\[$]*([A-Z])[)\].*_\s$]*$", re.IGNORECASE)


def extract(text: str) -> str | None:
    """The answer in a text as written, or None without one."""
    reply = spoken(text)
    if reply is None:
        return None
    for source in (_boxes, _fields, _tags, _hashes, _sentences):
        if answers := [answer for answer in source(reply)[-20:] if _says(answer)]:
            return answers[-1]
    return None


def usual(text: str) -> str | None:
    """The canonical form of the answer that a text states in a common form; None without one."""
    answer = extract(text)
    return None if answer is None else canonical(answer)


def _says(answer: str) -> bool:
    """Whether an answer is non-empty without its decoration."""
    return len(answer) > LONGEST or bool(tidy(answer))


def choice(text: str, letters: str = "ABCD") -> str | None:
    """The chosen letter of a multiple-choice answer, or None. Sources are JSON field, box, tag and answer sentence, then "Option C is
    correct" or a letter by itself."""
    reply = spoken(text)
    if reply is None:
        return None
    for source in (_fields, _boxes, _tags, _sentences, _letters_alone):
        for answer in reversed(source(reply)):
            if letter := _letter(answer, letters, anycase=source is not _sentences):
                return letter
    return None


def _letter(answer: str, letters: str, anycase: bool) -> str | None:
    """The letter an answer consists of or starts with: C, (C), **C**, \\text{C}, Option C, C. mitochondria, $C$, [C], 'C'."""
    plain = re.sub(
        r"\\(?:text|mathrm|mathbf|textbf|mathsf|boxed)\b|\\[()\[\]]|[{}$*_`\[\]\"“”]|(?<!\w)'|'(?!\w)", "", answer
    ).strip()
    plain = re.sub(r"^(?:option|choice|letter|answer)\s*:?\s+", "", plain, flags=re.IGNORECASE)
    if anycase and len(plain.strip("(). ")) == 1:
        plain = plain.upper()
    one = f"[{re.escape(letters)}]"
    if re.match(rf"\(?{one}\)?\s*(?:(?:and|or|&|/)\s*\(?{one}\b|,\s*\(?{one}\)?$)", plain):
        return None  # two letters are not a choice
    match = re.match(rf"\(?({one})(?![A-Za-z0-9'’]|-\w|\s*[=+^])", plain)
    return match[1] if match else None


def _letters_alone(reply: str) -> list[str]:
    """The letter that a reply calls right, or that makes up its whole last line."""
    said = [match[1] for match in _LETTER_IS_RIGHT.finditer(reply)]
    last = reply.rstrip().rpartition("\n")[2][-80:]
    return said or [match[1] for match in [_LETTER_ALONE.match(last)] if match]


def _boxes(reply: str) -> list[str]:
    """The contents of all balanced boxes, ``\\boxed 5`` included, in the order of their ends; of nested boxes, the inner one."""
    boxes: list[tuple[int, int, str]] = []  # (start, end, content)
    # For each open brace that opens a box: start of the box, start of its content, and number of boxes that end before it.
    opened: list[tuple[int, int, int] | None] = []
    for match in _BRACE.finditer(reply):
        if match["word"]:
            boxes.append((match.start(), match.end(), match["word"]))
        elif match["box"] or match[0] == "{":
            opened.append((match.start(), match.end(), len(boxes)) if match["box"] else None)
        elif (match["boxed"] or match[0] == "}") and opened and (box := opened.pop()) and len(boxes) == box[2]:
            boxes.append((box[0], match.end(), reply[box[1] : match.start()].strip()))
    return _together(
        reply, [box for box in boxes if box[2] and not reply[box[1] : box[1] + 3].lstrip(" $").startswith("?")]
    )


def _together(reply: str, boxes: list[tuple[int, int, str]]) -> list[str]:
    """The contents of boxes; boxes separated only by "or", "and" or a comma are joined to one answer."""
    answers: list[str] = []
    for i, (start, _, content) in enumerate(boxes):
        if answers and start - boxes[i - 1][1] < 40 and _BETWEEN_BOXES.fullmatch(reply, boxes[i - 1][1], start):
            answers[-1] += ", " + content
        else:
            answers.append(content)
    return answers


def _fields(reply: str) -> list[str]:
    """The values of all JSON answer fields. Models rarely escape LaTeX, so ``\\f`` is a backslash and an f."""
    if '\\"' in reply and not re.search(r'(?<!\\)"', reply):  # JSON escaped inside a JSON string
        reply = reply.replace('\\"', '"')
    values = []
    for match in _JSON.finditer(reply):
        value = next(match[kind] for kind in ("string", "quoted", "list", "bare") if match[kind] is not None)
        if alone := _LIST_OF_ONE.fullmatch(value):
            value = alone[1] or alone[2] or ""
        value = value.replace("\\\\", "\\").replace('\\"', '"').strip()
        values += [value] if value and (match["bare"] is None or value.lower() != "null") else []
    return values


def _tags(reply: str) -> list[str]:
    """The contents of ``<answer>`` tags; of a sentence in a tag, its answer."""
    return [(_sentences(tagged) or [tagged])[-1] for match in _TAGGED.finditer(reply) if (tagged := match[1].strip())]


def _hashes(reply: str) -> list[str]:
    """GSM8K's last line."""
    return [match[1].strip() for match in _HASHED.finditer(reply)]


def _sentences(reply: str) -> list[str]:
    """The text after "answer is" or "answer:" up to the end of the sentence; words count only if nothing else does."""
    formulas, words = [], []
    marks = list(_MARK.finditer(reply))[-MOST:]
    ends = [*(m.start() for m in marks), len(reply)][1:]
    for mark, end in zip(marks, ends, strict=True):
        region = _ADVERBS.sub("", reply[mark.end() : min(end, mark.end() + LONGEST)].lstrip("*_ \n.…"), count=1)
        answer = _sentence(region)
        if not answer:
            continue
        if _starts_with_value(answer):
            formulas.append(answer)
        elif not mark["this"] and not _REMARK.match(answer):
            words.append(answer)
    return formulas or words


def _starts_with_value(answer: str) -> bool:
    """Whether a text starts with a number, a formula, one letter, a quotation or a name."""
    return bool(
        re.match(
            r"""[-+~≈±]?\s?[\d.$\\(\[{|"'“‘`√π∞<½¼¾⅓⅔€£¥∅]|[A-Za-z](?![A-Za-z'’])(?!\s[a-z]{2})|[A-Z]\w*[.!]?$""",
            answer,
        )
    )


def _sentence(region: str) -> str:
    """The answer that a text starts with, without bold and dollar signs."""
    leading = _LEADING_MATH.match(region) or _LEADING_ROWS.match(region)
    if leading and leading.end() > 2:
        return leading[0].strip()
    line = _BOLD.sub(r"\2", region.partition("\n")[0]).strip("*_ ")
    if math := _LEADING_MATH.match(line):
        return math[0].strip()
    if stop := _SENTENCE_END.search(line):
        line = line[: stop.start()]
    return _listed(line).strip(" .*`")


def _listed(line: str) -> str:
    """A line up to the first comma that does not continue a list."""
    parts = re.split(r"(,\s+)", line)
    if len(parts) < 3:
        return line
    kept = parts[0]
    for comma, part in zip(parts[1::2], parts[2::2], strict=True):
        worded = re.search(
            r"[A-Za-z]{3,}",
            re.sub(r"\\[A-Za-z]+(?:\{[^{}]*\})?|(?<![A-Za-z])(?:and|sqrt|cos|sin|tan|log)\b", " ", part),
        )
        if worded and (re.search(r"\d", kept) or not re.fullmatch(r"(?:and |or )?[A-Z]\w*", part.strip(" ."))):
            break
        kept += comma + part
    return kept
