"""A seeded engine that writes calls of Python: what a model with a tool looks like to the harness, in microseconds.

Its tokens are characters. It writes one script after the other, each begun by MARK and a drawn digit: calls of several kinds,
fences that are none, and at last an answer, made of the last output. Behind a call it goes on with an output that it makes up, as models
do; what a tool engine leaves of that is a mistake.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from harness.api import Problem
from harness.engines.toy import END, ToyEngine
from harness.tools.engine import ToolEngine
from harness.tools.sandbox import Sandbox

MARK = "§"
MADE_UP = "\n```output\n999\n```\n"
SCRIPTS = {
    0: "no call: ```text\nx = 1\n``` nor\n```json\n{}\n```\nthis.\n",
    1: "\n```python\nx = globals().get('x', 0) + {k}\nx\n```",
    2: "\n```python\nprint(x)\nprint(y{k})\n```\n",
    3: "\n```py\nx = 77\nimport os; os._exit({k})\n```",
    4: "\n```python\nx = [x] if 'x' in globals() else 3\nx\n```",
    5: "\n```python\nfor\n```",
    6: "answer {digit}\x1f",
}


class Caller(ToyEngine):
    """See the module; longest after five scripts."""

    def __init__(self) -> None:
        super().__init__("caller")
        self.spec = {**self.spec, "fingerprint": "caller-1"}

    def decode(self, tokens: Sequence[int]) -> str:
        return "".join(chr(t) for t in tokens if t != END)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(map(ord, text))

    def _next(self, problem: Problem, tokens: list[int], u: float) -> int:
        text = "".join(map(chr, tokens))
        before, begun, script = text.rpartition(MARK)
        if not begun:
            return ord(MARK)
        number = before.count(MARK) + 1
        if not script:
            return ord("6" if number > 4 else str(int(u * 7)))
        digit = (re.findall(r"\d", before) or ["0"])[-1]
        body = SCRIPTS.get(ord(script[0]) - ord("0"), "").replace("{k}", str(number)).replace("{digit}", digit)
        body += MADE_UP if "```py" in body else ""
        rest = script[1:]
        return ord(body[len(rest)]) if len(rest) < len(body) and body.startswith(rest) else ord(MARK)


def calling(sandbox: Sandbox, stride: int = 16, **options: Any) -> ToolEngine:
    """A caller with Python."""
    return ToolEngine(Caller(), {"tools": "python", "tool_format": "fenced", **options}, sandbox, stride)
