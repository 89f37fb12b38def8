"""Chat turns: the user's prompt, and the assistant's reply preceded by its reasoning."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.imports.values import Flaw, is_list
from harness.imports.values import text as as_text
from harness.text import shown

USERS = {"user", "human"}
ASSISTANTS = {"assistant", "gpt", "model"}
REASONING = ("reasoning_content", "reasoning", "thinking")


def asked(turns: Any, name: str) -> str | None:
    """The user's turns of a chat, joined by line breaks, or a plain-text prompt; None if there is no user turn."""
    if isinstance(turns, str):
        return as_text(turns, name)
    users = [_content(turn, name) for turn in _turns(turns, name) if _role(turn) in USERS]
    return "\n\n".join(users) or None


def replied(turns: Any, name: str) -> str:
    """The last assistant turn, with its reasoning as the model wrote it."""
    replies = [turn for turn in _turns(turns, name) if _role(turn) in ASSISTANTS]
    if not replies:
        raise Flaw(f"{name} has no assistant turn, so no path")
    return said(replies[-1], name)


def is_chat(value: Any) -> bool:
    """Is this value a list of chat turns?"""
    return is_list(value) and len(value) > 0 and all(isinstance(turn, Mapping) and _role(turn) for turn in value)


def said(message: Mapping[str, Any], name: str) -> str:
    """A message's text, with its reasoning in front if it has any."""
    field = next((f for f in REASONING if message.get(f)), None)
    content = _content(message, name)
    return content if field is None else with_reasoning(as_text(message[field], field), content)


def with_reasoning(reasoning: str, content: str) -> str:
    """``<think>reasoning</think>content``, unless the tags are there already."""
    if "</think>" in content:
        return content
    opened = reasoning if reasoning.lstrip().startswith("<think>") else f"<think>{reasoning}"
    return f"{opened}{content}" if opened.rstrip().endswith("</think>") else f"{opened}</think>{content}"


def _turns(turns: Any, name: str) -> list[Mapping[str, Any]]:
    if not is_list(turns) or not all(isinstance(turn, Mapping) for turn in turns):
        raise Flaw(f"{name} is {shown(turns)}, not a text or a list of turns with role and content")
    return list(turns)


def _role(turn: Mapping[str, Any]) -> str:
    return str(turn.get("role", turn.get("from")) or "").lower()


def _content(turn: Mapping[str, Any], name: str) -> str:
    content = turn.get("content", turn.get("value", turn.get("text")))
    if content is None:
        return ""
    if not is_list(content):
        return as_text(content, f"{name}.content")
    return "".join(_piece(piece, name) for piece in content)


def _piece(piece: Any, name: str) -> str:
    """The text of a content part, with reasoning put between tags; "" for other parts."""
    if isinstance(piece, str):
        return piece
    if not isinstance(piece, Mapping):
        raise Flaw(f"{name} has the part {shown(piece)} in its content, which is not text")
    if piece.get("type") in ("reasoning", "thinking"):
        hidden = piece.get("summary") if piece.get("redacted") else piece.get("reasoning", piece.get("thinking"))
        return f"<think>{as_text(hidden or '', 'reasoning')}</think>"
    return as_text(piece["text"], f"{name}.content") if isinstance(piece.get("text"), str) else ""
