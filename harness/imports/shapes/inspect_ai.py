"""Logs of inspect_ai, ``.json`` or ``.eval``: one sample per problem and epoch, with messages, output and scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.imports.chats import replied, said
from harness.imports.reading import FieldReader, known
from harness.imports.values import Flaw, as_list, as_object, is_list
from harness.text import shown
from tasks.benchmarks.files import Row

ATTACHED = "attachment://"
GRADES = {
    "C": True,
    "I": False,
    "N": False,
    1: True,  # equals True and 1.0
    0: False,
}  # partial scores are neither
NAMES = {
    "path": "epoch",
    "text": "output.choices[].message",
    "finish": "output.choices[].stop_reason",
    "logprobs": "output.choices[].logprobs",
    "length": "output.usage.output_tokens",
    "answer": "scores[].answer",
    "correct": "scores[].value",
}
UNSAID = ("unknown", "content_filter", "tool_calls")  # stop_reason is neither the model's end nor a limit


class InspectAI:
    """Samples of a log."""

    name = "inspect_ai"

    def fits(self, row: Row) -> bool:
        """Is the row a sample of a log?"""
        return {"id", "epoch", "input", "target"} <= row.keys() and bool({"messages", "output"} & row.keys())

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """The reader of the row."""
        problem = known(row, {"id": ["id"], "problem": ["input"], "gold": ["target"]})
        return FieldReader(row, mapping, problem, _path, NAMES)


def _path(row: Row) -> Iterator[Mapping[str, Any]]:
    if row.get("error"):
        error = row["error"].get("message") if isinstance(row["error"], Mapping) else row["error"]
        raise Flaw(f"the sample ended in an error: {shown(error, 120)}")
    sample = _attached(row, as_object(row.get("attachments"), "attachments"))
    output = as_object(sample.get("output"), "output")
    choices = as_list(output.get("choices") or [], "output.choices")
    path: dict[str, Any] = {"path": sample["epoch"]}
    if choices:
        path |= _choice(as_object(choices[0], "output.choices"))
    else:
        path["text"] = replied(sample.get("messages") or [], "messages")
    if path.get("logprobs") is None:
        path["length"] = as_object(output.get("usage"), "output.usage").get("output_tokens")
    path |= _score(as_object(sample.get("scores"), "scores"))
    yield {target: value for target, value in path.items() if value is not None}


def _choice(choice: Mapping[str, Any]) -> dict[str, Any]:
    reason = choice.get("stop_reason")
    return {
        "text": said(as_object(choice.get("message"), "output.choices.message"), "message"),
        "logprobs": choice.get("logprobs"),
        "finish": None if reason in UNSAID else reason,
    }


def _score(scores: Mapping[str, Any]) -> dict[str, Any]:
    """The value of the first scorer."""
    score = as_object(next(iter(scores.values()), None), "scores")
    value = score.get("value")
    answer = {"answer": score["answer"]} if isinstance(score.get("answer"), str) else {}
    graded = isinstance(value, str | bool | int | float) and value in GRADES
    return {**answer, **({"correct": GRADES[value]} if graded else {})}


def _attached(value: Any, attachments: Mapping[str, str]) -> Any:
    """The value with long texts inserted, which a log stores as attachments."""
    if isinstance(value, str) and value.startswith(ATTACHED):
        name = value.removeprefix(ATTACHED)
        if name not in attachments:
            raise Flaw(f"its attachment {shown(name)} is not in the log")
        return attachments[name]
    if isinstance(value, Mapping):
        return {key: _attached(inner, attachments) for key, inner in value.items() if key != "attachments"}
    return [_attached(inner, attachments) for inner in value] if is_list(value) else value


SHAPE = InspectAI()
