"""A server in front of running ones, which die, come back, refuse keys and know nothing of our plug-in."""

from __future__ import annotations

import http.client
import json
import logging
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path as FilePath
from typing import Any

import numpy as np
import pytest
import requests

from harness import session
from harness.engines.identity import locate
from harness.serve.opening import Asked, open_service
from harness.serve.upstream import Upstreams
from tasks.embedded.arithmetic import VOCABULARY
from tasks.embedded.hands import Hands
from tests.serving import Running, chat, running_service, started, until
from tests.vllm_serving import exported_server, vllm_serve

IDS = {word: i for i, word in enumerate(VOCABULARY)}
DIGITS = [IDS[str(d)] for d in range(4)]
SECRET = "sk-0123456789abcdef"


def continued(prompt: Sequence[int], most: int, seed: int, ends: Sequence[int]) -> tuple[list[int], list[float], str]:
    """Tokens that go on behind others, drawn by a seed: words, then "answer" and a digit, then the end."""
    rng, tokens, logprobs = np.random.default_rng(seed), list(prompt), list[float]()
    while len(tokens) < len(prompt) + most:
        if tokens[-1] == IDS["answer"]:
            token = int(rng.choice(DIGITS))
        elif tokens[-2] == IDS["answer"]:
            token = ends[0]
        else:
            token = IDS["answer"] if rng.random() < 0.1 else int(rng.choice([IDS["so"], IDS["then"], IDS["a"]]))
        tokens.append(token)
        logprobs.append(float(np.log(rng.uniform(0.2, 1))))
        if token in ends:
            return tokens[len(prompt) :], logprobs, "stop"
    return tokens[len(prompt) :], logprobs, "length"


class FakeServer:
    """A ``vllm serve`` without our plug-in, as far as it is asked, which can be killed and started again at its port."""

    def __init__(self, key: str = "", port: int = 0) -> None:
        self.key, self.port, self.asked, self.keys = key, port, 0, set[str]()
        self.delay = 0.0
        self.dead = threading.Event()
        self.start()

    def start(self) -> None:
        fake = self
        dead = self.dead = threading.Event()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.live(0)
                self.reply(200, {"data": [{"id": "hands", "max_model_len": 400}]})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                key = self.headers.get("Authorization", "").removeprefix("Bearer ")
                fake.keys.add(key)
                fake.asked += 1
                self.live(fake.delay)
                if fake.key and key != fake.key:
                    self.reply(401, {"error": {"message": f"wrong key {key}"}})
                    return
                tokens, logprobs, finish = continued(body["prompt"], body["max_tokens"], body.get("seed", 0), body["stop_token_ids"])  # fmt: skip
                top = [{f"token_id:{t}": p} | {f"token_id:{i + 70}": -9.0 - i for i in range(body["logprobs"] - 1)} for t, p in zip(tokens, logprobs, strict=True)]  # fmt: skip
                told = {"token_logprobs": logprobs, "top_logprobs": top}
                self.reply(200, {"choices": [{"token_ids": tokens, "finish_reason": finish, "logprobs": told}]})

            def live(self, seconds: float) -> None:
                if dead.wait(seconds):
                    self.connection.close()
                    raise ConnectionAbortedError

            def reply(self, status: int, value: Any) -> None:
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        class Quiet(ThreadingHTTPServer):
            allow_reuse_address, daemon_threads = True, True
            request_queue_size = 512

            def handle_error(self, *_: Any) -> None:
                pass

        self.server = Quiet(("127.0.0.1", self.port), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def kill(self) -> None:
        """As a process that ends: what it works on gets no reply, and nobody listens."""
        self.dead.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


TERMS: dict[str, Any] = {"model": "hands", "pruners": "logprob,deepconf,jaccard", "n": 8, "keep": 3, "prefix": 6, "max_tokens": 60}  # fmt: skip


@pytest.fixture
def fakes() -> Iterator[list[FakeServer]]:
    started = [FakeServer(), FakeServer()]
    yield started
    for one in started:
        one.kill()


def served(*fakes: FakeServer, **terms: Any) -> Any:
    """A server in front of these."""
    return running_service(open_service(Asked(upstreams=tuple(f"{one.url}/v1" for one in fakes), **(TERMS | terms))))


@pytest.fixture
def prompts(hands: Hands) -> list[str]:
    return [p.prompt for p in hands.problems("dev", 24)]


def told(server: Running, prompt: str, **more: Any) -> dict[str, Any]:
    summary: dict[str, Any] = server.ask(prompt, "hands", **more)["pathprune"]
    return {k: v for k, v in summary.items() if k not in ("seconds", "tries")}


@pytest.mark.parametrize("pruner", ["logprob", "deepconf", "jaccard"])
def test_text_and_log_probability_methods_run_on_any_server(
    pruner: str, fakes: list[FakeServer], prompts: list[str]
) -> None:
    with served(*fakes) as server:
        first = told(server, prompts[0], pathprune={"pruner": pruner})
        assert first["launched"] == 8 and len(first["kept"]) == 3 and first["answer"] in "0123"
        assert first == told(server, prompts[0], pathprune={"pruner": pruner})
        assert first != told(server, prompts[0], seed=1, pathprune={"pruner": pruner})


def test_upstreams_share_the_work(fakes: list[FakeServer], prompts: list[str]) -> None:
    for one in fakes:
        one.delay = 0.02
    with served(*fakes) as server, ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda p: told(server, p), prompts[:12]))
    assert min(one.asked for one in fakes) > 0.25 * sum(one.asked for one in fakes)


def test_an_upstream_that_dies_is_replaced_by_another_with_the_same_answers(
    fakes: list[FakeServer], prompts: list[str]
) -> None:
    with served(*fakes) as server, ThreadPoolExecutor(24) as pool:
        expected = [told(server, p) for p in prompts]
        for one in fakes:
            one.delay = 0.1
        before = fakes[0].asked
        answers = [pool.submit(told, server, p) for p in prompts]
        until(lambda: fakes[0].asked > before + 20)
        fakes[0].kill()
        assert [a.result() for a in answers] == expected
        worker = server.service.worker
        assert isinstance(worker, Upstreams) and worker.retried > 0
        states = requests.get(f"{server.url}/health", timeout=30).json()
        assert states["status"] == "ok" and states[fakes[0].url] == "down" and states[fakes[1].url] == "up"
        fakes[0].start()
        until(lambda: all(one.is_up for one in worker.upstreams))
        fakes[1].kill()
        assert told(server, prompts[0]) == expected[0]
        fakes[1].start()


def test_without_any_upstream_requests_fail_cleanly_until_one_is_back(
    fakes: list[FakeServer], prompts: list[str]
) -> None:
    with served(fakes[0]) as server, ThreadPoolExecutor(4) as pool:
        expected = told(server, prompts[0])
        fakes[0].delay = 0.3
        streamed = pool.submit(server.post, chat(prompts[0], "hands", stream=True))
        answers = [pool.submit(server.post, chat(prompts[0], "hands")) for _ in range(3)]
        until(lambda: fakes[0].asked > 16)
        fakes[0].kill()
        for answer in answers:
            assert answer.result().status_code == 503 and int(answer.result().headers["Retry-After"]) >= 1
            assert answer.result().json()["error"]["code"] == "upstream_unavailable"
        last = streamed.result().text.strip().split("\n\n")[-1]
        assert json.loads(last.removeprefix("data: "))["error"]["code"] == "upstream_unavailable"
        assert server.post(chat(prompts[0], "hands")).status_code == 503
        assert requests.get(f"{server.url}/health", timeout=30).status_code == 503
        fakes[0].delay = 0
        fakes[0].start()
        until(lambda: server.service.worker.is_up)
        assert told(server, prompts[0]) == expected
        until(lambda: server.service.gate.running == 0)


def test_an_upstream_that_was_not_there_at_the_start_is_used_when_it_is(
    fakes: list[FakeServer], prompts: list[str]
) -> None:
    fakes[1].kill()
    with served(*fakes) as server:
        expected = told(server, prompts[0])
        fakes[1].start()
        until(lambda: all(one.is_up for one in server.service.worker.upstreams))  # type: ignore[attr-defined]
        fakes[0].kill()
        assert told(server, prompts[0]) == expected
        fakes[0].start()


def test_prompts_of_answered_requests_are_forgotten(
    fakes: list[FakeServer], prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.serve.upstream.FORGET", 4)
    with served(fakes[0]) as server, ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda p: told(server, p), prompts))
        engine, _ = server.service.worker.upstreams[0].open()  # type: ignore[attr-defined]
        assert (
            engine.ids.cache_info().currsize < 4 + 4 < len(prompts)
        )  # since the last time, and those of requests at work then
        assert [told(server, p) for p in prompts[:3]] == answers[:3]


def test_keys_are_passed_on_and_never_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], prompts: list[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    fake = FakeServer(key=SECRET)
    bearer = {"Authorization": f"Bearer {SECRET}"}
    try:
        with served(fake) as server:
            assert server.post(chat(prompts[0], "hands"), headers=bearer).status_code == 200
            assert fake.keys == {SECRET}
            refused = server.post(chat(prompts[0], "hands"), headers={"Authorization": f"Bearer {SECRET}x"})
            assert refused.status_code == 401 and SECRET not in refused.text
            assert server.post(chat(prompts[0], "hands")).status_code == 401
            assert server.post(chat(prompts[0], "hands", max_tokens=2), headers=bearer).status_code == 400
            quiet = http.client.HTTPConnection(server.url.removeprefix("http://"))
            quiet.request("GET", f"/v1/models?api_key={SECRET}", headers=bearer)
            assert quiet.getresponse().status == 200
            metrics = requests.get(f"{server.url}/metrics", timeout=30).text
            fake.kill()
            assert server.post(chat(prompts[0], "hands"), headers=bearer).status_code == 503
    finally:
        fake.kill()
    out = capfd.readouterr()
    assert SECRET not in caplog.text + out.out + out.err + metrics


def test_a_key_of_the_server_s_own_is_not_passed_on(
    monkeypatch: pytest.MonkeyPatch, fakes: list[FakeServer], prompts: list[str]
) -> None:
    monkeypatch.setenv("PATHPRUNE_API_KEY", SECRET)
    with served(fakes[0], api_key="sesame") as server:
        answer = server.post(chat(prompts[0], "hands"), headers={"Authorization": "Bearer sesame"})
        assert answer.status_code == 200 and fakes[0].keys == {SECRET}


def test_a_prompt_beyond_the_context_is_refused(fakes: list[FakeServer], hands: Hands) -> None:
    with served(fakes[0]) as server:
        answer = server.post(chat(" ".join(["a"] * 350), "hands"))
        assert answer.status_code == 400 and "more than the model's context of 400 tokens" in answer.text
        assert server.post(chat(" ".join(["a"] * 350), "hands", stream=True)).status_code == 400


def test_what_needs_the_plug_in_is_refused_at_the_start(fakes: list[FakeServer], run_cli: Any) -> None:
    code, out = run_cli("serve", "--port", "0", "--upstream", fakes[0].url, "--model", "hands", "--pruner", "stop")
    assert code == 2 and "needs hidden, which engine completions does not provide" in out


def test_paths_of_a_client_that_has_left_end_soon(
    fakes: list[FakeServer], prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.serve.upstream.SLICE", 2)
    with served(fakes[0]) as server:
        expected = told(server, prompts[0])
        whole, fakes[0].delay = fakes[0].asked, 0.5
        with pytest.raises(requests.ReadTimeout):
            requests.post(f"{server.url}/v1/chat/completions", json=chat(prompts[0], "hands"), timeout=0.4)
        until(lambda: server.service.gate.running == 0)
        assert fakes[0].asked - whole <= 16 < whole  # two slices of eight paths at most
        fakes[0].delay = 0
        assert told(server, prompts[0]) == expected


@pytest.mark.long
def test_a_server_that_is_killed_and_started_again_all_the_time(fakes: list[FakeServer], prompts: list[str]) -> None:
    """Whatever happens, each request is answered as ever or refused with 503; nothing is lost and nothing hangs."""
    with served(*fakes) as server, ThreadPoolExecutor(16) as pool:
        expected = {p: told(server, p) for p in prompts}
        for one in fakes:
            one.delay = 0.02
        answers = [(p, pool.submit(server.post, chat(p, "hands"))) for _ in range(5) for p in prompts]
        for turn in range(6):
            time.sleep(0.7)
            fakes[turn % 2].kill()
            time.sleep(0.3)
            fakes[turn % 2].start()
        statuses = [(p, a.result()) for p, a in answers]
        assert {a.status_code for _, a in statuses} <= {200, 503}
        for prompt, answer in statuses:
            if answer.status_code == 200:
                got = answer.json()["pathprune"]
                assert {k: got[k] for k in ("kept", "votes")} == {k: expected[prompt][k] for k in ("kept", "votes")}
        assert sum(a.status_code == 200 for _, a in statuses) > 12
        until(lambda: server.service.gate.running == 0)


@pytest.mark.long
def test_a_second_interruption_ends_it_at_once(fakes: list[FakeServer], prompts: list[str]) -> None:
    command = started("--upstream", fakes[0].url, "--model", "hands", "--pruner", "logprob")
    with command as (process, url), ThreadPoolExecutor(1) as pool:
        fakes[0].delay = 60
        answer = pool.submit(requests.post, f"{url}/chat/completions", json=chat(prompts[0], "hands"), timeout=90)
        until(lambda: fakes[0].asked)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None and not answer.done()  # it waits for its request
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert answer.exception() is not None or answer.result().status_code >= 500
        assert process.stdout is not None and "Traceback" not in process.stdout.read()


# A real vLLM


@pytest.fixture(scope="module")
def vllm_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with exported_server(tmp_path_factory.mktemp("served")) as url:
        yield url


@pytest.mark.vllm
def test_stop_in_front_of_vllm_with_our_plug_in_answers_as_a_live_bench(
    vllm_server: str, hands: Hands, tmp_path: FilePath
) -> None:
    where = {"engine": f"vllm-http:url={vllm_server}", "n": 12, "keep": 3, "limit": 120, "problems": 3}
    live = session.live("stop", "hands", **where, results=tmp_path, progress=False)  # type: ignore[arg-type]
    asked = Asked(upstreams=(vllm_server,), model="hands", task="hands", n=12, keep=3, max_tokens=120)
    with running_service(open_service(asked)) as server, ThreadPoolExecutor(3) as pool:
        problems = hands.problems("test", 3)
        summaries = list(pool.map(lambda p: told(server, p.prompt, pathprune={"problem": p.id}), problems))
    rows = [live.records[0].lines[p.id] for p in problems]
    assert [(s["kept"], s["answer"]) for s in summaries] == [(row["kept"], row["voted"]) for row in rows]


@pytest.mark.vllm
def test_vllm_without_our_plug_in_serves_log_probability_methods(hands: Hands, tmp_path: FilePath) -> None:
    folder = str(locate("hands"))
    command = ["-m", "vllm.entrypoints.openai.api_server", "--model", folder, "--served-model-name", "plain", "--dtype", "float32"]  # fmt: skip
    with vllm_serve(command, tmp_path / "log") as url:
        asked = Asked(upstreams=(url,), model=folder, task="hands", pruners="deepconf,logprob", n=12, keep=3, prefix=22)
        with running_service(open_service(asked)) as server:
            problem = hands.problems("test", 1)[0]
            summary = told(server, problem.prompt, pathprune={"pruner": "deepconf"})
            assert summary["launched"] == 12 and len(summary["kept"]) == 3 and summary["answer"] is not None
            assert summary == told(server, problem.prompt, pathprune={"pruner": "deepconf"})
