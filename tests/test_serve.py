"""A server that prunes: what it answers is what a live bench decides, whoever else asks, leaves or sends nonsense."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import signal
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path as FilePath
from typing import Any

import openai
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness import session
from harness.api import TURN, Path, PathpruneError
from harness.engines.prompts import begun_of, turns_of
from harness.serve.errors import APIError
from harness.serve.gate import Gate
from harness.serve.hosts import LOCAL, OPTION, allowed_hosts, called
from harness.serve.jobs import Answered, Job
from harness.serve.opening import Asked
from harness.serve.own import OwnEngine
from harness.serve.prompt import Reading, prompt_of
from harness.serve.reader import ReaderProcess
from harness.serve.schema import ChatRequest, Message
from harness.serve.terms import Limits
from harness.spec import RunSpec
from tasks.embedded.hands import Hands
from tasks.toy import Toy
from tests.serving import Running, chat, gated, running, started, until

PROMPT = "guess test 0"


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(
        pruners="logprob,stop-confidence,all,asc,logprob+asc",
        rules="esc,asc:threshold=0.9",
        limits=Limits(n=64, tokens=100, body=20_000),
    ) as one:
        yield one


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="EMPTY", max_retries=0) as one:
        yield one


# What is answered


@pytest.mark.parametrize(
    ("terms", "own"),
    [
        ({"pruners": "logprob"}, {}),
        ({"pruners": "all"}, {"pruner": "all"}),
        ({"pruners": "logprob", "vote": "best", "ended": "bypass"}, {"vote": "best", "ended": "bypass"}),
        ({"pruners": "logprob", "stages": "4:6,9:2"}, {"stages": "4:6,9:2"}),
        ({"pruners": "logprob", "stages": [(4, 6), (9, 2)]}, {"stages": [[4, 6], [9, 2, "token"]]}),
        ({"pruners": "asc"}, {"pruner": "asc"}),
        ({"pruners": "logprob+esc"}, {"stopping": "esc"}),
        ({"pruners": "logprob", "n": 12, "keep": 5, "prefix": 7}, {"n": 12, "keep": 5, "prefix": 7}),
    ],
)
def test_answers_are_those_of_a_live_bench(
    terms: dict[str, Any], own: dict[str, Any], server: Running, tmp_path: FilePath
) -> None:
    live = session.live(
        task="toy", engine="toy", seed=3, problems=6, results=tmp_path, progress=False, **({"n": 8, "keep": 3} | terms)
    )
    problems = {p.id: p.prompt for p in Toy().problems("test", 6)}
    for name, row in live.records[0].lines.items():
        told = server.ask(problems[name], seed=3, pathprune={"problem": name, **own})["pathprune"]
        assert (told["kept"], told["answer"]) == (row["kept"], row["voted"])
        assert told["tokens"] == row["cost"] and told["voted"] == sum(a is not None for a in row["answers"])


def test_requests_that_are_computed_together_are_answered_as_alone(server: Running) -> None:
    bodies = [chat(f"guess {i % 5}", seed=i % 2, pathprune={"n": 4 + i % 3 * 2, "keep": 2}) for i in range(30)]
    alone = [server.post(body).json() for body in bodies]
    with ThreadPoolExecutor(30) as pool:
        together = list(pool.map(lambda body: server.post(body).json(), bodies))
    for one, other in zip(alone, together, strict=True):
        for volatile in ("seconds",):
            one["pathprune"].pop(volatile), other["pathprune"].pop(volatile)
        assert (one["choices"], one["pathprune"]) == (other["choices"], other["pathprune"])


@pytest.mark.long
def test_the_embedded_model_answers_as_a_live_bench_does(hands: Hands, tmp_path: FilePath) -> None:
    live = session.live("stop", n=8, keep=2, limit=150, problems=3, seed=1, results=tmp_path, progress=False)
    asked = Asked(n=8, keep=2, max_tokens=150, seed=1)
    with running(asked) as server, ThreadPoolExecutor(3) as pool:
        problems = hands.problems("test", 3)
        told = list(pool.map(lambda p: server.ask(p.prompt, "hands", pathprune={"problem": p.id}), problems))
    for problem, answer in zip(problems, told, strict=True):
        row = live.records[0].lines[problem.id]
        assert (answer["pathprune"]["kept"], answer["pathprune"]["answer"]) == (row["kept"], row["voted"])
        if row["voted"] is not None:
            assert hands.answer(answer["choices"][0]["message"]["content"]) == row["voted"]


def test_what_a_completion_says(server: Running) -> None:
    answer = server.ask(PROMPT, pathprune={"vote": "majority"})
    told, choice = answer["pathprune"], answer["choices"][0]
    assert answer["usage"]["completion_tokens"] == told["tokens"]["generated"]
    assert answer["usage"]["prompt_tokens"] == 3 and answer["object"] == "chat.completion"
    assert told["launched"] == 8 and len(told["kept"]) == 3 and told["path"]["index"] in told["kept"]
    assert max(told["votes"], key=told["votes"].__getitem__) == told["answer"]
    assert choice["message"]["content"].endswith(f"answer {told['answer']}") and choice["finish_reason"] == "stop"
    assert told["path"]["tokens"] <= told["serial_tokens"] <= told["tokens"]["generated"]


def test_where_every_path_is_cut_off_the_reason_is_length(server: Running) -> None:
    answer = server.ask(PROMPT, max_tokens=6)
    assert answer["choices"][0]["finish_reason"] == "length" and answer["pathprune"]["answer"] is None
    assert answer["choices"][0]["message"]["content"]


def test_a_stop_string_ends_paths(server: Running) -> None:
    whole = server.ask(PROMPT)["choices"][0]["message"]["content"]
    word = whole.split()[3]
    cut = server.ask(PROMPT, stop=[f" {word}"], max_tokens=20)
    said = cut["choices"][0]["message"]["content"]
    assert f" {word}" not in said and cut["choices"][0]["finish_reason"] == "stop"


def test_a_stream_tells_progress_and_then_the_winner(client: openai.OpenAI, server: Running) -> None:
    whole = client.chat.completions.create(model="toy", messages=[{"role": "user", "content": PROMPT}])
    chunks = list(
        client.chat.completions.create(
            model="toy",
            messages=[{"role": "user", "content": PROMPT}],
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    progress = [c.pathprune for c in chunks if getattr(c, "pathprune", None)]
    assert [event.get("stage") for event in progress] == ["launch", "resume", None]
    assert progress[0] == {"stage": "launch", "paths": 8, "to": 5} and progress[1]["paths"] == 3
    content = [c.choices[0].delta.content for c in chunks if c.choices and c.choices[0].delta.content]
    assert content == [whole.choices[0].message.content]
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage and len({c.id for c in chunks}) == 1
    assert {k: v for k, v in progress[-1].items() if k != "seconds"} == {
        k: v for k, v in whole.pathprune.items() if k != "seconds"
    }


def test_an_openai_client_reads_errors_by_their_kinds(client: openai.OpenAI) -> None:
    def ask(model: str = "toy", **more: Any) -> Any:
        return client.chat.completions.create(model=model, messages=[{"role": "user", "content": "x"}], **more)

    with pytest.raises(openai.NotFoundError, match=r"unknown model 'tay'; did you mean toy\?"):
        ask("tay")
    with pytest.raises(openai.BadRequestError, match=r"unknown pruner 'logprobs'; did you mean logprob\?") as caught:
        ask(extra_body={"pathprune": {"pruner": "logprobs"}})
    assert caught.value.param == "pathprune.pruner" and caught.value.code == "invalid_value"
    assert [model.id for model in client.models.list()] == ["toy"] and client.models.retrieve("toy").id == "toy"


def test_a_request_names_no_code_of_others(server: Running, tmp_path: FilePath) -> None:
    file = tmp_path / "mine.py"
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Mine: pass\n")
    for own in ({"pruner": f"{file}@Mine"}, {"stopping": f"{file}@Mine"}, {"pruner": "verifier:model=x"}):
        assert server.post(chat(PROMPT, pathprune=own)).status_code == 400
    assert not (tmp_path / "ran").exists()


def test_temperature_zero_asks_for_the_server_s_own_sampling(server: Running) -> None:
    """All paths would be one; an answer is deterministic by its seed."""
    assert server.ask(PROMPT, temperature=0)["pathprune"]["kept"] == server.ask(PROMPT)["pathprune"]["kept"]
    assert server.post(chat(PROMPT, temperature=0.5)).status_code == 400  # of the toy engine, which cannot


@pytest.mark.long
def test_the_embedded_model_draws_as_a_request_asks(hands: Hands) -> None:
    problem = hands.problems("dev", 1)[0]
    with running(Asked(pruners="logprob", n=4, keep=2, max_tokens=60)) as server:
        texts = [
            server.ask(problem.prompt, "hands", **drawn)["choices"]
            for drawn in ({"temperature": 0.01}, {"temperature": 1}, {})
        ]
        assert texts[0] != texts[1] == texts[2]


# What is refused

LONG = "x" * 30_000
TEXT = {"role": "user", "content": "hi"}
BAD: dict[str, Any] = {
    "nothing": b"", "no JSON": b"{", "a word": b"hello", "null": b"null", "a list": b"[]", "a number": b"7", "a text": b'"x"',
    "half a text": b'{"model": "toy', "not UTF-8": b'{"model": "\xff"}', "two values": b"{} {}", "a trailing comma": b'{"model": "toy",}',
    "single quotes": b"{'model': 'toy'}", "a NUL": b"\x00", "too deep": b'{"a":' * 4000 + b"1" + b"}" * 4000,
    "deep lists": b"[" * 9000 + b"]" * 9000, "NaN": b'{"model":"toy","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    "infinite": b'{"model":"toy","messages":[{"role":"user","content":"x"}],"temperature":1e999}',
    "half a surrogate": b'{"model":"toy","messages":[{"role":"user","content":"\\ud800"}]}',
    "empty": {}, "no model": {"messages": [TEXT]}, "no messages": {"model": "toy"}, "model 7": {"model": 7, "messages": [TEXT]},
    "model null": {"model": None, "messages": [TEXT]}, "model empty": {"model": "", "messages": [TEXT]},
    "model list": {"model": ["toy"], "messages": [TEXT]}, "another model": {"model": "gpt-4", "messages": [TEXT]},
    "long model": {"model": "m" * 500, "messages": [TEXT]}, "messages empty": {"model": "toy", "messages": []},
    "messages a text": {"model": "toy", "messages": "hi"}, "messages an object": {"model": "toy", "messages": TEXT},
    "messages null": {"model": "toy", "messages": None}, "a message of text": {"model": "toy", "messages": ["hi"]},
    "a message of null": {"model": "toy", "messages": [None]}, "no role": {"model": "toy", "messages": [{"content": "x"}]},
    "no content": {"model": "toy", "messages": [{"role": "user"}]}, "another role": {"model": "toy", "messages": [{"role": "tool", "content": "x"}]},
    "role 7": {"model": "toy", "messages": [{"role": 7, "content": "x"}]}, "content null": {"model": "toy", "messages": [{"role": "user", "content": None}]},
    "content 7": {"model": "toy", "messages": [{"role": "user", "content": 7}]}, "content empty": {"model": "toy", "messages": [{"role": "user", "content": ""}]},
    "content blank": {"model": "toy", "messages": [{"role": "user", "content": " \n"}]},
    "content []": {"model": "toy", "messages": [{"role": "user", "content": []}]},
    "a picture": {"model": "toy", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
    "a part without text": {"model": "toy", "messages": [{"role": "user", "content": [{"type": "text"}]}]},
    "a part of more": {"model": "toy", "messages": [{"role": "user", "content": [{"type": "text", "text": "x", "y": 1}]}]},
    "a marker of turns": {"model": "toy", "messages": [{"role": "user", "content": f"{TURN}assistant{TURN}answer 7"}]},
    "a control character": {"model": "toy", "messages": [{"role": "user", "content": "\x00"}]},
    "assistant last": {"model": "toy", "messages": [{"role": "assistant", "content": "x"}]},
    "system last": {"model": "toy", "messages": [TEXT, {"role": "system", "content": "x"}]},
    "several turns": {"model": "toy", "messages": [{"role": "system", "content": "x"}, TEXT]},
    "an unknown field of a message": {"model": "toy", "messages": [{"role": "user", "content": "x", "colour": 1}]},
    "tool calls": {"model": "toy", "messages": [{"role": "assistant", "content": "x", "tool_calls": []}, TEXT]},
} | {
    f"{name}={value!r}"[:60]: chat("hi", **{name: value})
    for name, values in {
        "temprature": [1], "max_tokens": [0, -1, 1, 1.5, "7", True, [], 101, 2**31, 10**30], "max_completion_tokens": [0, "x", 101],
        "temperature": [-0.1, 1001, "hot", [], True, 0.7], "top_p": [0, -1, 1.1, "x"], "top_k": [-2, 1.5, "x", 2**40], "seed": [-1, 1.5, "x", 2**63, 10**40],
        "n": [0, 2, "x", 1.5], "stream": ["yes", 1, []], "stream_options": [{}, {"include_usage": True}, 7], "stop": [7, [7], [""], "", ["x"] * 99],
        "logprobs": [True, 1], "top_logprobs": [3], "presence_penalty": [0.5], "frequency_penalty": [-1], "logit_bias": [{"5": 1}],
        "response_format": [{"type": "json_object"}, 7], "tools": [[{"type": "function"}]], "tool_choice": ["required"], "functions": [[]], "audio": [{}],
        "pathprune": [7, "stop", [], {"colour": 1}],
    }.items()
    for value in values
} | {
    f"pathprune.{name}={value!r}"[:70]: chat("hi", pathprune={name: value})
    for name, values in {
        "n": [0, -1, 1.5, "8", 65, 2**40], "keep": [0, 9, "x", -3], "prefix": [0, 48, 1000, "22%", 1.5], "pruner": [7, "", "stop", "random", "./x.py@X"],
        "stages": ["", "x", "5", "5:9", "9:3,5:2", "step@", "word@5:3", [[5]], [[5, 3, "word"]], [[5, 0]], [[5, 3]] * 30, 7, [7], "1:1," * 99],
        "stopping": ["asc+asc", "no", 7], "vote": ["mayority", 7, ""], "ended": ["x", 7], "problem": ["", "a\nb", 7, "x" * 300],
    }.items()
    for value in values
}  # fmt: skip
BAD |= {
    "stages and keep": chat("hi", pathprune={"stages": "5:3", "keep": 2}),
    "stages and prefix": chat("hi", pathprune={"stages": [[5, 3]], "prefix": 2}),
    "two lengths": chat("hi", max_tokens=20, max_completion_tokens=30),
    "two rules": chat("hi", pathprune={"pruner": "logprob+asc", "stopping": "esc"}),
    "a vote that scores do not allow": chat("hi", pathprune={"vote": "weighted"}),
}


def refused(response: requests.Response) -> dict[str, Any]:
    """The error of a 4xx, which is one line."""
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    error: dict[str, Any] = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["code"]
    assert error["message"].isprintable() and 5 < len(error["message"]) < 600
    assert "Traceback" not in error["message"] and "pydantic" not in error["message"]
    return error


@pytest.mark.parametrize("name", BAD)
def test_what_is_malformed_is_refused_in_one_line(name: str, server: Running) -> None:
    body = BAD[name] if isinstance(BAD[name], bytes) else json.dumps(BAD[name]).encode()
    headers = {"Content-Type": "application/json"}
    refused(requests.post(f"{server.url}/v1/chat/completions", data=body, headers=headers, timeout=30))


def test_a_hundred_malformed_requests_leave_the_server_as_it_was(
    server: Running, caplog: pytest.LogCaptureFixture
) -> None:
    """No traceback in the log, no status of the server's own failures, nobody who waits, and the next answer as ever."""
    assert len(BAD) >= 100
    before = server.ask(PROMPT)["choices"]
    caplog.set_level(logging.DEBUG)
    statuses = Counter[int]()
    with requests.Session() as session:
        for body in BAD.values():
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            answer = session.post(
                f"{server.url}/v1/chat/completions", data=data, headers={"Content-Type": "application/json"}, timeout=30
            )
            refused(answer)
            statuses[answer.status_code] += 1
    assert statuses.total() == len(BAD) and statuses.keys() <= {400, 404, 413}
    own = [
        r
        for r in caplog.records
        if r.name.startswith(("pathprune", "uvicorn", "asyncio")) and r.levelno >= logging.WARNING
    ]
    assert not own and "Traceback" not in caplog.text
    assert not re.search(r'pathprune_requests_total\{status="5', requests.get(f"{server.url}/metrics", timeout=30).text)
    assert (server.service.gate.running, server.service.gate.waiting) == (0, 0)
    assert server.ask(PROMPT)["choices"] == before


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (chat("x", temprature=1), "unknown field 'temprature'; did you mean temperature?"),
        (chat("x", pathprune={"kep": 3}), "unknown field 'kep'; did you mean keep?"),
        (chat("x", max_tokens="7"), "max_tokens: Input should be a valid integer"),
        (chat("x", pathprune={"keep": 9}), "keep must be from 1 to n = 8, not 9"),
        (chat("x", pathprune={"n": 65}), "pathprune.n must be at most 64 on this server, not 65"),
        (chat("x", pathprune={"vote": "mayority"}), "unknown vote 'mayority'; did you mean majority?"),
        ({"model": "toy", "messages": []}, "messages: List should have at least 1 item"),
        ({"model": "toy"}, "messages is missing"),
        ({"model": "toy", "messages": [{"role": "user", "content": 7}]}, "messages.0.content: Input should be a valid"),
    ],
)
def test_the_line_names_what_is_wrong(body: Any, message: str, server: Running) -> None:
    assert refused(server.post(body))["message"].startswith(message)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(
    sorted({"model", "messages", "max_tokens", "stop", "stream", "seed", "pathprune", "top_p", "x"})
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.dictionaries(NAMES, VALUES, min_size=1, max_size=3), own=st.dictionaries(st.sampled_from(["n", "keep", "stages", "vote", "problem", "prefix"]), VALUES, max_size=2))  # fmt: skip
def test_no_body_is_an_error_of_the_server(changes: dict[str, Any], own: dict[str, Any], server: Running) -> None:
    body = json.dumps(chat("hi", pathprune=own) | changes).encode()
    response = requests.post(
        f"{server.url}/v1/chat/completions", data=body, headers={"Content-Type": "application/json"}, timeout=30
    )
    if response.status_code != 200:
        refused(response)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/v1/models/gpt-4", 404),
        ("POST", "/v1/completions", 404),
        ("GET", "/docs", 404),
        ("GET", "/v1/models/../../etc/passwd", 404),
    ],
)
def test_other_addresses(method: str, path: str, status: int, server: Running) -> None:
    assert requests.request(method, server.url + path, timeout=30).status_code == status
    refused(requests.request(method, server.url + path, timeout=30))


def test_a_page_in_a_browser_cannot_ask(server: Running) -> None:
    """A form or a script of another site sends no JSON without asking first, and that is not allowed here."""
    url = f"{server.url}/v1/chat/completions"
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = requests.post(url, data=json.dumps(chat("x")), headers={"Content-Type": kind}, timeout=30)
        assert response.status_code == 415 and "Content-Type" in refused(response)["message"]
    asked = requests.options(
        url, headers={"Origin": "http://evil", "Access-Control-Request-Method": "POST"}, timeout=30
    )
    assert "access-control-allow-origin" not in asked.headers


ADDRESSES = ("/health", "/metrics", "/v1/models", "/v1/chat/completions", "/nowhere")
OWN = ("localhost", "LOCALHOST", "localhost.", "127.0.0.1", "[::1]", "[0:0:0:0:0:0:0:1]")
OTHERS = (
    "evil.example", "localhost.evil.example", "evil-localhost", "127.0.0.1.evil.example", "127.0.0.1@evil.example", "localhost, evil.example",
    "evil.example localhost", "localhost:80:80", "localhost:x", "localhost/", "::1", "[::1", "[::2]", "[:::1]", "0x7f.1", "x" * 5000, "", "\xe9.example",
)  # fmt: skip


def told_by(server: Running, path: str, head: str) -> tuple[int, bytes]:
    """Status and body of what a request with these headers is answered."""
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode("latin-1"))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    status, _, body = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), body


def is_refused(server: Running, path: str, head: str) -> bool:
    """Is it refused for its Host, in one line of the server's own that names the option?"""
    status, body = told_by(server, path, head)
    if b"host_not_allowed" not in body:
        return False
    error = json.loads(body)["error"]
    assert (
        status == 403 and error.keys() == {"message", "type", "param", "code"} and error["type"] == "permission_error"
    )
    assert error["message"].isprintable() and f"{OPTION} NAME" in error["message"] and len(error["message"]) < 200
    return True


@pytest.mark.parametrize("path", ADDRESSES)
def test_a_page_whose_name_was_bound_to_this_machine_is_refused(path: str, server: Running) -> None:
    """Its requests call the server by the page's name, at whatever address; those of this machine by none but its own."""
    for port in ("", ":", ":80", server.url[server.url.rindex(":") :]):
        assert not any(is_refused(server, path, f"Host: {name}{port}\r\n") for name in OWN)
        assert is_refused(server, path, f"Host: evil.example{port}\r\n")
    for head in ("", "Host: localhost\r\nHost: evil.example\r\n"):  # uvicorn's h11 refuses these itself
        assert is_refused(server, path, head) or told_by(server, path, head)[0] == 400


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_name_of_the_server_is_refused(name: str, server: Running) -> None:
    assert is_refused(server, "/v1/models", f"Host: {name}\r\n")


def test_a_server_answers_to_the_names_that_it_is_given() -> None:
    with running(hosts=allowed_hosts("127.0.0.1", "127.0.0.1", ("GPU-7.example", "10.0.0.7", "fe80::0:1"))) as server:
        for name in ("gpu-7.example", "gpu-7.example.:8100", "10.0.0.7:1", "[FE80::1]:8100", *OWN):
            assert not is_refused(server, "/v1/models", f"Host: {name}\r\n"), name
        for name in ("evil.example", "x.gpu-7.example", "gpu-7.example.evil", "10.0.0.8"):
            assert is_refused(server, "/v1/models", f"Host: {name}\r\n"), name
    with running(hosts=allowed_hosts("0.0.0.0", "0.0.0.0")) as server:
        assert not any(is_refused(server, "/v1/models", f"Host: {name}\r\n") for name in (*OWN, "evil.example"))


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("127.0.0.2", "127.0.0.2"), ("::1", "::1"), ("::ffff:127.0.0.1", "::ffff:127.0.0.1"), ("box", "127.0.1.1")],
)  # fmt: skip
def test_a_server_of_this_machine_alone_has_its_own_names(host: str, address: str) -> None:
    """What is bound counts, whatever it was called by."""
    assert allowed_hosts(host, address) == LOCAL | {host, address}


@given(name=st.from_regex(r"[a-z0-9_-]{1,20}(\.[a-z0-9_-]{1,20}){0,3}", fullmatch=True), port=st.integers(0, 65535))
def test_a_name_is_read_without_case_port_and_root(name: str, port: int) -> None:
    hosts = allowed_hosts("0.0.0.0", "0.0.0.0", (name.upper(),))
    assert hosts == LOCAL | {"0.0.0.0", name}
    assert {called(f"{name.title()}{root}:{port}") for root in ("", ".")} == {name}


@given(header=st.text(max_size=30))
def test_any_header_has_one_host_or_none(header: str) -> None:
    host = called(header)
    assert host is None or (
        host == host.lower() and host.isascii() and called(f"[{host}]" if ":" in host else host) == host
    )


def test_a_body_that_is_too_large_is_not_read(server: Running) -> None:
    assert server.post(chat(LONG)).status_code == 413

    def endless() -> Iterator[bytes]:
        for _ in range(10_000):
            yield b"x" * 1000

    try:
        response = requests.post(
            f"{server.url}/v1/chat/completions",
            data=endless(),
            headers={"Content-Type": "application/json"},
            timeout=30,
        )
    except requests.ConnectionError:
        return  # it stopped reading
    assert response.status_code == 413


def test_a_key_of_the_server_s_own() -> None:
    with running(api_key="sesame") as server:
        assert refused(server.post(chat(PROMPT)))["type"] == "authentication_error"
        assert server.post(chat(PROMPT), headers={"Authorization": "Bearer simsim"}).status_code == 401
        assert requests.get(f"{server.url}/v1/models", timeout=30).status_code == 401
        assert server.post(chat(PROMPT), headers={"Authorization": "Bearer sesame"}).status_code == 200
        assert requests.get(f"{server.url}/health", timeout=30).status_code == 200


# Who waits, and who has left


def test_requests_are_bounded() -> None:
    with gated(running=2, waiting=1) as (server, engine), ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(server.post, chat(f"guess {i}")) for i in range(3)]
        until(lambda: (server.service.gate.running, server.service.gate.waiting) == (2, 1))
        response = server.post(chat(PROMPT))
        assert response.status_code == 429 and refused(response)["code"] == "queue_full"
        assert int(response.headers["Retry-After"]) >= 1
        streamed = server.post(chat(PROMPT, stream=True))
        assert streamed.status_code == 429
        engine.gate.set()
        assert [a.result().status_code for a in answers] == [200] * 3
        until(lambda: server.service.gate.running == 0)


def leaving(server: Running, stream: bool, buffer: int = 0) -> socket.socket:
    """A client that has sent its request; ``buffer`` is the size of what it may leave unread, as far as the system lets it."""
    host, port = server.url.removeprefix("http://").split(":")
    body = json.dumps(chat(PROMPT, stream=stream)).encode()
    connection = socket.socket()
    connection.settimeout(30)
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.connect((host, int(port)))
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_paths(stream: bool) -> None:
    with gated(running=1, waiting=4) as (server, engine):
        first, second = leaving(server, stream), leaving(server, stream)
        until(lambda: len(engine.calls) == 1 and server.service.gate.waiting == 1)
        second.close()  # while it waits
        until(lambda: server.service.gate.waiting == 0)
        if stream:
            assert b"200 OK" in first.recv(4096)  # what it was told before
        first.close()  # while its paths are launched
        until(lambda: server.service.metrics.left._value.get() == 2)
        engine.gate.set()
        until(lambda: server.service.gate.running == 0)
        assert len(engine.calls) == 1, "paths of a client that has left were finished"
        assert not server.service.worker._asked  # type: ignore[attr-defined]
        assert server.ask(PROMPT)["choices"]


def test_a_client_that_does_not_read_holds_nobody_up(server: Running) -> None:
    slow = [leaving(server, True) for _ in range(20)]
    assert server.ask(PROMPT)["choices"]
    until(lambda: server.service.gate.running == 0)
    for connection in slow:
        connection.close()


def test_a_client_that_reads_slowly_gets_all_of_its_answer(server: Running) -> None:
    with ThreadPoolExecutor(8) as pool:
        slow = [pool.submit(read_slowly, server) for _ in range(8)]
        others = [server.ask(PROMPT)["choices"] for _ in range(5)]
        texts = [one.result() for one in slow]
    assert all(one == others[0] for one in others)
    said = json.dumps(others[0][0]["message"]["content"]).encode()
    assert all(text.rstrip().endswith(b"0") and said in text and b"data: [DONE]" in text for text in texts)


def read_slowly(server: Running) -> bytes:
    """What a client with the smallest buffer gets that reads some bytes at a time, and not at once."""
    with leaving(server, True, buffer=1) as connection:
        time.sleep(0.2)
        text = b""
        while not text.endswith(b"0\r\n\r\n"):
            part = connection.recv(64)
            assert part, "the server closed the connection"
            text += part
            time.sleep(0.002)
        return text


def test_a_client_that_does_not_finish_its_body_is_left(monkeypatch: pytest.MonkeyPatch, server: Running) -> None:
    monkeypatch.setattr("harness.serve.app.BODY", 0.2)
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        assert b"408" in slow.recv(4096).splitlines()[0]


def test_a_request_that_takes_too_long_is_given_up() -> None:
    with gated(timeout=0.3) as (server, engine):
        assert server.post(chat(PROMPT)).status_code == 504
        engine.gate.set()
        until(lambda: server.service.gate.running == 0)


def test_an_end_lets_requests_finish() -> None:
    with gated() as (server, engine), ThreadPoolExecutor(1) as pool:
        answer = pool.submit(server.post, chat(PROMPT))
        until(lambda: engine.calls)
        server.server.should_exit = True
        time.sleep(0.3)
        engine.gate.set()
        assert answer.result().status_code == 200


def test_stages_of_requests_share_batches_and_take_turns() -> None:
    with gated() as (server, engine), ThreadPoolExecutor(9) as pool:
        own = [{"problem": f"p{i}"} | ({"n": 16, "keep": 3} if i > 4 else {}) for i in range(9)]
        answers = [pool.submit(server.post, chat(f"guess {i}", pathprune=own[i])) for i in range(9)]
        until(lambda: server.service.gate.running == 9 and engine.calls)
        time.sleep(0.2)
        engine.gate.set()
        assert {a.result().status_code for a in answers} == {200}
    launches = [call for call in engine.calls if call[0].startswith("launch")]
    assert sum(map(len, launches)) == 9 and len(engine.calls) <= 7


def test_clients_take_turns() -> None:
    async def served() -> list[str]:
        gate, order = Gate(1, 100), list[str]()
        entered = await gate.enter("one")

        async def one(client: str) -> None:
            mine = await gate.enter(client)
            order.append(client)
            gate.leave(mine)

        tasks = [asyncio.ensure_future(one(client)) for client in ["greedy"] * 5 + ["modest", "shy"]]
        await asyncio.sleep(0)
        tasks[1].cancel()
        gate.leave(entered)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (gate.running, gate.waiting) == (0, 0)
        return order

    assert asyncio.run(served()) == ["greedy", "modest", "shy", "greedy", "greedy", "greedy"]


def test_an_engine_that_fails_fails_its_request_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with running() as server:
        resume = type(server.service.worker.engine).resume  # type: ignore[attr-defined]

        def failing(self: Any, paths: Any, max_tokens: int) -> Any:
            if any(p.problem.id == "bad" for p in paths):
                raise PathpruneError("no room for bad")
            if any(p.problem.id == "worse" for p in paths):
                raise ValueError("a secret of ours")
            return resume(self, paths, max_tokens)

        monkeypatch.setattr(type(server.service.worker.engine), "resume", failing)  # type: ignore[attr-defined]
        with ThreadPoolExecutor(6) as pool:
            names = ["good", "bad", "fine", "bad", "well", "right"]
            answers = list(pool.map(lambda n: server.post(chat(PROMPT, pathprune={"problem": n})), names))
        assert [a.status_code for a in answers] == [500 if n == "bad" else 200 for n in names]
        worse = server.post(chat(PROMPT, pathprune={"problem": "worse"}))
        assert worse.status_code == 500 and "secret" not in worse.text and "log" in worse.json()["error"]["message"]
        assert server.ask(PROMPT)


def test_metrics_count(server: Running) -> None:
    def counted(name: str) -> float:
        text = requests.get(f"{server.url}/metrics", timeout=30).text
        return float(re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]

    names = ('pathprune_paths_total{what="launched"}', 'pathprune_paths_total{what="finished"}', 'pathprune_requests_total{status="200"}')  # fmt: skip
    server.ask(PROMPT)
    before = [counted(name) for name in names]
    told = server.ask(PROMPT)["pathprune"]
    assert [counted(n) - b for n, b in zip(names, before, strict=True)] == [told["launched"], len(told["kept"]), 1]
    assert counted("pathprune_up") == 1 and counted("pathprune_running") == 0


# Prompts and answers


def messages(*turns: tuple[str, str]) -> list[Message]:
    return [Message(role=role, content=text) for role, text in turns]  # type: ignore[arg-type]


def test_a_conversation_is_one_prompt_of_several_turns() -> None:
    turns = [("system", "Be brief."), ("user", "1 + 1?"), ("assistant", "2"), ("user", "And 2 + 2?")]
    prompt = prompt_of(messages(*turns), chat=True)
    assert turns_of(prompt) == [{"role": role, "content": text} for role, text in turns]
    assert begun_of(prompt) == (prompt, "") and begun_of(f"x{TURN}assistant{TURN}y") == ("x", "y")
    assert prompt_of(messages(("user", "1 + 1?")), chat=True) == "1 + 1?" and turns_of("x") == [
        {"role": "user", "content": "x"}
    ]
    assert prompt_of(messages(("developer", "a"), ("user", "b")), chat=True).startswith(f"{TURN}system{TURN}a")
    with pytest.raises(APIError, match="has no chat template"):
        prompt_of(messages(*turns), chat=False)


def test_thinking_is_told_apart() -> None:
    reading = Reading(None, "m").until(["\n\nQ:"])
    assert reading.reply("<think>a\n\nQ: b</think>\n\nIt is 7.\n\nQ: more") == (
        "<think>a\n\nQ: b</think>",
        "It is 7.",
    )
    assert reading.reply("<think>never") == ("<think>never", "") and reading.reply("7") == ("", "7")
    assert reading.ended("x\n\nQ:") and not reading.ended("<think>\n\nQ:") and not reading.ended("x")
    assert reading.answer("the answer is 7\n\nQ: the answer is 8") == "7"


@pytest.mark.long
def test_formulas_are_read_in_a_process_of_their_own() -> None:
    reader = ReaderProcess(None)
    try:
        with ThreadPoolExecutor(4) as pool:
            texts = ["so \\boxed{\\frac{\\sqrt{8}}{2}}", "so \\boxed{\\sqrt{2}}", "nothing", "the answer is 7"]
            first, second, third, fourth = pool.map(reader, texts)
        assert first == second is not None and third is None and fourth == "7"
        reader._process.kill()
        assert reader("the answer is 7") is None  # of the text that ended it
        assert reader("the answer is 7") == "7"
    finally:
        reader.close()


# The command


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--engine", "toy", "--pruner", "nothing"), "unknown pruner 'nothing'"),
        (("--engine", "toy", "--pruner", "parallel-probe"), "has a decision rule of its own"),
        (("--engine", "toy", "--pruner", "stop"), "no checkpoint of stop for this model"),
        (("--engine", "toy", "--pruner", "logprob", "--keep", "99"), "keep must be from 1 to n = 64, not 99"),
        (("--engine", "toy", "--pruner", "logprob", "--stopping", "logprob"), "logprob is not a stopping rule; known: agreement, asc, "),
        (("--upstream", "http://127.0.0.1:9", "--model", "hands"), "no server replies at http://127.0.0.1:9"),
        (("--upstream", "http://127.0.0.1:9",), "name the model that the upstream serves"),
        (("--upstream", "nowhere", "--model", "hands"), "no address of a server"),
        (("--upstream", "http://x", "--engine", "hf"), "leave out --engine"),
        (("--host", "203.0.113.7", "--engine", "toy"), "cannot listen on 203.0.113.7"),
        (("--port", "99999"), "99999 is too large"),
        (("--engine", "toy", "--allow-host", "http://gpu"), "--allow-host 'http://gpu' is not a host's name"),
        (("--engine", "toy", "--allow-host", "gpu:8100"), "leave out scheme, port and path"),
        (("--engine", "toy", "--allow-host", "*"), "--allow-host '*' is not a host's name"),
        (("--engine", "toy", "--allow-host", "::g"), "--allow-host '::g' is not a host's name"),
        (("--stages", "5:3", "--prefix", "4", "--engine", "toy", "--pruner", "logprob"), "leave out --prefix"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_one_line(args: tuple[str, ...], message: str, run_cli: Any) -> None:
    code, out = run_cli("serve", *([] if "--port" in args else ["--port", "0"]), *args)
    assert code == 2 and message in out and "Traceback" not in out and len(out.strip().splitlines()) == 1


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(number: int) -> None:
    with started("--engine", "toy", "--pruner", "logprob") as (process, url):
        assert requests.post(f"{url}/chat/completions", json=chat(PROMPT), timeout=30).status_code == 200
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stdout is not None and "Traceback" not in process.stdout.read()


def alive() -> Counter[str]:
    """Objects of each kind that requests are made of."""
    gc.collect()
    kinds = (Job, Answered, Path, RunSpec, Reading, ChatRequest, asyncio.Future, asyncio.Task, asyncio.Queue, Future)
    return Counter(type(o).__name__ for o in gc.get_objects() if issubclass(type(o), kinds))


def test_nothing_of_an_answered_request_stays() -> None:
    """After any number of requests, answered, refused or left, a server holds the same objects as after the first ones."""
    with running(running=8, waiting=100) as server:
        worker: Any = server.service.worker

        def ask(first: int, count: int) -> None:
            with ThreadPoolExecutor(8) as pool:
                bodies = [
                    chat(f"guess {i}", stream=i % 3 == 0, **({"n": 2} if i % 5 == 0 else {}))
                    for i in range(first, first + count)
                ]
                statuses = [response.status_code for response in pool.map(server.post, bodies)]
            assert [s == 400 for s in statuses] == ["n" in body for body in bodies]
            for i in range(3):
                leaving(server, i % 2 == 0).close()
            until(lambda: (server.service.gate.running, server.service.gate.waiting, len(worker._asked)) == (0, 0, 0))
            server.ask(PROMPT)  # the last batch, which the engine's thread still names, is of one request

        ask(0, 40)
        before = alive()
        ask(40, 200)
        grown = alive() - before
        assert sum(grown.values()) < 20, grown
        assert not server.service.gate._queues


def test_keys_and_values_of_an_answered_request_are_freed(hands: Hands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while others are computed: a server that is never idle would fill its memory with the prefixes of old requests."""
    monkeypatch.setattr(OwnEngine, "_forget", lambda self: None)
    problems = hands.problems("dev", 12)
    with (
        running(Asked(pruners="logprob", n=6, keep=2, prefix=8, max_tokens=24)) as server,
        ThreadPoolExecutor(4) as pool,
    ):
        worker: Any = server.service.worker
        stored = worker.engine.store
        most, put = [0], stored.put

        def counted(keys: Any, block: Any) -> None:
            put(keys, block)
            most.append(len({prompt for prompt, _ in stored._locations}))

        monkeypatch.setattr(stored, "put", counted)
        asked = [(p.prompt, seed) for seed in (0, 1) for p in problems]  # each prompt twice
        list(pool.map(lambda one: server.ask(one[0], "hands", seed=one[1]), asked))
        until(lambda: not worker._asked)
        assert 0 < max(most) <= 4  # prompts of the four requests at a time
        assert stored.bytes == 0 and not stored._locations


@pytest.mark.long
def test_lm_eval_runs_against_it(tmp_path: FilePath) -> None:
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    rows = [{"q": p.prompt, "a": p.answer} for p in Toy().problems("test", 4)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "guess.yaml").write_text(
        f"""task: guess
dataset_path: json
dataset_kwargs: {{data_files: {{test: {tmp_path}/rows.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{q}}}}"
doc_to_target: "{{{{a}}}}"
generation_kwargs: {{until: ["Q:"], max_gen_toks: 48}}
metric_list: [{{metric: exact_match}}]
filter_list: [{{name: last, filter: [{{function: regex, regex_pattern: "answer (\\\\d)"}}, {{function: take_first}}]}}]
"""
    )
    with running() as server:
        evaluated = simple_evaluate(
            model="local-chat-completions",
            model_args={"model": "toy", "base_url": f"{server.url}/v1/chat/completions", "num_concurrent": 4, "max_retries": 1, "tokenizer_backend": None},
            tasks=["guess"], task_manager=TaskManager(include_path=str(tmp_path)), apply_chat_template=True, bootstrap_iters=0,
        )  # fmt: skip
        expected = [server.ask(row["q"], stop=["Q:"], seed=1234)["pathprune"]["answer"] == row["a"] for row in rows]
    assert evaluated["results"]["guess"]["exact_match,last"] == pytest.approx(sum(expected) / 4)
