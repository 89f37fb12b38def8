"""Formats of tool calls: where a call ends in a text, its code, and how its output is returned to the model.

A call ends with the token that completes it. Whether and where a call ends does not depend on later text, so calls are found
while a path grows.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from harness.api import PathpruneError
from harness.text import shown, unknown

NAME = "python"
SCHEMA = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Run Python code. Variables live on between calls. The value of an expression at the end is shown.",
        "parameters": {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]},
    },
}
TIR = (  # the prompt that Qwen2.5-Math was trained with
    "Please integrate natural language reasoning with programs to solve the problem above, and put your final answer within \\boxed{}."
)
MARK = "\x1dOUTPUT\x1d"


@dataclass(frozen=True)
class Malformed:
    """A call that cannot be run; ``says`` is its output."""

    says: str


@dataclass(frozen=True)
class Written:
    """A call in a text: its end, and its code or its error."""

    end: int
    code: str | Malformed


@dataclass(frozen=True)
class Format:
    """One way to write calls.

    Args:
        name: value of the option ``tool_format``.
        calls: finds the calls in a text, in order.
        before, after: delimiters around an output. The model continues after ``after``.
        opens: inserted before ``before`` unless the text already ends with it.
        closing: the text with which a call ends.
    """

    name: str
    calls: Callable[[str], Iterator[Written]]
    before: str
    after: str
    closing: str
    opens: bool = False

    def given(self, text: str, output: str) -> tuple[str, str, str]:
        """The text to append after a call: (before, output, after)."""
        start = "\n" if self.opens and not text.endswith("\n") else ""
        return start + self.before, output.rstrip("\n") or "(no output)", self.after


FENCED_CALL = re.compile(
    r"^(?P<indent>[ \t]*)```(?:python3?|py)[ \t]*\n(?P<code>.*?)^[ \t]*```", re.DOTALL | re.MULTILINE | re.IGNORECASE
)


def fenced_calls(text: str) -> Iterator[Written]:
    """Code between ```python and ```, each at the start of a line, regardless of other open fences."""
    for call in FENCED_CALL.finditer(text):
        yield Written(call.end(), textwrap.dedent(call["code"]) if call["indent"] else call["code"])


HERMES = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def hermes_calls(text: str) -> Iterator[Written]:
    """JSON between the tags of Hermes and Qwen."""
    for call in HERMES.finditer(text):
        yield Written(call.end(), _of_json(call[1]))


def _of_json(text: str) -> str | Malformed:
    try:
        said = json.loads(text, strict=False)  # models write code with unescaped newlines
    except (ValueError, RecursionError) as error:
        return Malformed(f"SyntaxError: the call is no JSON ({error})")
    if not isinstance(said, dict) or "name" not in said:
        return Malformed('ValueError: a call is {"name": "python", "arguments": {"code": "..."}}')
    if said["name"] != NAME:
        return Malformed(f"NameError: there is no tool {shown(said['name'])}; the only one is python")
    arguments: Any = said.get("arguments", said.get("parameters"))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments, strict=False)
        except (ValueError, RecursionError):
            return Malformed("SyntaxError: the arguments of the call are no JSON")
    code = arguments.get("code") if isinstance(arguments, dict) else None
    return code if isinstance(code, str) else Malformed('TypeError: the arguments of python are {"code": "..."}')


HARMONY = re.compile(r"<\|call\|>")


def harmony_calls(text: str) -> Iterator[Written]:
    """The message to python that ends with <|call|>, as gpt-oss writes it."""
    start = 0
    for call in HARMONY.finditer(text):
        message, start = text[start : call.start()], call.end()
        yield Written(call.end(), _of_harmony(message))


def _of_harmony(message: str) -> str | Malformed:
    header, found, code = message.rpartition("<|message|>")
    asked = re.findall(r"to=([\w.]+)", header.rpartition("<|start|>")[2])
    if not found or not asked:
        return Malformed("ValueError: a call is <|channel|>analysis to=python code<|message|>...<|call|>")
    if asked[-1] not in (NAME, f"functions.{NAME}"):
        return Malformed(f"NameError: there is no tool {shown(asked[-1])}; the only one is python")
    if asked[-1] == NAME:
        return code
    try:
        said = json.loads(code, strict=False)
    except (ValueError, RecursionError):
        return Malformed("SyntaxError: the arguments of the call are no JSON")
    inner = said.get("code") if isinstance(said, dict) else None
    return inner if isinstance(inner, str) else Malformed('TypeError: the arguments of python are {"code": "..."}')


FENCED = Format("fenced", fenced_calls, "```output\n", "\n```\n", "```", opens=True)
HERMES_FORMAT = Format(
    "hermes",
    hermes_calls,
    "<|im_end|>\n<|im_start|>user\n<tool_response>\n",
    "\n</tool_response><|im_end|>\n<|im_start|>assistant\n",
    "</tool_call>",
)
HARMONY_FORMAT = Format(
    "harmony",
    harmony_calls,
    "<|start|>python to=assistant<|channel|>analysis<|message|>",
    "<|end|><|start|>assistant",
    "<|call|>",
)
FORMATS = {format.name: format for format in (FENCED, HERMES_FORMAT, HARMONY_FORMAT)}


def named(name: str) -> Format:
    """A format by its name.

    Raises:
        PathpruneError: if no format has this name, with a suggestion.
    """
    if name not in FORMATS:
        raise PathpruneError(unknown("tool_format", name, list(FORMATS)))
    return FORMATS[name]


def of_template(template: str, model: str) -> Format:
    """The tool format of a model's chat template.

    Raises:
        PathpruneError: if the template has no known format.
    """
    if "<|channel|>" in template and "builtin_tools" in template:
        return HARMONY_FORMAT
    if "<tool_call>" in template and re.search(r"\btools\b", template):
        return HERMES_FORMAT
    what = f"the chat template of {model} has" if template else f"model {model} has no chat template, hence"
    raise PathpruneError(f"{what} no known tool format; name the one that the model uses, such as tool_format=fenced")


def variables(format: Format, template: str, model: str) -> dict[str, Any]:
    """The template variables that describe the tool to the model.

    Raises:
        PathpruneError: if the template does not support tools.
    """
    if format is HARMONY_FORMAT and re.search(r"\bbuiltin_tools\b", template):
        return {"builtin_tools": [NAME]}
    if format is HERMES_FORMAT and re.search(r"\btools\b", template):
        return {"tools": [SCHEMA]}
    if format is FENCED or not template:
        return {}
    raise PathpruneError(
        f"the chat template of {model} does not describe tools, as tool_format={format.name} needs; use tool_format=fenced or leave out tools"
    )
