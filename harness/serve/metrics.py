"""What is counted, for Prometheus. No label holds anything of a request but what the server knows by itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from harness.loop import STAGES, Outcome

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "pathprune_requests", "Chat completions, by status (499: the client left)", ["status"], **kept
        )
        self.seconds = Histogram("pathprune_request_seconds", "From the body to the answer", buckets=SECONDS, **kept)
        self.stages = Histogram("pathprune_stage_seconds", "Of each stage", ["stage"], buckets=SECONDS, **kept)
        self.paths = Counter("pathprune_paths", "Paths launched and finished", ["what"], **kept)
        self.tokens = Counter(
            "pathprune_tokens", "Tokens generated, fed to score, and of other models", ["kind"], **kept
        )
        self.unanswered = Counter("pathprune_unanswered", "Answers that no path voted for", **kept)
        self.left = Counter("pathprune_disconnected", "Clients that left before their answer", **kept)
        self._kept = kept

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """A gauge that is read when it is asked for."""
        Gauge(f"pathprune_{name}", about, **self._kept).set_function(value)

    def answered(self, outcome: Outcome, launched: int) -> None:
        """Count what a request's answer took."""
        self.paths.labels("launched").inc(launched)
        self.paths.labels("finished").inc(len(outcome.finished))
        for kind in ("generated", "probed", "reread", "verifier"):
            self.tokens.labels(kind).inc(getattr(outcome.cost, kind))
        for stage, seconds in zip(STAGES, outcome.seconds, strict=True):
            self.stages.labels(stage).observe(seconds)
        self.unanswered.inc(outcome.voted is None)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return bytes(generate_latest(self.registry))
