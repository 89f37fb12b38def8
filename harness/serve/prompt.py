"""Convert the messages of a request to a problem, and parse the answers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from harness.api import TURN, Problem, Task, TaskDefaults
from harness.serve.errors import APIError
from harness.serve.schema import Message
from harness.text import is_utf8, shown
from tasks.answers import spoken, usual

ROLES = {"developer": "system"}  # OpenAI's newer name


def prompt_of(messages: Sequence[Message], chat: bool) -> str:
    """The prompt, before any chat template.

    Args:
        messages: the last one must be the user's.
        chat: whether the model has a chat template. Without one, the prompt is a single message, unchanged.

    Raises:
        APIError: 400, for messages that do not form one prompt.
    """
    turns = [(ROLES.get(m.role, m.role), _text(m)) for m in messages]
    for number, (_, text) in enumerate(turns):
        _hold_text(text, f"messages.{number}.content")
    last = f"messages.{len(turns) - 1}"
    if turns[-1][0] != "user":
        raise APIError(400, "the last message must have the role user", "invalid_value", f"{last}.role")
    if not turns[-1][1].strip():
        raise APIError(400, "the last message is empty", "invalid_value", f"{last}.content")
    if len(turns) == 1:
        return turns[0][1]
    if not chat:
        raise APIError(
            400,
            f"this model has no chat template, so it accepts one message, not {len(turns)}",
            "invalid_value",
            "messages",
        )
    if wrong := next((i for i, (role, _) in enumerate(turns) if role == "system" and i), None):
        raise APIError(400, "a system message must be the first one", "invalid_value", f"messages.{wrong}.role")
    return "".join(f"{TURN}{role}{TURN}{text}" for role, text in turns)


def _text(message: Message) -> str:
    return message.content if isinstance(message.content, str) else "".join(part.text for part in message.content)


def _hold_text(text: str, where: str) -> None:
    if not is_utf8(text):
        raise APIError(400, f"{where} contains a lone surrogate", "invalid_value", where)
    if wrong := next((c for c in text if c < " " and c not in "\t\n\r\f\v"), None):
        raise APIError(400, f"{where} contains the control character {shown(wrong)}", "invalid_value", where)


def problem_of(prompt: str, name: str | None) -> Problem:
    """The problem for a prompt. Its id determines the random streams, so equal prompts have equal paths.

    Raises:
        APIError: 400, for a name with unprintable characters.
    """
    if name is not None and not (name.isprintable() and is_utf8(name)):
        raise APIError(
            400, f"problem {shown(name)} contains unprintable characters", "invalid_value", "pathprune.problem"
        )
    return Problem(name or f"chat-{hashlib.sha256(prompt.encode()).hexdigest()[:24]}", prompt, "")


class Reading(Task):
    """A minimal task for a request: it cuts texts at the request's stop strings and parses answers.

    Args:
        task: the task whose parser is used; None for common answer formats.
        model: the model in the defaults, if there is no task.
        answer: a parser that replaces the task's ``answer``, for instance in another process.
    """

    name, version = "chat", "1"

    def __init__(self, task: Task | None, model: str, answer: Any = None) -> None:
        self.defaults = task.defaults if task is not None else usual_defaults(model)
        self.stops: tuple[str, ...] = ()
        self._task = task
        self._read = answer or (usual if task is None else task.answer)

    def until(self, stops: Sequence[str]) -> Reading:
        """A copy with stop strings."""
        other = Reading.__new__(Reading)
        other.__dict__.update(self.__dict__)
        other.stops = tuple(stops)
        return other

    def problems(self, split: str = "test", n: int | None = None, start: int = 0) -> list[Problem]:
        return []

    def answer(self, text: str) -> str | None:
        answer: str | None = self._read(text if not self.stops else self._before(text))
        return answer

    def correct(self, answer: str | None, problem: Problem) -> bool:
        return False

    def ended(self, text: str) -> bool:
        reply = spoken(text)
        if reply is not None and any(stop in reply for stop in self.stops):
            return True
        return self._task is not None and hasattr(self._task, "ended") and self._task.ended(text)

    def reply(self, text: str) -> tuple[str, str]:
        """(thinking, reply) in a path's text, each possibly empty."""
        said = spoken(text)
        if said is None:
            return text, ""
        thought = text[: len(text) - len(said)] if said != text and text.endswith(said) else ""
        return thought, self._cut(said if said == text else said.lstrip())

    def _before(self, text: str) -> str:
        """A text up to the first stop string after its thinking."""
        said = spoken(text)
        if said is None or not text.endswith(said):
            return text
        return text[: len(text) - len(said)] + self._cut(said)

    def _cut(self, said: str) -> str:
        ends = [at for stop in self.stops if (at := said.find(stop)) >= 0]
        return said[: min(ends)] if ends else said


def usual_defaults(model: str) -> TaskDefaults:
    """Defaults without a task: STOP's sampling, paths of up to 16,384 tokens, cut at an eighth."""
    from tasks.benchmarks.base import PAPER

    return TaskDefaults(model, PAPER, max_tokens=16384, problems=1, prefixes=(2048,))
