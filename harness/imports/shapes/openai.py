"""Responses of an OpenAI-compatible server, chat or completion: alone, in the output of a batch, or in a field of a
row.

The question, the gold answer and the id are fields next to the response: ``problem``, ``messages``,
``request.messages``, ``custom_id``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.imports.chats import said
from harness.imports.reading import BESIDE, FieldReader, known
from harness.imports.values import Flaw, is_list
from harness.text import shown
from tasks.benchmarks.files import Row

HOLDERS = ("response", "responses", "completion", "completions", "output", "outputs", "result", "results", "body")
REQUESTS = (
    "messages",
    "request.messages",
    "request.body.messages",
    "request.prompt",
    "request.body.prompt",
    "body.messages",
)
NAMES = {
    "text": "choices[].message.content",
    "finish": "choices[].finish_reason",
    "logprobs": "choices[].logprobs",
    "token_ids": "choices[].token_ids",
    "length": "usage.completion_tokens",
}


class OpenAI:
    """Rows that are a response or contain one or several."""

    name = "openai"

    def fits(self, row: Row) -> bool:
        """Does the row contain responses?"""
        return bool(responses(row)) and not {"epoch", "target"} <= row.keys()  # a sample of inspect_ai

    def reader(self, row: Row, mapping: Mapping[str, str]) -> FieldReader:
        """The reader of the row."""
        ids = ["custom_id", *(name for name in ("problem_id", "idx", "question_id") if is_response(row)), ""]
        asked = {"problem": ["problem", "question", *REQUESTS, "prompt"]}
        problem = known(row, asked | ({"id": ids} if is_response(row) or "custom_id" in row else {}))
        return FieldReader(row, mapping, problem, _choices, NAMES, BESIDE)


def is_response(value: Any) -> bool:
    """Is the value a server's response with choices?"""
    choices = value.get("choices") if isinstance(value, Mapping) else None
    return is_list(choices) and len(choices) > 0 and all(isinstance(c, Mapping) and _has_text(c) for c in choices)


def _has_text(choice: Mapping[str, Any]) -> bool:
    return isinstance(choice.get("message"), Mapping) or isinstance(choice.get("text"), str)


def responses(row: Row) -> list[Mapping[str, Any]]:
    """The responses of a row."""
    if is_response(row):
        return [row]
    for name in HOLDERS:
        held = row.get(name)
        listed = [_body(v) for v in (held if is_list(held) else [held])]
        if listed and all(is_response(value) for value in listed):
            return listed
    return []


def _body(value: Any) -> Any:
    """A response without the envelope of a batch."""
    return value["body"] if isinstance(value, Mapping) and isinstance(value.get("body"), Mapping) else value


def _choices(row: Row) -> Iterator[Mapping[str, Any]]:
    found = responses(row)
    if not found:
        raise Flaw(f"has no response with choices (error: {shown(row.get('error'))})")
    for response in found:
        for choice in response["choices"]:
            yield _path(choice, response)


def _path(choice: Mapping[str, Any], response: Mapping[str, Any]) -> dict[str, Any]:
    message = choice.get("message")
    path = {
        "text": said(message, "message") if isinstance(message, Mapping) else choice["text"],
        "finish": choice.get("finish_reason"),
        "logprobs": choice.get("logprobs"),
        "token_ids": choice.get("token_ids"),
    }
    usage = response.get("usage")
    if path["logprobs"] is None and path["token_ids"] is None and isinstance(usage, Mapping):
        # The usage is the sum over all choices, and a server may count a last token without a log-probability.
        path["length"] = usage.get("completion_tokens") if len(response["choices"]) == 1 else None
    return {target: value for target, value in path.items() if value is not None}


SHAPE = OpenAI()
