"""Outputs of vLLM's offline API and similar rows: a prompt, and ``outputs`` with ``text``, ``token_ids``, ``logprobs``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.imports.mapping import PATH, find
from harness.imports.reading import BESIDE, FieldReader
from harness.imports.values import Flaw, is_list
from harness.text import shown
from tasks.benchmarks.files import Row

HOLDERS = ("outputs", "completions", "generations", "responses", "samples", "paths", "rollouts")
TEXTS = {"text", "token_ids", "generated_text", "completion", "response"}
NAMES = {
    "text": "outputs[].text",
    "token_ids": "outputs[].token_ids",
    "finish": "outputs[].finish_reason",
    "logprobs": "outputs[].logprobs",
}


class VLLM:
    """Rows with a list of outputs, each an object."""

    name = "vllm"

    def fits(self, row: Row) -> bool:
        """Is the row such an output?"""
        return _holder(row) is not None

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """The reader of the row."""
        return FieldReader(row, mapping, {}, _outputs, NAMES, BESIDE)


def _holder(row: Row) -> str | None:
    return next((name for name in HOLDERS if _is_outputs(row.get(name))), None)


def _is_outputs(value: Any) -> bool:
    return is_list(value) and len(value) > 0 and all(isinstance(v, Mapping) and TEXTS & v.keys() for v in value)


def _outputs(row: Row) -> Iterator[Mapping[str, Any]]:
    holder = _holder(row)
    if holder is None:
        raise Flaw(f"has no outputs with a text: {shown({name: row[name] for name in HOLDERS if name in row})}")
    for output in row[holder]:
        found = find(output, {}, tuple(PATH))
        yield {target: output[name] for target, name in found.items() if target in PATH and output[name] is not None}


SHAPE = VLLM()
