"""Requests per second of a server that prunes, against calling its engine with n paths per problem and voting by hand.

``make perf NAME=serve [ARGS="--clients 8 --requests 4"]``. In every round the clients ask one running server first, each the next problem when the
last is answered; then, while the server rests, this process launches whole paths of the first of these problems on an engine of its own, as
many at once as the server may, and takes the most frequent answer. Rounds alternate, so that what else the machine does meets both sides, and
the ratio is the median of the rounds'. Seconds of a processor are those of the server and of this process, whatever else ran. Afterwards a live
bench computes the first problems again, and its paths and answers are held to the server's. Every line is what was measured.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import requests

from harness import session
from harness.api import Path, Problem
from harness.where import Where
from tasks.embedded.hands import Hands
from tests.benchmarks.lines import noted
from tests.serving import chat, started

WARM = 1 << 20  # the first problem of those that nobody counts
SIZES = {
    "clients": 64, "requests": 20, "n": 64, "keep": 8, "prefix": 22, "rows": 512, "rounds": 10, "by-hand": 16, "checked": 200, "seconds": 1500,
}  # fmt: skip
TASK = Hands()


@dataclass
class Side:
    """One side's requests: seconds of each round, and what was answered."""

    name: str
    rates: list[float] = field(default_factory=list)  # requests per second, by round
    processor: float = 0.0  # seconds
    latencies: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    right: list[bool] = field(default_factory=list)

    def add(self, problem: Problem, answer: str | None, tokens: int) -> None:
        """Count an answered request."""
        self.tokens.append(tokens)
        self.right.append(TASK.correct(answer, problem))

    def told(self) -> dict[str, Any]:
        """For people."""
        about: dict[str, Any] = {
            "side": self.name,
            "requests": len(self.tokens),
            "requests_per_second": round(float(np.median(self.rates)), 3),
            "processor_seconds_per_request": round(self.processor / len(self.tokens), 3),
            "rounds": [round(rate, 3) for rate in self.rates],
            "tokens_per_request": round(float(np.mean(self.tokens)), 1),
            "right": round(float(np.mean(self.right)), 3),
        }
        if self.latencies:
            about["median_latency"] = round(float(np.median(self.latencies)), 2)
            about["p99_latency"] = round(float(np.quantile(self.latencies, 0.99)), 2)
        return about


class Clients:
    """Clients of a server, and what they were told: the paths that were kept and the answer, by problem."""

    def __init__(self, url: str, count: int) -> None:
        self.url, self.count = url, count
        self.told: dict[str, tuple[list[int], str | None]] = {}
        self.lost = 0

    def ask(self, problems: Sequence[Problem], ends: float, side: Side) -> None:
        """Share the problems among all clients; none is begun when the time is over."""
        before, began = len(side.tokens), time.perf_counter()
        with ThreadPoolExecutor(self.count) as pool:
            shares = [problems[number :: self.count] for number in range(self.count)]
            list(pool.map(lambda share: self._one(share, ends, side), shares))
        side.rates.append((len(side.tokens) - before) / (time.perf_counter() - began))

    def _one(self, problems: Sequence[Problem], ends: float, side: Side) -> None:
        with requests.Session() as connection:
            for problem in problems:
                if time.monotonic() >= ends:
                    return
                began = time.perf_counter()
                told = self._asked(connection, problem)
                if told is None:
                    self.lost += 1
                    continue
                side.latencies.append(time.perf_counter() - began)
                self.told[problem.id] = (told["kept"], told["answer"])
                side.add(problem, told["answer"], told["tokens"]["generated"])

    def _asked(self, connection: requests.Session, problem: Problem) -> dict[str, Any] | None:
        body = chat(problem.prompt, "hands", pathprune={"problem": problem.id})
        try:
            response = connection.post(f"{self.url}/chat/completions", json=body, timeout=3600)
        except requests.RequestException as error:
            noted(f"lost: {error}")
            return None
        if response.status_code != 200:
            noted(f"lost: {response.status_code} {response.text[:200]}")
            return None
        told: dict[str, Any] = response.json()["pathprune"]
        return told


def by_hand(engine: Any, limit: int, problems: Sequence[Problem], given: Any, ends: float, side: Side) -> None:
    """Finish all paths of every problem, as many at once as the server may, and take the most frequent answer."""
    before, began, spent, size = (
        len(side.tokens),
        time.perf_counter(),
        time.process_time(),
        max(1, given.rows // given.n),
    )
    for first in range(0, len(problems), size):
        if time.monotonic() >= ends:
            break
        some = problems[first : first + size]
        paths = engine.resume([Path(problem, i, 0) for problem in some for i in range(given.n)], limit)
        for number, problem in enumerate(some):
            own = paths[number * given.n : (number + 1) * given.n]
            answers = Counter(answer for path in own if (answer := TASK.answer(path.text)) is not None)
            side.add(problem, next((answer for answer, _ in answers.most_common(1)), None), sum(p.drawn for p in own))
    side.processor += time.process_time() - spent
    side.rates.append((len(side.tokens) - before) / (time.perf_counter() - began))


def equal(clients: Clients, given: Any) -> tuple[int, int]:
    """How many of the first problems a live bench of the same seed answers as the server did, from the same paths; and of how many."""
    with tempfile.TemporaryDirectory() as folder:
        live = session.live(
            "stop",
            n=given.n,
            keep=given.keep,
            prefix=given.prefix,
            problems=given.checked,
            results=folder,
            progress=False,
        )
    rows = {name: row for name, row in live.records[0].lines.items() if name in clients.told}
    return sum(clients.told[name] == (row["kept"], row["voted"]) for name, row in rows.items()), len(rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in SIZES.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    names = {
        "--n": given.n,
        "--keep": given.keep,
        "--prefix": given.prefix,
        "--rows": given.rows,
        "--running": given.clients,
    }
    options = [str(word) for pair in names.items() for word in pair]
    with started("--model", "hands", "--pruner", "stop", "--timeout", "3600", *options) as (process, url):
        _measure(given, Clients(url, given.clients), psutil.Process(process.pid))


def _measure(given: Any, clients: Clients, server: psutil.Process) -> None:
    on = Where("hands", None, "hf", "", given.prefix, None, 0)
    engine, ends = on.open(on.task), time.monotonic() + given.seconds
    clients.ask(TASK.problems("test", given.clients, WARM), ends, Side("warm"))
    by_hand(engine, on.limit, TASK.problems("test", 1, WARM), given, ends, Side("warm"))
    pruned, whole, memory = (
        Side(f"served, {given.n} -> {given.keep} at {given.prefix}"),
        Side("by hand, all paths"),
        [_mib(server)],
    )
    each = given.clients * given.requests // given.rounds
    for turn in range(given.rounds):
        problems = TASK.problems("test", each, turn * each)
        spent = _processor(server)
        clients.ask(problems, ends, pruned)
        pruned.processor += _processor(server) - spent
        memory.append(_mib(server))
        by_hand(engine, on.limit, problems[: given.by_hand], given, ends, whole)
        noted(
            f"round {turn + 1}: {pruned.rates[-1]:.3f} requests per second against {whole.rates[-1]:.3f}, {memory[-1]} MiB"
        )
    for side in (pruned, whole):
        print(json.dumps(side.told()), flush=True)
    ratios = [one / other for one, other in zip(pruned.rates, whole.rates, strict=True) if one and other]
    same, checked = equal(clients, given)
    print(json.dumps({
        "clients": given.clients, "asked": each * given.rounds, "answered": len(pruned.tokens), "lost": clients.lost,
        "as_live_bench": [same, checked], "memory_mib": memory, "rate_over_by_hand": round(float(np.median(ratios)), 2),
        "ratios": [round(ratio, 2) for ratio in ratios], "cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1),
    }))  # fmt: skip


def _processor(process: psutil.Process) -> float:
    """Seconds of a processor that a process has used."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _mib(process: psutil.Process) -> int:
    """Memory of a process, in MiB."""
    return round(process.memory_info().rss / 2**20)


if __name__ == "__main__":
    main()
