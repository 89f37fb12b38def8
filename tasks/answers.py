"""Answers: what a model's text says, its canonical form for votes, and whether it equals the gold answer.

Four sources are read, in this order, and only outside the model's thinking: the last ``\\boxed{...}``, the last JSON
``"answer"`` field, the last "the answer is ..." sentence. A bare last number is never taken for an answer.
"""

from __future__ import annotations

import re

from tasks.equality import canonical, equivalent

__all__ = ["canonical", "choice", "equivalent", "extract", "spoken"]

# Patterns read whole paths, so none may take more than linear time: repetitions that cannot help by giving back do not (``++``).
# Tokenizers drop gpt-oss's special tokens on decoding: "<|channel|>analysis<|message|>" becomes "analysis".
_FINAL = re.compile(r"<\|channel\|>final\b[^<]*(?:<\|constrain\|>\w*)?<\|message\|>")
_CHANNEL = re.compile(r"<\|channel\|>|(?:analysis|commentary)(?![\s:;,.)*_]|[a-z]*\s+(?:of|is)\b)")
_BARE_FINAL = re.compile(r"assistant\s?final(?![a-z])")
_END = re.compile(r"<\|(?:return|end|im_end|eot_id|endoftext|call)\|>.*", re.DOTALL)
_BRACE = re.compile(r"(?P<box>\\(?:boxed|fbox)\s*\{)|\\(?:boxed|fbox)\s+(?P<word>[^\s${}.,;]+)|\\.|[{}]", re.DOTALL)
_JSON = re.compile(
    r'"(?:final[ _])?answer"\s*:\s*(?:"(?P<string>(?:[^"\\\n]|\\.)*)"|(?P<list>\[[^\]\n]{0,1000}\])|(?P<bare>[^\s,}\]"]+))',
    re.IGNORECASE,
)
_SENTENCE = re.compile(
    r"""\b(?:answer|(?:correct|right|best)\s(?:option|choice))\b(?:\s+(?:to|for)\s[^.\n]{0,80}?)?  # ... to the question
        (?:[*_]*\s*+:\s*+[*_]*\s*+|[*_]*\s++is\b\s*+:?\s*+|[*_]*\s*+=\s*+|\*\*[^\S\n]*+\n\s*+)
        (?=\S)""",
    re.IGNORECASE | re.VERBOSE,
)
_MATH = r"(?:\$\$?[^$]+\$\$?|\\\(.+?\\\)|\\\[.+?\\\])"
_LEADING_MATH = re.compile(rf"{_MATH}(?:\s*(?:,|,?\s*and|,?\s*or)\s+{_MATH})*")
_BOLD = re.compile(r"(\*\*|__)(.+?)\1")
_SENTENCE_END = re.compile(
    r"[.!?](?=\s|$)|;\s|(?:,|(?<!\s))\s++(?:because|since|which|so that|as)\s|,\s++(?:so|where|giving)\s"
)


def spoken(text: str) -> str | None:
    """What the model says outside its thinking, or None where a thinking block was opened and never closed.

    Thinking is ``<think>...</think>`` or a gpt-oss channel other than ``final``, with or without its special tokens.
    A text whose ``<think>`` stood in the prompt and is never closed cannot be told from plain text: it is spoken.
    """
    if finals := list(_FINAL.finditer(text)):
        return _END.sub("", text[finals[-1].end() :])
    if _CHANNEL.match(text.lstrip()):
        parts = _BARE_FINAL.split(text)
        return _END.sub("", parts[-1]) if len(parts) > 1 else None
    behind = text.rpartition("</think>")[2]
    return None if "<think>" in behind else behind


def extract(text: str) -> str | None:
    """The answer as written, or None: the last box, else the last JSON field, else the last answer sentence."""
    reply = spoken(text)
    if reply is None:
        return None
    for source in (_boxes, _fields, _sentences):
        if answers := source(reply):
            return answers[-1]
    return None


def choice(text: str, letters: str = "ABCD") -> str | None:
    """The chosen letter of a multiple-choice answer, or None: JSON field, else box, else answer sentence."""
    reply = spoken(text)
    if reply is None:
        return None
    for source in (_fields, _boxes, _sentences):
        for answer in reversed(source(reply)):
            if letter := _letter(answer, letters, anycase=source is not _sentences):
                return letter
    return None


def _letter(answer: str, letters: str, anycase: bool) -> str | None:
    """The letter an answer consists of or starts with: C, (C), **C**, \\text{C}, Option C, C. mitochondria, $C$."""
    plain = re.sub(r"\\(?:text|mathrm|mathbf|textbf|mathsf)\b|\\[()\[\]]|[{}$*_`]", "", answer).strip()
    plain = re.sub(r"^(?:option|choice|letter)\s+", "", plain, flags=re.IGNORECASE)
    if anycase and len(plain.strip("(). ")) == 1:
        plain = plain.upper()
    one = f"[{re.escape(letters)}]"
    if re.match(rf"\(?{one}\)?\s*(?:(?:and|or|&|/)\s*\(?{one}\b|,\s*\(?{one}\)?$)", plain):
        return None  # two letters are no choice
    match = re.match(rf"\(?({one})(?![A-Za-z0-9'’]|-\w|\s*[=+^])", plain)
    return match[1] if match else None


def _boxes(reply: str) -> list[str]:
    """The contents of all balanced boxes, ``\\boxed 5`` included, in the order they end; of nested ones the inner."""
    boxes: list[str] = []
    # For each open brace, if it opens a box: where its content begins, and how many boxes end before it.
    opened: list[tuple[int, int] | None] = []
    for match in _BRACE.finditer(reply):
        if match["word"]:
            boxes.append(match["word"])
        elif match[0].endswith("{") and match[0] != "\\{":
            opened.append((match.end(), len(boxes)) if match["box"] else None)
        elif match[0] == "}" and opened and (box := opened.pop()) and len(boxes) == box[1]:
            boxes.append(reply[box[0] : match.start()].strip())
    return [answer for answer in boxes if answer]


def _fields(reply: str) -> list[str]:
    """The values of all JSON answer fields. Models rarely escape LaTeX, so ``\\f`` is a backslash and an f."""
    values = []
    for match in _JSON.finditer(reply):
        value = match["string"] if match["string"] is not None else match["list"] or match["bare"]
        value = value.replace("\\\\", "\\").replace('\\"', '"').strip()
        values += [value] if value and (match["bare"] is None or value.lower() != "null") else []
    return values


def _sentences(reply: str) -> list[str]:
    """What follows "answer is" or "answer:" up to the end of the sentence, without bold and dollar signs."""
    answers = []
    marks = list(_SENTENCE.finditer(reply))
    ends = [*(m.start() for m in marks), len(reply)][1:]
    for mark, end in zip(marks, ends, strict=True):
        answer = _BOLD.sub(r"\2", reply[mark.end() : end].partition("\n")[0]).strip("*_ ")
        if math := _LEADING_MATH.match(answer):
            answer = math[0]
        elif stop := _SENTENCE_END.search(answer):
            answer = answer[: stop.start()]
        answers.append(answer.strip(" .*`"))
    return [answer for answer in answers if answer]
