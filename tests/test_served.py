"""A server as an engine: a real ``vllm serve`` (marked vllm), and stand-ins that misbehave."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path as FilePath
from threading import Thread
from typing import Any

import numpy as np
import pytest
from urllib3.util import Retry

from harness import registry
from harness.api import PathpruneError, UnavailableError
from harness.engines import load_now
from harness.engines.served.names import base_name
from harness.engines.vllm.ids import IdLayout
from harness.testing import engine_conformance
from tasks.embedded.hands import Hands
from tests.vllm_serving import exported_server

STOP = FilePath("pruners/checkpoints/stop/3bfac10f82c4")
OTV = FilePath("pruners/checkpoints/otv/3bfac10f82c4")


def remote(url: str, hands: Hands, model: str = "hands", **options: Any) -> Any:
    engine = registry.engine("vllm-http", model, hands.defaults.sampling, url=url, **options)
    load_now(engine)
    return engine


# Stand-ins


@contextmanager
def stand_in(models: Any, failures: int = 0, page: bytes = b"") -> Iterator[str]:
    """Replies with its models, after so many times 503; or with a page, whatever is asked."""
    left = [failures]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            left[0] -= 1
            self.send_response(503 if left[0] >= 0 else 200)
            body = page or json.dumps({"data": [{"id": name} for name in models], "version": "0"}).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = Retry(total=3, backoff_factor=0.01, status_forcelist=(503,), allowed_methods=None)
    monkeypatch.setattr("harness.engines.served.client.RETRIES", quick)


def test_a_busy_server_is_asked_again(hands: Hands, hasty: None) -> None:
    fingerprint = registry.engine("hf", "hands", hands.defaults.sampling).fingerprint
    with stand_in([base_name(fingerprint)], failures=2) as url:
        assert remote(url, hands).model_name == base_name(fingerprint)
    with stand_in([base_name(fingerprint)], failures=9) as url, pytest.raises(UnavailableError, match="no reply from"):
        remote(url, hands)


def test_a_server_that_is_not_there(hands: Hands, hasty: None) -> None:
    with pytest.raises(UnavailableError, match=r"no reply from the server at http://127.0.0.1:9 .* is it running"):
        remote("http://127.0.0.1:9", hands)


@pytest.mark.parametrize("served", [["meta-llama/Llama-3"], ["pathprune-000000000000"], []])
def test_a_server_without_the_plugin_or_of_other_weights(served: list[str], hands: Hands) -> None:
    with stand_in(served) as url, pytest.raises(UnavailableError, match="lacks pathprune's plugin; serve a folder"):
        remote(url, hands)


def test_an_address_of_something_else_than_a_server_of_models(hands: Hands) -> None:
    with stand_in([], page=b"<html>") as url, pytest.raises(PathpruneError, match=r"to /v1/models with something else"):
        remote(url, hands)


@pytest.mark.parametrize(
    "page", ["[]", "7", "null", '{"data": 3}', '{"data": [{}]}', '{"data": ["x"]}', '{"models": []}']
)
def test_a_reply_of_another_shape_is_one_line(page: str, hands: Hands) -> None:
    with (
        stand_in([], page=page.encode()) as url,
        pytest.raises(PathpruneError, match="JSON of another shape") as caught,
    ):
        remote(url, hands)
    assert "\n" not in str(caught.value)


def test_an_address_is_asked_for(run_cli: Any) -> None:
    code, out = run_cli("bench", "--engine", "vllm-http", "--pruner", "stop")
    assert code == 2 and "ENGINE=vllm-http:url=" in out


def test_what_cannot_be_exported(run_cli: Any, tmp_path: FilePath) -> None:
    code, out = run_cli("export", "logprob", "--out", str(tmp_path / "x"))
    assert code == 2 and "needs no export" in out
    code, out = run_cli("export", "stop", "--model", "nowhere", "--out", str(tmp_path / "x"))
    assert code == 2 and "unknown model" in out


def test_an_export_holds_model_adapters_and_ids(run_cli: Any, tmp_path: FilePath) -> None:
    code, out = run_cli("export", "stop", "--out", str(tmp_path / "x"))
    assert code == 0 and "vllm.entrypoints.openai.api_server" in out
    config = json.loads((tmp_path / "x" / "config.json").read_text())
    assert config["architectures"] == ["PathpruneLlamaForCausalLM"]
    assert config["pathprune"] == {"base": 64, "hidden": 160, "adapters": ["adapter-0"]}
    shipped = (STOP / "adapter_model.safetensors").read_bytes()
    assert (tmp_path / "x" / "adapter-0" / "adapter_model.safetensors").read_bytes() == shipped


# A real server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """``vllm serve`` on what ``pathprune export stop`` wrote."""
    with exported_server(tmp_path_factory.mktemp("served")) as url:
        yield url


@pytest.mark.vllm
def test_paths_and_states_over_http_are_those_of_the_hugging_face_engine(
    server: str, hands: Hands, hands_engine: Any
) -> None:
    engine = remote(server, hands)
    problems = hands.problems("dev", 2)
    expected = [p for g in hands_engine.launch(problems, 12, 120, seed=3) for p in g]
    paths = [p for g in engine.launch(problems, 12, 120, seed=3) for p in g]
    assert [(p.tokens, p.finish) for p in paths] == [(p.tokens, p.finish) for p in expected]
    for path, other in zip(paths, expected, strict=True):
        assert np.allclose(path.stats.entropy, other.stats.entropy, atol=2e-2)
        assert np.allclose(path.stats.self_certainty, other.stats.self_certainty, atol=2e-2)
    prefixes = [p.cut(22, engine.decode) for p in paths]
    assert np.abs(engine.probe(prefixes) - hands_engine.probe(prefixes)).max() < 1e-4
    states = [e.probe(prefixes, e.new_adapter(STOP))[:, -1] for e in (engine, hands_engine)]
    assert np.abs(states[0] - states[1]).max() < 1e-4
    gap = engine.next_logprobs(prefixes, [3, 9]) - hands_engine.next_logprobs(prefixes, [3, 9])
    assert np.abs(gap).max() < 1e-4
    assert engine.counters.cached > 0


@pytest.mark.vllm
def test_the_server_s_engine_conforms(server: str, hands: Hands) -> None:
    assert [f for f in engine_conformance(remote(server, hands), hands, cuts=(22,)) if f[1]] == []


@pytest.mark.vllm
def test_another_model_or_adapter_than_the_served_one(server: str, hands: Hands) -> None:
    with pytest.raises(PathpruneError, match=r"does not hold the adapter in .*otv"):
        remote(server, hands).new_adapter(OTV)
    with pytest.raises(UnavailableError, match="it has other weights"):
        remote(server, hands, model="slips")


@pytest.mark.vllm
def test_a_refusal_is_the_server_s_own_words(server: str, hands: Hands) -> None:
    engine = remote(server, hands)
    engine._engine.layout = IdLayout(1_000_000, engine.layout.hidden)  # ids that this server does not have
    prefix = engine.launch(hands.problems("dev", 1), 1, 0, seed=0)[0]
    with pytest.raises(PathpruneError, match=r"refused /v1/completions \(400"):
        engine.probe(prefix)


@pytest.mark.vllm
def test_a_bench_over_http(server: str, run_cli: Any, tmp_path: FilePath) -> None:
    where = [
        "--results",
        str(tmp_path / "r"),
        "--bank",
        str(tmp_path / "b"),
        "--problems",
        "2",
        "--n",
        "8",
        "--keep",
        "2",
    ]
    code, out = run_cli("bench", "--engine", f"vllm-http:url={server}", "--pruner", "stop,linear-probe", *where)
    assert code == 0 and "stop" in out, out
