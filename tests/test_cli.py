"""What a user sees: the table, and one line naming the fix for everything that can be got wrong."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from harness import registry
from harness.learn import checkpoints

Run = Callable[..., tuple[int, str]]
TOY = ("--task", "toy", "--engine", "toy", "--n", "8", "--keep", "2", "--problems", "4")


def instead(usual: tuple[str, ...], *given: str) -> tuple[str, ...]:
    """The usual options but those that are given, for none is given twice; and these."""
    pairs = zip(usual[::2], usual[1::2], strict=True)
    return (*(word for option, value in pairs if option not in given for word in (option, value)), *given)


MINE = """
class Mine:
    quadrant = "external-fixed"
    needs = frozenset({"text"})
    fidelity = "exact"

    def score(self, prefixes, check):
        return [-float(len(p.text)) for p in prefixes]
"""


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, ...]:
    return ("--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b"))


def test_bench_prints_the_table_and_then_generates_nothing(run_cli: Run, folders: tuple[str, ...]) -> None:
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "logprob,jaccard:keep=central,first")
    assert code == 0
    for shown in ("all (no pruning)", "random (expected)", "logprob", "jaccard:keep=central", "avg@2|8", "cons@2"):
        assert shown in out
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "logprob")
    assert code == 0 and "\n0 tokens generated" in out


def test_a_pruner_from_a_file(run_cli: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    code, out = run_cli("bench", *TOY, *folders, "--pruner", f"{file}@Mine")
    assert code == 0 and "mine@Mine" in out
    file.write_text(MINE.replace("-float", "float"))  # an edited file is another row, never a stale one
    run_cli("bench", *TOY, *folders, "--pruner", f"{file}@Mine")
    assert len(list((tmp_path / "r").rglob("L5-mine@Mine*"))) == 2


def test_a_pruner_from_somebody_elses_package(
    run_cli: Run, folders: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    info = site / "theirs-2.5.dist-info"
    info.mkdir(parents=True)
    (site / "theirs.py").write_text(MINE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text("[pathprune.pruners]\nshort-text = theirs:Mine\n")
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "short-text")
    assert code == 0 and "short-text" in out
    record = json.loads(next((tmp_path / "r").rglob("L5-short-text*")).read_text().splitlines()[0])
    assert record["source"] == "theirs 2.5"
    assert "theirs 2.5" in run_cli("list")[1]


def test_the_list_says_what_a_lora_is_on(run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what ships by its own settings, of what was trained since by its card; a damaged one costs no list."""
    modules = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    shipped = Path(checkpoints.__file__).parents[2] / "pruners" / "checkpoints" / "stop" / "3bfac10f82c4"
    for name, about in (("mixture", {"lora": {"on": ["q_proj"], "not_on": ["experts.up"]}}), ("odd", {"pruner": 3})):
        folder = tmp_path / "stop" / name
        folder.mkdir(parents=True)
        card = json.loads((shipped / "checkpoint.json").read_text()) | about
        (folder / "checkpoint.json").write_text(json.dumps(card))
        shutil.copy(shipped / "adapter_config.json", folder)
    monkeypatch.setattr(checkpoints, "LOCAL", tmp_path)
    code, out = run_cli("list")
    assert code == 0 and f"stop for hands (3bfac10f): the LoRA is on {modules}\n" in out
    assert "the LoRA is on q_proj, not on experts.up\n" in out and "odd/checkpoint.json is damaged" in out


def test_every_option_has_a_help_text_and_the_reference_has_its_default() -> None:
    from docs.website import commands
    from harness.cli import cli

    verbs = dict(commands.verbs(cli))
    silent = [
        f"{name} {option.opts[0]}"
        for name, verb in verbs.items()
        for option in verb.params
        if isinstance(option, click.Option) and not option.hidden and not option.help
    ]
    assert not silent and len(verbs) > 20
    for verb in verbs.values():
        assert len({p.name for p in verb.params}) == len(verb.params), verb.name
    assert "results/budgets.md; of records that are not the published ones" in commands._options(
        verbs["pathprune budgets"]
    )


def test_check_verb_runs_the_suite(run_cli: Run, tmp_path: Path) -> None:
    code, out = run_cli("check", "jaccard", "--task", "toy", "--engine", "toy")
    assert code == 0 and out.count("pass ") >= 4 and "a row for it: pathprune bench --pruner jaccard" in out
    passed = [line for line in out.splitlines() if line.startswith("pass ")]
    assert len(set(passed)) == len(passed), "each line says what it is that passed"
    file = tmp_path / "bad.py"
    file.write_text(MINE.replace("[-float(len(p.text)) for p in prefixes]", "list(range(len(prefixes)))"))
    code, out = run_cli("check", f"{file}@Mine", "--task", "toy", "--engine", "toy")
    assert code == 2 and "FAIL permuting the prefixes permutes the scores" in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--pruner", "stpo"), "unknown pruner 'stpo'; did you mean stop?"),
        (("--pruner", "jaccard:keep"), "'keep' is not option=value"),
        (("--pruner", "jaccard:kep=central"), "did you mean keep?"),
        (("--pruner", "jaccard:keep=best"), "keep is diverse or central"),
        (("--pruner", "./nothing.py@Mine"), "no pruner file at ./nothing.py"),
        (("--pruner", "stop"), "no checkpoint of stop for this model"),
        (("--pruner", "stop:checkpoint=nowhere"), "no checkpoint at nowhere"),
        (("--task", "hnads"), "unknown task 'hnads'; did you mean hands?"),
        (("--engine", "vlm"), "unknown engine 'vlm'"),
        (("--engine", "toy:skil=1"), "engine toy does not take skil=1; did you mean skill?"),
        (("--engine", "hf", "--model", "hand"), "did you mean hands?"),
        (("--engine", "hf", "--model", "./nowhere"), "no model folder at ./nowhere"),
        (("--engine", "hf", "--model", "nobody/nothing", "--pruner", "logprob"), "cannot load model nobody/nothing"),
        (("--sampling", "temprature=1"), "did you mean temperature?"),
        (("--sampling", "top_p=0"), "top_p in (0, 1]"),
        (("--engine", "hf:dtype=float99", "--model", "hands"), "dtype must be float32, float16 or bfloat16"),
        (("--engine", "hf:foo=1", "--model", "hands"), "engine hf does not take foo=1"),
        (("--prefix", "0"), "0 is too small: give 1 or more"),
        (("--problems", "0"), "1 or more"),
        (("--pruner", ""), "the value is empty"),
        (("--keep", "9"), "keep must be from 1 to n = 8, not 9"),
        (("--prefix", "48"), "prefix must be from 1 to 47, below the token limit of 48, not 48"),
        (("--n", "x"), "'x' is not a valid integer"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], says: str, run_cli: Run, folders: tuple[str, ...]) -> None:
    code, out = run_cli("bench", *instead(TOY, *arguments), *folders)
    assert code == 2, out
    assert says in out.replace("\n", " ") and "Traceback" not in out


def test_a_damaged_bank_file_is_named(run_cli: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    run_cli("bench", *TOY, *folders, "--pruner", "logprob")
    file = sorted((tmp_path / "b").rglob("*.parquet"))[0]
    file.write_bytes(b"PAR1 nonsense")
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "entropy")
    assert code == 2 and file.name in out and "move it away and run the same command" in out
    file.unlink()
    assert run_cli("bench", *TOY, *folders, "--pruner", "entropy")[0] == 0


def test_a_damaged_result_file_is_named(run_cli: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    run_cli("bench", *TOY, *folders, "--pruner", "logprob")
    file = next((tmp_path / "r").rglob("pool.jsonl"))
    file.write_text(file.read_text().replace('"answers"', "answers", 1))
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "entropy")
    assert code == 2 and "pool.jsonl is damaged at line 2" in out


@pytest.mark.parametrize("error", [(28, "No space left on device"), (13, "Permission denied")])
def test_a_refused_write_is_one_line_and_loses_nothing(
    error: tuple[int, str], run_cli: Run, folders: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_cli("bench", *TOY, *folders, "--pruner", "logprob")
    before = {f: f.read_bytes() for f in (tmp_path / "r").rglob("*.jsonl")}

    def full(descriptor: int) -> None:
        raise OSError(*error)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        code, out = run_cli("bench", *TOY, *folders, "--pruner", "entropy")
    assert code == 2 and error[1] in out and "finished work is kept" in out
    assert {f: f.read_bytes() for f in before} == before
    assert run_cli("bench", *TOY, *folders, "--pruner", "entropy")[0] == 0


def test_a_read_only_results_folder(run_cli: Run, tmp_path: Path) -> None:
    (tmp_path / "r").write_text("a file where a folder should be")
    code, out = run_cli(
        "bench", *TOY, "--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b"), "--pruner", "first"
    )
    assert code == 2 and "is a file, not a folder" in out


def shipped(name: str, engine: Any) -> Path:
    return checkpoints.folder(Path("pruners").resolve() / "checkpoints", registry.pruner(name), engine.fingerprint)


@pytest.mark.parametrize("damage", ["card", "weights", "head", "other model"])
def test_damaged_or_foreign_adapters_are_refused(
    damage: str, run_cli: Run, folders: tuple[str, ...], tmp_path: Path, hands_engine: Any
) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(shipped("stop", hands_engine), folder)
    if damage == "card":
        (folder / "checkpoint.json").write_text("{")
    elif damage == "other model":
        card = json.loads((folder / "checkpoint.json").read_text())
        card["base"] = {"model": "another", "fingerprint": "0" * 64}
        (folder / "checkpoint.json").write_text(json.dumps(card))
    else:
        (folder / {"weights": "stop_embeddings.safetensors", "head": "head.safetensors"}[damage]).write_bytes(
            b"\0" * 64
        )
    code, out = run_cli(
        "bench", *folders, "--n", "4", "--keep", "2", "--problems", "2", "--pruner", f"stop:checkpoint={folder}"
    )
    assert "Traceback" not in out and "train" in out
    assert code == 2


def test_records_of_other_paths_are_refused(run_cli: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    """A score must never meet the correctness of a path that it was not given for."""
    run_cli("bench", *TOY, *folders, "--pruner", "logprob")
    file = next((tmp_path / "r").rglob("pool.jsonl"))
    header, *rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[2]["paths"] = "0123456789ab"  # another pool's
    file.write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)))
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "entropy")
    assert code == 2 and "use another results folder" in out.replace("\n", " ")


def test_a_leaderboard_never_overwrites_another_file(run_cli: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    run_cli("bench", *TOY, *folders, "--pruner", "logprob")
    notes = tmp_path / "notes.md"
    notes.write_text("mine")
    code, out = run_cli("leaderboard", "--results", str(tmp_path / "r"), "--keep", "2", "--out", str(notes))
    assert code == 2 and "was not changed" in out and notes.read_text() == "mine"


def test_a_table_is_about_the_problems_that_were_asked_for(run_cli: Run, folders: tuple[str, ...]) -> None:
    run_cli("bench", *TOY, *folders, "--pruner", "logprob")
    code, out = run_cli("bench", *instead(TOY, "--problems", "2"), *folders, "--pruner", "entropy")
    assert code == 0 and "of 2 problems are mixed" in out
    assert "2 of 4" in run_cli("bench", *TOY, *folders, "--pruner", "first")[1]


def test_interrupt_says_how_to_go_on(run_cli: Run, folders: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.session.bench_banked", interrupted)
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "first")
    assert code == 130 and "the same command continues" in out


def test_leaderboard_plot_and_record(run_cli: Run, folders: tuple[str, ...], tmp_path: Path) -> None:
    run_cli("bench", *TOY, *folders, "--pruner", "logprob,first")
    results = ("--results", str(tmp_path / "r"))
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- leaderboard:begin -->\nformer text\n<!-- leaderboard:end -->\nafter\n")
    assert run_cli("leaderboard", *results, "--keep", "2", "--out", str(readme))[0] == 0
    text = readme.read_text()
    assert (
        text.startswith("before\n") and text.endswith("after\n") and "| logprob |" in text and "former text" not in text
    )
    assert run_cli("leaderboard", *results, "--keep", "2", "--out", str(readme))[0] == 0 and readme.read_text() == text
    assert run_cli("plot", *results, "--out", str(tmp_path / "f"))[0] == 0
    assert {f.suffix for f in (tmp_path / "f").iterdir()} == {".png", ".pdf", ".csv"}
    code, out = run_cli("record", str(next((tmp_path / "r").rglob("L5-logprob*"))))
    assert code == 0 and '"pruner": "logprob"' in out and '"commit"' in out
    code, out = run_cli("leaderboard", "--results", str(tmp_path / "nothing"))
    assert code == 2 and "no results folder" in out
    code, out = run_cli("leaderboard", *results, "--keep", "2", "--only", "nothing*", "--out", str(readme))
    assert code == 2 and "nothing*" in out and readme.read_text() == text


def test_training_never_samples_labels_unasked(run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out = run_cli("train", "linear-probe", "--problems", "100")
    assert code == 2 and "labels of 100 of 100 problems are missing in results/labels/hands-" in out.replace("\n", " ")
    assert all(way in out for way in ("--labels DIR", "--labels hf://", "--make-labels", "pathprune label"))
    assert not list(tmp_path.iterdir())  # and nothing is written


def test_verbs_that_read_take_the_records_of_bench_where_none_are_published(
    run_cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out = run_cli("leaderboard", "--keep", "2")
    assert code == 2 and "no results folder at results/published; run: pathprune bench" in out
    run_cli("bench", *TOY, "--pruner", "logprob")
    code, out = run_cli("leaderboard", "--keep", "2")
    assert code == 0 and "| logprob |" in (tmp_path / "results" / "leaderboard.md").read_text()
    assert run_cli("plot")[0] == 0 and list((tmp_path / "results" / "figures").glob("*.png"))
    (tmp_path / "results" / "published").mkdir()
    assert "no records under results/published" in run_cli("leaderboard", "--keep", "2")[1]


def test_a_vote_is_shown_and_refused_where_it_cannot_be_taken(run_cli: Run, folders: tuple[str, ...]) -> None:
    """Every method's own vote by default; borda for all; weighted not for scores below zero, in a table or live."""
    shown = {}
    for vote in ("", "borda", "weighted"):
        given = ("--vote", vote) if vote else ()
        code, shown[vote] = run_cli("bench", *TOY, *folders, "--pruner", "deepconf,logprob,self-certainty", *given)
        assert code == 0
    lines = {
        v: {
            n: next(x for x in s.splitlines() if x.startswith(f"{n} "))
            for n in ("deepconf", "logprob", "self-certainty")
        }
        for v, s in shown.items()
    }
    assert "weighted" in lines[""]["deepconf"] and "borda" in lines[""]["self-certainty"]
    assert all("borda" in line for line in lines["borda"].values())
    assert "weighted" in lines["weighted"]["deepconf"] and "weighted" not in lines["weighted"]["logprob"]
    code, out = run_cli("bench", *TOY, *folders, "--pruner", "logprob,first", "--live", "--vote", "weighted")
    assert code == 1 and "use borda" in out and "Traceback" not in out


def test_importing_the_packages_loads_neither_torch_nor_transformers() -> None:
    import subprocess

    probe = "import sys, harness.cli, harness.runners.bench, pruners, tasks, pruners.internal_learned.stop; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", probe], check=False).returncode == 0
