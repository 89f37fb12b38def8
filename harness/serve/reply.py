"""Replies to clients: a completion, or the chunks of a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from harness.serve.jobs import Answered, Event, Job

DONE = "data: [DONE]\n\n"


@dataclass(frozen=True)
class Reply:
    """The replies to one request, with its id, time and model name."""

    id: str
    created: int
    model: str

    def whole(self, job: Job, answered: Answered) -> dict[str, Any]:
        """A completion as one JSON object."""
        message: dict[str, Any] = {"role": "assistant", "content": _said(job, answered)[1], "refusal": None}
        if thought := _said(job, answered)[0]:
            message["reasoning_content"] = thought
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish(answered)}
        about = {"usage": usage(answered), "pathprune": summary(job, answered)}
        return self._object("chat.completion") | {"choices": [choice]} | about

    def begin(self) -> str:
        """The first event of a stream."""
        return self._chunk({"role": "assistant", "content": ""})

    def progress(self, event: Event) -> str:
        """A progress event, as a chunk without text."""
        return self._chunk({}, about={"pathprune": dict(event)})

    def end(self, job: Job, answered: Answered, with_usage: bool) -> list[str]:
        """The last events of a stream: the winner, the usage and the end."""
        thought, said = _said(job, answered)
        events = [self._chunk({"reasoning_content": thought})] if thought else []
        events.append(self._chunk({"content": said}))
        events.append(self._chunk({}, finish(answered), {"pathprune": summary(job, answered)}))
        if with_usage:
            events.append(data(self._object("chat.completion.chunk") | {"choices": [], "usage": usage(answered)}))
        return [*events, DONE]

    def _chunk(
        self, delta: Mapping[str, Any], finish: str | None = None, about: Mapping[str, Any] | None = None
    ) -> str:
        choice = {"index": 0, "delta": dict(delta), "logprobs": None, "finish_reason": finish}
        return data(self._object("chat.completion.chunk") | {"choices": [choice]} | dict(about or {}))

    def _object(self, kind: str) -> dict[str, Any]:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def data(value: Mapping[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value)}\n\n"


def finish(answered: Answered) -> str:
    """OpenAI's finish reason: "length" if the token limit cut off all paths, else "stop"."""
    return "length" if answered.best is None else "stop"


def usage(answered: Answered) -> dict[str, int]:
    """OpenAI's usage object: the prompt once, and the tokens of all paths."""
    generated = answered.outcome.cost.generated
    return {
        "prompt_tokens": answered.prompt_tokens,
        "completion_tokens": generated,
        "total_tokens": answered.prompt_tokens + generated,
    }


def summary(job: Job, answered: Answered) -> dict[str, Any]:
    """Summary of a request: paths launched and kept, votes, and cost."""
    outcome, best = answered.outcome, answered.best
    votes: dict[str, float] = {}
    for answer, weight in zip(outcome.answers, outcome.weights, strict=True):
        if answer is not None:
            votes[answer] = votes.get(answer, 0.0) + float(weight)
    return {
        "pruner": job.method,
        "vote": job.spec.vote,
        "stages": [list(stage) for stage in job.spec.stages],
        "seed": job.spec.seed,
        "problem": job.problem.id,
        "launched": job.spec.n,
        "kept": list(outcome.kept),
        "voted": sum(answer is not None for answer in outcome.answers),
        "answer": outcome.voted,
        "votes": dict(sorted(votes.items(), key=lambda vote: -vote[1])),
        "path": None if best is None else {"index": best.index, "tokens": best.drawn},
        "tokens": asdict(outcome.cost),
        "serial_tokens": outcome.serial,
        "seconds": {
            stage: round(s, 4) for stage, s in zip(("launch", "check", "resume"), outcome.seconds, strict=True)
        },
        "tries": job.tries + 1,
    }


def _said(job: Job, answered: Answered) -> tuple[str, str]:
    """(thinking, text) of the winner; of the first path if all were cut off."""
    if answered.best is not None:
        return job.task.reply(answered.best.text)
    finished = answered.outcome.finished
    return job.task.reply(finished[0].text) if finished else ("", "")
