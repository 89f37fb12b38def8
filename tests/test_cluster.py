"""Workers of Ray: the store they fill is that of a single process, also when one of them is killed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.api import PathpruneError
from harness.runners.cluster import devices_of, gpus_of_each, parse

KILLER = '''
import os, signal
from pathlib import Path


class Killer:
    """Kills the process that it runs in, as often as there are marks."""

    quadrant, needs, fidelity = "control", frozenset({{"text"}}), "exact"

    def score(self, prefixes, check):
        marks = sorted(Path({marks!r}).glob("*")) if prefixes[0].problem.id.endswith({problem!r}) else []
        if marks:
            marks[0].unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        return [len(p.text) for p in prefixes]
'''


@pytest.mark.parametrize(
    ("given", "expected"),
    [("4", (None, 4)), ("ray://h:10001,3", ("ray://h:10001", 3)), ("auto", ("auto", 1)), ("auto,2", ("auto", 2))],
)
def test_workers_option(given: str, expected: tuple[Any, int]) -> None:
    assert parse(given) == expected


@pytest.mark.parametrize(
    "wrong",
    ["0", "ray://h:1,0", "ray://h:1,x", "-3,", "ray://", "ray://x", "1,1,1", "ray://,2", "x:y", ",4", "ray://h:1:2"],
)
def test_a_wrong_workers_option_names_the_right_form(wrong: str) -> None:
    with pytest.raises(PathpruneError, match="give a number, or a cluster's address"):
        parse(wrong)


@pytest.mark.parametrize(
    ("engine", "devices"),
    [
        ("toy", 1),
        ("hf:device=cpu", 0),
        ("hf:device=cuda,rows=2", 1),
        ("vllm:tensor_parallel=4", 4),
        ("vllm:tensor_parallel=x", 1),
    ],
)
def test_a_worker_takes_the_gpus_that_its_engine_does(engine: str, devices: int) -> None:
    assert devices_of(engine) == devices


def test_gpus_are_those_of_the_cluster() -> None:
    """Whatever the machine has that asks: a cluster without any has none to give, and nobody waits for ever."""
    assert gpus_of_each(4, 2, 0, "ray://h:10001") == gpus_of_each(4, 2, 0, None) == 0
    assert gpus_of_each(4, 2, 8, None) == gpus_of_each(4, 2, 2, "ray://h:10001") == 2  # a cluster may grow
    with pytest.raises(
        PathpruneError, match="4 workers of 2 GPUs each need more than the 7 of this machine; give 3 workers"
    ):
        gpus_of_each(4, 2, 7, None)


def bench(run_cli: Any, folder: Path, *more: str) -> tuple[int, str]:
    where = ["--results", str(folder / "results"), "--bank", str(folder / "bank")]
    return run_cli(
        "bench", "--task", "toy", "--engine", "toy", "--problems", "12", "--n", "512", "--keep", "8", *where, *more
    )


def stored(folder: Path) -> dict[str, list[str]]:
    """Rows of every record, in order of problems; headers hold times and machines."""
    return {
        str(f.relative_to(folder)): sorted(line for line in f.read_text().splitlines() if "problem" in json.loads(line))
        for f in sorted(folder.rglob("*.jsonl"))
    }


@pytest.mark.vllm
@pytest.mark.long
def test_workers_fill_the_store_of_a_single_process(run_cli: Any, tmp_path: Path) -> None:
    specs = ["--pruner", "jaccard,logprob,deepconf-online"]
    assert bench(run_cli, tmp_path / "one", *specs)[0] == 0
    code, out = bench(run_cli, tmp_path / "two", *specs, "--workers", "2")
    assert code == 0, out
    assert stored(tmp_path / "one") == stored(tmp_path / "two")
    banks = [sorted(p.name for p in (tmp_path / d / "bank").rglob("*.parquet")) for d in ("one", "two")]
    assert banks[0] == banks[1] and banks[0]
    assert "0 tokens generated" in bench(run_cli, tmp_path / "two", *specs)[1]


@pytest.mark.vllm
@pytest.mark.parametrize(("deaths", "code"), [(2, 0), pytest.param(3, 2, marks=pytest.mark.long)])
def test_a_killed_worker_s_problems_are_done_by_another(deaths: int, code: int, run_cli: Any, tmp_path: Path) -> None:
    """After three deaths on one problem the run ends with one line; what was finished is kept."""
    marks = tmp_path / "marks"
    marks.mkdir()
    for i in range(deaths):
        (marks / str(i)).touch()
    (tmp_path / "killer.py").write_text(KILLER.format(marks=str(marks), problem="7"))
    spec = ["--pruner", f"{tmp_path}/killer.py@Killer,jaccard"]
    got, out = bench(run_cli, tmp_path / "two", *spec, "--workers", "2")
    assert got == code, out
    assert ("3 workers in a row died" in out) == (code == 2)
    if code:
        again, out = bench(run_cli, tmp_path / "two", *spec, "--workers", "1")
        assert again == 0, out
    assert bench(run_cli, tmp_path / "one", *spec)[0] == 0
    assert stored(tmp_path / "one") == stored(tmp_path / "two")


@pytest.mark.vllm
def test_a_cluster_that_is_not_there(run_cli: Any, tmp_path: Path) -> None:
    code, out = bench(run_cli, tmp_path, "--pruner", "jaccard", "--workers", "127.0.0.1:9,2")
    assert code == 2 and "no Ray cluster at 127.0.0.1:9" in out


@pytest.mark.vllm
def test_nobody_else_reaches_the_workers_of_one_machine(run_cli: Any, tmp_path: Path) -> None:
    """Ray's processes run what anybody sends them."""
    (tmp_path / "listens.py").write_text(LISTENS)
    code, out = bench(run_cli, tmp_path, "--pruner", f"{tmp_path}/listens.py@Listens", "--workers", "1")
    assert code == 0, out


LISTENS = """
import ipaddress, os, psutil


class Listens:
    quadrant, needs, fidelity = "control", frozenset({"text"}), "exact"

    def score(self, prefixes, check):
        of_ray = [p for p in psutil.process_iter() if "ray" in " ".join(p.cmdline()) or p.pid == os.getpid()]
        open_to = [c.laddr.ip for p in of_ray for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        loopback = [ipaddress.ip_address(ip.removeprefix("::ffff:")).is_loopback for ip in open_to]
        assert open_to and all(loopback), open_to
        return [len(p.text) for p in prefixes]
"""
