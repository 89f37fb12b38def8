"""The server's defaults and limits, which turn a request into a job."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from harness.api import PathpruneError, Sampling
from harness.serve.errors import APIError
from harness.serve.jobs import Job
from harness.serve.prompt import Reading, problem_of, prompt_of
from harness.serve.schema import MOST_STAGES, ChatRequest, Pruning
from harness.spec import Ended, RunSpec, Stage, parse_stages, stages_of
from harness.text import reason, unknown
from harness.vote import VOTES


@dataclass(frozen=True)
class Limits:
    """Upper limits of a request: paths, tokens per path, bytes of the body."""

    n: int = 256
    tokens: int = 16384
    body: int = 1 << 20


@dataclass(frozen=True)
class Terms:
    """The defaults of a request.

    Args:
        model: the model's name in requests.
        engine_spec: of the engine that answers.
        chat: whether the model has a chat template.
        reading: parses answers.
        pruners: names of the methods that a request may choose; the first is the default.
        rules: names of the stopping rules that a request may combine with one of ``pruners``.
        methods: names of all methods that follow from both.
        sampling: the default sampling.
        n, keep, limit, seed, vote, ended: as in a bench.
        stages: where paths are cut; None to use ``prefix`` and ``keep``.
        prefix: prefix length; None for the task's.
    """

    model: str
    engine_spec: Any
    chat: bool
    reading: Reading
    pruners: tuple[str, ...]
    rules: tuple[str, ...]
    methods: frozenset[str]
    sampling: Sampling
    n: int
    keep: int
    limit: int
    seed: int
    vote: str
    ended: Ended
    prefix: int | None
    stages: tuple[Stage, ...] | None
    limits: Limits

    def job(self, asked: ChatRequest) -> Job:
        """The job of a request.

        Raises:
            APIError: 400 or 404, for a request that is invalid or exceeds the limits.
        """
        own = asked.pathprune or Pruning()
        if asked.model != self.model:
            raise APIError(404, unknown("model", asked.model, [self.model]), "model_not_found", "model")
        prompt = prompt_of(asked.messages, self.chat)
        method = self._method(own)
        stops = [asked.stop] if isinstance(asked.stop, str) else asked.stop or []
        sampling = self._sampling(asked)
        spec = self._spec(asked, own)
        return Job(problem_of(prompt, own.problem), self.reading.until(stops), method, spec, sampling)

    def _method(self, own: Pruning) -> str:
        if own.pruner is not None and own.pruner not in self.pruners:
            raise _unknown("pruner", own.pruner, self.pruners)
        if own.stopping is not None and own.stopping not in self.rules:
            if not self.rules:
                raise APIError(
                    400, "this server was started without stopping rules; leave out stopping", "invalid_value",
                    "pathprune.stopping",
                )  # fmt: skip
            raise _unknown("stopping", own.stopping, self.rules)
        pruner = own.pruner or self.pruners[0]
        if own.stopping is None:
            return pruner
        if (both := f"{pruner}+{own.stopping}") not in self.methods:
            raise APIError(
                400, f"pruner {pruner} stops by a rule of its own; leave out stopping", "invalid_value", "pathprune.stopping"
            )  # fmt: skip
        return both

    def _sampling(self, asked: ChatRequest) -> Sampling:
        """The server's sampling with the request's changes. Temperature 0 is replaced by the server's: all paths would be equal."""
        if asked.temperature == 0:
            return self.sampling
        given = {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": asked.top_k}
        changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        if changed.get("top_k") == -1:  # vLLM's value for no filter
            changed["top_k"] = 0
        return replace(self.sampling, **changed)

    def _spec(self, asked: ChatRequest, own: Pruning) -> RunSpec:
        limit = asked.max_completion_tokens or asked.max_tokens or self.limit
        n = own.n or self.n
        _hold("pathprune.n", n, self.limits.n)
        _hold("max_tokens", limit, self.limits.tokens)
        if own.vote is not None and own.vote not in VOTES:
            raise _unknown("vote", own.vote, tuple(VOTES))
        seed = self.seed if asked.seed is None else asked.seed
        try:
            stages = self._stages(own, n, limit)
            name = self.reading.name, self.reading.version
            return RunSpec(
                *name, self.engine_spec, n, limit, stages, seed, own.ended or self.ended, own.vote or self.vote
            )
        except PathpruneError as error:
            param = "pathprune" if own.model_fields_set or asked.max_tokens is None else "max_tokens"
            raise APIError(400, reason(error), "invalid_value", param) from None

    def _stages(self, own: Pruning, n: int, limit: int) -> tuple[Stage, ...]:
        if own.stages is not None:
            if own.prefix is not None or own.keep is not None:
                raise PathpruneError(
                    "stages already define where paths are cut and how many go on; leave out prefix and keep"
                )
            stages = parse_stages(own.stages) if isinstance(own.stages, str) else stages_of(own.stages)
            if len(stages) > MOST_STAGES:
                raise PathpruneError(f"stages must be at most {MOST_STAGES}, not {len(stages)}")
            return stages
        if self.stages is not None and own.prefix is None and own.keep is None:
            return self.stages
        keep = own.keep or (min(self.keep, n) if own.n is not None else self.keep)
        return (Stage(own.prefix or self.default_prefix(limit), keep),)

    def default_prefix(self, limit: int) -> int:
        """The default prefix length: the server's, or the task's; an eighth of ``limit`` if the task's is not below it."""
        if self.prefix is not None:
            return self.prefix
        usual = self.reading.defaults.prefixes[0]
        return usual if usual < limit else max(1, limit // 8)


def _unknown(field: str, name: str, known: tuple[str, ...]) -> APIError:
    return APIError(400, unknown(field, name, list(known)), "invalid_value", f"pathprune.{field}")


def _hold(param: str, value: int, most: int) -> None:
    if value > most:
        raise APIError(400, f"{param} must be at most {most:,} on this server, not {value:,}", "invalid_value", param)
