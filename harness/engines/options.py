"""Options of engines: their types and ranges, validated before an engine is opened."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from harness.api import PathpruneError

DTYPES = ("float32", "float16", "bfloat16")
DEVICE = r"cpu|(cuda|xpu|npu|mps|hpu)(:\d{1,4})?"
NAME = r"[\w./@:-]{1,200}"
SECRET = ("key", "url")  # options whose values are never shown in errors


@dataclass(frozen=True)
class Option:
    """The valid values of an option: ``kind`` is bool, int, float or str; numbers from ``least`` to ``most``, texts match ``form``."""

    kind: type
    says: str  # description of the valid values, for messages
    least: float = -math.inf
    most: float = math.inf
    form: str = ""

    def takes(self, value: Any) -> bool:
        """Whether a value is valid."""
        if self.kind in (int, float):
            plain = isinstance(value, (int, float) if self.kind is float else int) and not isinstance(value, bool)
            return plain and math.isfinite(value) and self.least <= value <= self.most
        return isinstance(value, self.kind) and (not self.form or bool(re.fullmatch(self.form, str(value))))


def count(says: str, most: float) -> Option:
    """An option that is an integer of 1 or more."""
    return Option(int, f"an integer from 1 to {most:,.0f} ({says})", 1, most)


ROWS = count("concurrent paths", 1 << 20)
AT_ONCE = {"hf": 1024, "vllm": 256, "vllm-http": 64, "completions": 64}  # the default of rows, by engine
CONTEXT = count("tokens", 1 << 30)
CHAT = {  # part of the spec, because they change the prompt
    "chat": Option(bool, "true or false"),
    "thinking": Option(bool, "true or false"),
    "effort": Option(str, "a word such as low or high", form=r"\w{1,40}"),
}
TOOLS = {  # part of the spec, because they change the tokens of a path
    "tools": Option(str, "python", form="python"),
    "tool_format": Option(str, "fenced, hermes or harmony", form=r"\w{1,40}"),
    "tool_seconds": Option(float, "a number of CPU seconds per call from 0.1 to 3,600", 0.1, 3600),
    "tool_output": count("characters of a call's output that the model reads", 1 << 20),
    "tool_memory": count("MiB", 1 << 20),
    "tool_paths": count("paths with a live interpreter", 4096),
    "unsafe_tools": Option(bool, "true or false; true runs a model's code with all your rights"),
}
CHAT |= {name: TOOLS[name] for name in ("tools", "tool_format")}
HF = {
    "device": Option(str, "cpu, cuda or cuda:N", form=DEVICE),
    "device_map": Option(str, "auto, balanced or a device", form=NAME),
    "attention": Option(str, "a name of transformers such as sdpa or eager", form=NAME),
    "memory": count("bytes of KV cache", 1 << 50),
    "rows": ROWS,
    "packed": Option(bool, "true or false; true adds a copy of the weights that is packed for a CPU"),
}
STATISTICS = Option(bool, "true or false; false omits token statistics and uses a separate bank")
VLLM = {
    "memory": Option(float, "a number of GiB above 0", 1e-3, 1e6),
    "context": CONTEXT,
    "block": count("tokens", 1 << 20),
    "tensor_parallel": count("devices", 1024),
    "rows": ROWS,
    "eager": Option(bool, "true or false; true disables captured graphs and compilation"),
    "statistics": STATISTICS,
}
REMOTE = {
    "statistics": STATISTICS,
    "url": Option(str, "a server's address such as http://host:8000", form=r"https?://.+"),
    "context": CONTEXT,
    "rows": ROWS,
    "timeout": Option(float, "a number of seconds from 0.1 to 1,000,000", 0.1, 1e6),
    "key": Option(str, "a bearer token; better set in the environment variable PATHPRUNE_API_KEY"),
}
TOY = {
    "skill": Option(float, "a number from 0 to 1", 0, 1),
    "spread": count("tokens", 1 << 20),
}


def hold(engine: str, options: Mapping[str, Any], known: Mapping[str, Option]) -> None:
    """Refuse unknown options and invalid values.

    Raises:
        PathpruneError: names the option and its valid values.
    """
    for name, value in options.items():
        shown = f"{name}=..." if name in SECRET else f"{name}={value}"
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}?" if near else f"its options: {', '.join(sorted(known))}"
            raise PathpruneError(f"engine {engine} does not take {shown}; {hint}")
        if not known[name].takes(value):
            raise PathpruneError(f"engine {engine} does not take {shown}; {name} must be {known[name].says}")


def hold_weights(engine: str, dtype: Any, revision: Any) -> None:
    """Refuse a dtype that is not in ``DTYPES``, and a revision that was parsed as a number (1.10 would become 1.1).

    Raises:
        PathpruneError: names the option and its valid values.
    """
    if dtype not in DTYPES:
        raise PathpruneError(f"engine {engine}: dtype must be {', '.join(DTYPES[:-1])} or {DTYPES[-1]}, not {dtype!r}")

    if revision is not None and (not isinstance(revision, str) or not revision.strip()):
        raise PathpruneError(
            f"engine {engine}: revision={revision} is read as a number; give a branch, a tag with a letter or the whole commit"
        )
