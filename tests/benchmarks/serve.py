"""Requests per second of a server that prunes, against one that finishes all n paths on the same engine and votes over them.

Both sides are asked of one running server, in turns, by as many clients at once, until each has sent its requests or the
time is over. Every line is what was measured; what the machine did besides is not known to it.

``python -m tests.benchmarks.serve [--clients 64] [--requests 20] [--n 64] [--keep 8] [--prefix 22] [--seconds 600] [--rounds 2]``
"""

from __future__ import annotations

import argparse
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import requests

from tasks.embedded.hands import Hands
from tests.serving import chat, started

SIDES = {"pruned": "stop", "all paths": "all"}


@dataclass
class Side:
    """What one side has come to."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    right: int = 0
    lost: int = 0

    @property
    def rate(self) -> float:
        """Requests that were answered per second."""
        return len(self.latencies) / self.seconds

    def told(self) -> dict[str, Any]:
        """For people."""
        return {
            "requests": len(self.latencies),
            "lost": self.lost,
            "seconds": round(self.seconds, 1),
            "requests_per_second": round(self.rate, 3),
            "median_latency": round(float(np.median(self.latencies)), 2),
            "p99_latency": round(float(np.quantile(self.latencies, 0.99)), 2),
            "tokens_per_request": round(float(np.mean(self.tokens)), 1),
            "right": round(self.right / len(self.latencies), 3),
        }


def sent(url: str, pruner: str, clients: int, requests_each: int, first: int, ends: float, side: Side) -> None:
    """Let all clients send their requests, each the next when the last is answered, until the time is over."""
    problems = Hands().problems("test", 200)

    def client(number: int) -> None:
        with requests.Session() as session:
            for turn in range(requests_each):
                if time.monotonic() >= ends:
                    return
                problem = problems[(first + number * requests_each + turn) % len(problems)]
                body = chat(problem.prompt, "hands", pathprune={"pruner": pruner, "problem": problem.id})
                began = time.perf_counter()
                response = session.post(f"{url}/chat/completions", json=body, timeout=3600)
                if response.status_code != 200:
                    side.lost += 1
                    continue
                told = response.json()["pathprune"]
                side.latencies.append(time.perf_counter() - began)
                side.tokens.append(told["tokens"]["generated"])
                side.right += told["answer"] == problem.answer

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(client, range(clients)))
    side.seconds += time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("clients", 64), ("requests", 20), ("n", 64), ("keep", 8), ("prefix", 22), ("rounds", 2), ("seconds", 600)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    counts = {"--n": given.n, "--keep": given.keep, "--prefix": given.prefix, "--running": given.clients}
    options = [str(word) for pair in counts.items() for word in pair]
    with started("--model", "hands", "--pruner", "stop,all", "--timeout", "3600", *options) as (process, url):
        _measure(given, url, psutil.Process(process.pid))


def _measure(given: argparse.Namespace, url: str, server: psutil.Process) -> None:
    for pruner in SIDES.values():
        sent(url, pruner, 2, 1, 0, time.monotonic() + 600, Side())  # warm
    before, sides = server.memory_info().rss, {name: Side() for name in SIDES}
    each = max(1, given.requests // given.rounds)
    for turn in range(given.rounds):
        for name, pruner in SIDES.items():
            ends = time.monotonic() + given.seconds / given.rounds / len(SIDES)
            sent(url, pruner, given.clients, each, turn * given.clients * each, ends, sides[name])
    for name, side in sides.items():
        print(json.dumps({"side": name, **side.told()}))
    ratio = sides["pruned"].rate / sides["all paths"].rate
    print(json.dumps({
        "clients": given.clients, "schedule": f"{given.n} -> {given.keep} at {given.prefix}", "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1), "lost": sum(side.lost for side in sides.values()),
        "memory_mib": [round(before / 2**20), round(server.memory_info().rss / 2**20)], "rate_over_all_paths": round(ratio, 2),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
