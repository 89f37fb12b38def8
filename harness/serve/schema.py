"""The schema of a request: the supported OpenAI fields and ``pathprune``. Any other field is refused by name.

Ignoring a field silently would mislead the client. Fields that cannot be honoured are accepted only at their neutral values.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.serve.errors import APIError
from harness.text import shorten, unknown

LONGEST_LIST = 1024  # messages, and parts of a message
LONGEST_NAME = 200
MOST_STAGES = 16
MOST_STOPS = 16
SEEDS = 2**63 - 1

Whole = Annotated[int, Field(strict=True, ge=1, lt=2**31)]
Seed = Annotated[int, Field(strict=True, ge=0, le=SEEDS)]
Name = Annotated[str, Field(strict=True, min_length=1, max_length=LONGEST_NAME)]
StopString = Annotated[str, Field(strict=True, min_length=1, max_length=1000)]
Place = Literal["token", "step", "forced"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)


class TextPart(_Strict):
    """A part of a message; only text is supported."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """A turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=LONGEST_LIST)]
    name: str | None = None
    refusal: None = None


class Pruning(_Strict):
    """The pruning options under ``pathprune``; the server's defaults apply to missing ones."""

    n: Whole | None = None
    keep: Whole | None = None
    prefix: Whole | None = None
    stages: (
        Annotated[str, Field(max_length=400)]
        | Annotated[list[tuple[Whole, Whole] | tuple[Whole, Whole, Place]], Field(max_length=MOST_STAGES)]
        | None
    ) = None
    pruner: Name | None = None
    stopping: Name | None = None
    vote: Name | None = None
    ended: Literal["count", "bypass"] | None = None
    problem: Name | None = None


class StreamOptions(_Strict):
    """Options of a stream."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class ResponseFormat(_Strict):
    """Texts only."""

    type: Literal["text"]


class ChatRequest(_Strict):
    """The body of ``POST /v1/chat/completions``."""

    model: Name
    messages: Annotated[list[Message], Field(min_length=1, max_length=LONGEST_LIST)]
    max_tokens: Whole | None = None
    max_completion_tokens: Whole | None = None
    temperature: Annotated[float, Field(strict=True, ge=0, le=1000)] | None = None
    top_p: Annotated[float, Field(strict=True, gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(strict=True, ge=-1, lt=2**31)] | None = None
    seed: Seed | None = None
    stop: StopString | Annotated[list[StopString], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    pathprune: Pruning | None = None

    # Accepted at their neutral values only, because they are not implemented.
    n: Annotated[int, Field(strict=True, ge=1, le=1)] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    response_format: ResponseFormat | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None

    # These do not affect the tokens.
    user: str | None = None
    metadata: dict[str, str] | None = None
    store: bool | None = None
    service_tier: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None


def parse(body: bytes) -> ChatRequest:
    """Parse and validate the body of a request.

    Raises:
        APIError: 400, for the first error.
    """
    try:
        asked = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _refusal(error) from None
    if asked.max_tokens is not None and asked.max_completion_tokens not in (None, asked.max_tokens):
        raise APIError(
            400, "max_tokens and max_completion_tokens differ; give one of them", "invalid_value", "max_tokens"
        )
    if asked.stream_options is not None and not asked.stream:
        raise APIError(400, "stream_options requires stream: true", "invalid_value", "stream_options")
    return asked


def _refusal(error: ValidationError) -> APIError:
    """The first validation error of pydantic, in one line; for a union, the error of the variant that matched furthest."""
    complaints = error.errors(include_url=False, include_context=False, include_input=False)
    first = complaints[0]
    same = [c for c in complaints if c["loc"][:1] == first["loc"][:1]]
    told = max(same, key=lambda c: (len(_field(c["loc"])), c["type"] != "string_type"))
    path = _field(told["loc"])
    param = ".".join(path) or None
    if told["type"] == "json_invalid":
        return APIError(400, f"the body is not valid JSON: {shorten(told['msg'], 200)}", "invalid_json")
    if told["type"] == "extra_forbidden":
        return APIError(400, unknown("field", path[-1], _known(path[:-1])), "unknown_parameter", param)
    if told["type"] == "missing":
        return APIError(400, f"{param} is missing", "missing_required_parameter", param)
    where = param or "the body"
    return APIError(400, f"{shorten(where, 200)}: {shorten(told['msg'], 200)}", "invalid_value", param)


def _field(place: tuple[int | str, ...]) -> list[str]:
    """The location in the body: pydantic's, without the names of union variants."""
    return [
        str(part)
        for part in place
        if isinstance(part, int) or not (part in ("str", "function-wrap") or "[" in part or "(" in part)
    ]


def _known(path: list[str]) -> list[str]:
    """Field names of the object at a location."""
    inner: dict[str, type[BaseModel]] = {
        "pathprune": Pruning,
        "stream_options": StreamOptions,
        "response_format": ResponseFormat,
    }
    kind: type[BaseModel] = inner.get(path[0], Message) if path else ChatRequest
    return list((TextPart if "content" in path else kind).model_fields)
