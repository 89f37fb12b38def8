"""Checkpoints go to a hub and come back the same. The hub is a stand-in that speaks the API's few calls we cause."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest


class Hub(BaseHTTPRequestHandler):
    """Repositories in memory: create, preupload, commit, info, resolve (huggingface_hub 1.x and 2.x, hf_api.py)."""

    repositories: ClassVar[dict[str, dict[str, bytes]]] = {}
    commits: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        name = "/".join(self.path.split("/")[3:5])
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization') or 'me'}/{asked['name']}"
            self.repositories.setdefault(name, {})
            self.say({"url": f"{self.base}/{name}", "id": name})
        elif "/preupload/" in self.path:
            files = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(body)["files"]
            ]
            self.say({"files": files})
        elif "/commit/" in self.path:
            for part in map(json.loads, body.splitlines()):
                if part["key"] == "file":
                    self.repositories[name][part["value"]["path"]] = base64.b64decode(part["value"]["content"])
            self.commits[name] = hashlib.sha1(body).hexdigest()
            self.say({"commitUrl": f"{self.base}/{name}/commit/{self.commits[name]}", "commitOid": self.commits[name]})
        else:  # the model card's metadata is validated
            self.say({"errors": [], "warnings": []})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        asked = self.path.partition("?")[0]
        info = re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)(?:/revision/.+)?", asked)
        tree = re.fullmatch(r"/api/(?:models|datasets)/([^/]+/[^/]+)/tree/.*", asked)
        file = re.fullmatch(r"(?:/datasets)?/([^/]+/[^/]+)/resolve/[^/]+/(.+)", asked)
        matched = info or tree or file
        held = self.repositories.get(matched[1]) if matched else None
        if held is None or matched is None:
            self.say({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        elif info:
            names = [{"rfilename": n} for n in held]
            self.say({"id": matched[1], "sha": self.commits[matched[1]], "siblings": names, "private": False})
        elif tree:
            rows = [
                {"type": "file", "path": n, "size": len(b), "oid": hashlib.sha1(b).hexdigest()} for n, b in held.items()
            ]
            self.say(rows)
        else:
            content = held.get(matched[2])
            headers = {"X-Repo-Commit": self.commits[matched[1]], "ETag": hashlib.sha1(content or b"").hexdigest()}
            self.send(404 if content is None else 200, content or b"", headers)

    @property
    def base(self) -> str:
        return f"http://{self.headers['Host']}"

    def say(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | (headers or {}))

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment of a process that talks to the stand-in."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    yield os.environ | {
        "HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "HF_TOKEN": "hf_test",
        "NO_PROXY": "127.0.0.1", "HF_HUB_DISABLE_XET": "1",
    }  # fmt: skip
    server.shutdown()


@pytest.mark.long
def test_a_pushed_checkpoint_is_the_one_that_is_pulled(hub: dict[str, str], tmp_path: Path) -> None:
    def run(*args: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness.cli", *args]
        return subprocess.run(command, env=hub, capture_output=True, text=True, timeout=300)

    pushed = run("push", "stop", "me/stop-hands")
    assert pushed.returncode == 0, pushed.stderr
    assert {"adapter_config.json", "adapter_model.safetensors", "head.safetensors", "stop_embeddings.safetensors"} | {
        "checkpoint.json", "README.md"
    } == set(Hub.repositories["me/stop-hands"])  # fmt: skip
    assert b"base_model: hands" in Hub.repositories["me/stop-hands"]["README.md"]
    folders = ("--results", str(tmp_path / "results"), "--bank", str(tmp_path / "bank"))
    small = ("--problems", "2", "--n", "8", "--keep", "2", *folders)
    both = run("bench", "--pruner", "stop:checkpoint=hf://me/stop-hands", *small)
    assert both.returncode == 0, both.stderr + both.stdout
    card = json.loads(Hub.repositories["me/stop-hands"]["checkpoint.json"])
    headers = [json.loads(f.read_text().splitlines()[0]) for f in (tmp_path / "results").rglob("L*-stop-*.jsonl")]
    assert [h["spec"]["checkpoint"] for h in headers] == [card["digest"]]

    absent = run("bench", "--pruner", "stop:checkpoint=hf://me/nothing", *small)
    assert absent.returncode == 2 and "Traceback" not in absent.stderr
    assert "hub repository me/nothing" in absent.stderr + absent.stdout


@pytest.mark.parametrize("size", [1500, pytest.param(0, marks=pytest.mark.long)])
def test_pushing_needs_no_room_on_the_disk(size: int, hub: dict[str, str], tmp_path: Path) -> None:
    """No file of this process may hold more than ``size`` bytes; what is pushed is all of it, or nothing and one line."""

    def full() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    def push(prepare: Callable[[], None] | None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "harness.cli", "push", "stop", f"me/full-{size}"]
        return subprocess.run(
            command, env=hub, cwd=tmp_path, capture_output=True, text=True, timeout=300, preexec_fn=prepare
        )

    first = push(full)
    pushed = Hub.repositories.get(f"me/full-{size}", {})
    assert "Traceback" not in first.stderr, first.stderr
    if first.returncode:
        assert first.returncode == 2 and first.stderr.startswith("error: ") and first.stderr.count("\n") == 1
        assert not pushed
    assert push(None).returncode == 0
    assert {"checkpoint.json", "README.md", "head.safetensors"} <= set(Hub.repositories[f"me/full-{size}"])
    for name, content in pushed.items():
        assert Hub.repositories[f"me/full-{size}"][name] == content


def test_a_file_of_a_repository_cannot_leave_its_folder(hub: dict[str, str], tmp_path: Path) -> None:
    Hub.commits["me/evil"] = "3" * 40
    Hub.repositories["me/evil"] = {"checkpoint.json": b"{}", "../../../../../escaped": b"mine"}
    code = "import sys; from harness.hub import pull; from harness.api import PathpruneError\n"
    code += "try: pull('hf://me/evil')\nexcept PathpruneError as error: sys.exit(str(error))"
    pulled = subprocess.run([sys.executable, "-c", code], env=hub, capture_output=True, text=True, timeout=300)
    assert pulled.returncode == 1 and "hub repository me/evil: " in pulled.stderr
    assert "Traceback" not in pulled.stderr and not list(tmp_path.rglob("escaped"))


READ = """
import sys
from pathlib import Path
from harness import registry
from harness.api import PathpruneError
from harness.learn.labels import LabelRecipe, Labels

task = registry.task("toy")
engine = registry.engine("toy", "toy", task.defaults.sampling)
recipe = LabelRecipe(problems=int(sys.argv[2]), n=8, continuations=2, bounds=(0.0, 1.0), prefixes=(4,), max_tokens=48)
try:
    labels = Labels(sys.argv[1], task, engine, recipe)
    if sys.argv[3:] == ["make"]:
        labels.make(lambda done, tokens: None)
    labels.require()
    print(labels.folder.name, labels.digest("monte-carlo"))
except PathpruneError as error:
    sys.exit(str(error))
"""


@pytest.mark.long
def test_labels_of_a_data_set_are_read_and_never_made_there(hub: dict[str, str], tmp_path: Path) -> None:
    def read(*args: str, **changed: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", READ, *args]
        return subprocess.run(command, env=hub | changed, capture_output=True, text=True, timeout=300)

    name, digest = read(str(tmp_path / "made"), "6", "make").stdout.split()
    (part,) = (tmp_path / "made" / name).glob("problems-*.parquet")
    Hub.commits |= {"me/labels": "1" * 40, "me/parts": "2" * 40}
    Hub.repositories["me/labels"] = {f"{name}/{part.name}": part.read_bytes(), "other/huge.parquet": b"not asked for"}
    Hub.repositories["me/parts"] = {part.name: part.read_bytes()}
    assert read("hf://me/labels", "6").stdout.split() == [name, digest]
    assert read("hf://me/parts", "6").stdout.split()[1] == digest
    assert not list((tmp_path / "hf").rglob("huge.parquet"))  # of a data set, only what is read is downloaded
    short = read("hf://me/labels", "9")
    assert short.returncode == 1 and "labels of 3 of 9 problems are missing in hf://me/labels" in short.stderr
    assert "must be created in a local folder" in read("hf://me/labels", "9", "make").stderr
    assert read("hf://me/labels", "6", HF_HUB_OFFLINE="1").stdout.split() == [name, digest]  # from the cache
    absent = read("hf://me/nothing", "6", HF_HUB_OFFLINE="1")
    assert "hub repository me/nothing: " in absent.stderr and len(absent.stderr.splitlines()) == 1
