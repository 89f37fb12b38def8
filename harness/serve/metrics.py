"""Prometheus metrics. No label contains text from a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from harness.loop import STAGES, Outcome

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class Metrics:
    """The metrics of one server, in a separate registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        kept: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter(
            "pathprune_requests", "Chat completions, by status (499: the client disconnected)", ["status"], **kept
        )
        self.seconds = Histogram(
            "pathprune_request_seconds", "Seconds from the request body to the answer", buckets=SECONDS, **kept
        )
        self.stages = Histogram("pathprune_stage_seconds", "Seconds of each stage", ["stage"], buckets=SECONDS, **kept)
        self.paths = Counter("pathprune_paths", "Paths launched and finished", ["what"], **kept)
        self.tokens = Counter(
            "pathprune_tokens", "Tokens generated, fed for scoring, and processed by other models", ["kind"], **kept
        )
        self.unanswered = Counter("pathprune_unanswered", "Requests for which no path had an answer", **kept)
        self.left = Counter("pathprune_disconnected", "Clients that disconnected before their answer", **kept)
        self._kept = kept

    def watch(self, name: str, about: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is computed on request."""
        Gauge(f"pathprune_{name}", about, **self._kept).set_function(value)

    def answered(self, outcome: Outcome, launched: int) -> None:
        """Count stages, paths and tokens of an answered request."""
        self.paths.labels("launched").inc(launched)
        self.paths.labels("finished").inc(len(outcome.finished))
        for kind in ("generated", "probed", "reread", "verifier"):
            self.tokens.labels(kind).inc(getattr(outcome.cost, kind))
        for stage, seconds in zip(STAGES, outcome.seconds, strict=True):
            self.stages.labels(stage).observe(seconds)
        self.unanswered.inc(outcome.voted is None)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return bytes(generate_latest(self.registry))
