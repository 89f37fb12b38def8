"""Whatever a user gets wrong is one line that names it, exit code 2, no traceback, and nothing is written."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from harness import cli, registry
from harness.cli.values import Amount, OneOf, Place, Text, Whole
from harness.runners.bench import bench
from harness.store import files
from harness.store.records import pools

Cli = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[1]
TOY = ("--task", "toy", "--engine", "toy")
# What a verb needs besides, so that the value on trial is the only thing wrong.
NEEDED = {
    "train": ["linear-probe"], "ablation": ["rank"], "check": ["first"], "convert": ["in.gguf", "out"], "adopt": ["in", "--out", "out"],
    "push": ["stop", "me/mine"], "export": ["stop", "--out", "out"], "record": ["pool.jsonl"], "show": ["0"],
    "recommend": ["--budget", "0.25"],
    "law recommend": ["--budget", "4096", "--prefix", "22", "--length", "130"],
}  # fmt: skip


def verbs(group: Any = None, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every verb with the words that call it."""
    for name, command in (group or cli.cli).commands.items():
        if isinstance(command, click.Group):
            yield from verbs(command, (*path, name))
        else:
            yield (*path, name), command


VERBS = dict(verbs())
OPTIONS = [
    (verb, param) for verb, command in VERBS.items() for param in command.params if not getattr(param, "is_flag", False)
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Records of the toy task, a law, and files and folders that are none."""
    from harness.api import Sampling
    from harness.runners.run import Run
    from harness.spec import RunSpec
    from tasks.toy import Toy

    root = tmp_path_factory.mktemp("world")
    task, engine = Toy(), registry.engine("toy", "toy", Sampling())
    run = Run(RunSpec.of(task, engine, 8, 48, [(5, 2)]), task, engine, 4, root / "r", root / "b")
    bench(run, [registry.pruner(name) for name in ("logprob", "deepconf-offline")], lambda *_: None)
    shutil.copy(ROOT / "results" / "law.json", root / "law.json")
    (root / "broken.json").write_text('{"format": "pathprune-law/1"}')
    (root / "newer.json").write_text('{"format": "pathprune-law/2"}')
    (root / "file").write_text("mine")
    (root / "notes.md").write_bytes(b"\xff\xfe mine")
    (root / "folder.md").mkdir()
    (root / "empty").mkdir()
    (root / "p.jsonl").write_text('{"problem": "2 + 2?", "answer": "4"}\n')
    return root


@pytest.fixture
def given(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the console script in the world's folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(world)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["pathprune", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


def contents(root: Path) -> dict[Path, tuple[int, int]]:
    return {f: (f.stat().st_mtime_ns, f.stat().st_size) for f in root.rglob("*")}


def refused(given: Cli, root: Path, arguments: list[str], says: str) -> None:
    before = contents(root)
    code, out, err = given(*arguments)
    assert code == 2, (code, out, err)
    assert err.count("\n") == 1 and err.startswith("error: "), err
    assert says.lower() in err.lower() and "Traceback" not in out + err, err
    assert contents(root) == before, "something was written"


WRONG: dict[type, list[str]] = {
    Whole: ["", "x", "1.5", "nan", "inf", "1e3", "-7", str(10**30), "٣", "1_000", "0x10"],
    Amount: ["", "x", "nan", "inf", "-inf", "-7", "1e999", "٣", "1_0"],
    Text: ["", " ", "a\nb", "\x1b[31m", "\u202e"],
    OneOf: ["", "nonsense", "a\nb"],
    Place: ["", "x" * 5000, "file/below"],
}


def named(param: click.Parameter) -> str:
    return (
        param.opts[0] if isinstance(param, click.Option) else str(param.make_metavar(click.Context(click.Command("x"))))
    )


TRIALS = [
    (verb, param, value)
    for verb, param in OPTIONS
    for kind in [next((k for k in (Whole, Amount, OneOf, Place, Text) if isinstance(param.type, k)), None)]
    if kind
    for value in WRONG[kind]
    if not (kind is Place and value == "file/below" and not param.type.writes)  # type: ignore[attr-defined]
]


def test_every_option_of_every_verb_has_a_type_that_checks_it() -> None:
    checked = (Whole, Amount, Text, OneOf, Place, click.Tuple)
    assert not [(verb, p.opts) for verb, p in OPTIONS if not isinstance(p.type, checked)]
    assert len(TRIALS) >= 200


@pytest.mark.parametrize(
    ("verb", "param", "value"), TRIALS, ids=[f"{' '.join(v)} {p.opts[0]} {x[:12]!r}" for v, p, x in TRIALS]
)
def test_a_value_that_is_none_is_refused(
    verb: tuple[str, ...], param: click.Parameter, value: str, given: Cli, world: Path
) -> None:
    needed = list(NEEDED.get(verb[-1], []))
    if isinstance(param, click.Argument):
        place = [p for p in VERBS[verb].params if isinstance(p, click.Argument)].index(param)
        needed = needed or [""]
        needed[place] = value
        arguments = [
            *verb,
            *(["--out", "out"] if "--out" in needed else []),
            "--",
            *(n for n in needed if n not in ("--out",)),
        ]
        if "--out" in needed:
            arguments = [*verb, "--out", "out", "--", *needed[: needed.index("--out")]]
    else:
        option = param.opts[0]
        if option in needed:
            at = needed.index(option)
            del needed[at : at + 2]
        arguments = [*verb, *needed, f"{option}={value}" if option.startswith("--") else value]
    refused(given, world, arguments, "invalid value for")


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_options_are_given_once_and_mistyped_ones_are_guessed(verb: tuple[str, ...], given: Cli, world: Path) -> None:
    options = [p for p in VERBS[verb].params if isinstance(p, click.Option) and not p.is_flag and not p.multiple]
    needed = NEEDED.get(verb[-1], [])
    for option in options:
        given_already = option.opts[0] in needed
        values = ["1"] * option.nargs
        again = [option.opts[0], *values] * (1 if given_already else 2)
        refused(given, world, [*verb, *needed, *again], f"{option.opts[0]} is given twice")
        mistyped = option.opts[0] + "z"
        refused(given, world, [*verb, *needed, mistyped, "1"], option.opts[0])


READ = ("--results", "r", "--keep", "2")
CASES: list[tuple[str, str]] = [
    # verbs
    ("bnch", "did you mean bench?"), ("law fitt", "did you mean fit?"), ("--nonsense", "no such option"), ("bench extra", "unexpected extra argument"),
    # names
    (f"bench {' '.join(TOY)} --pruner stpo", "did you mean stop?"),
    (f"bench {' '.join(TOY)} --pruner ,", "no pruner given"),
    (f"bench {' '.join(TOY)} --pruner jaccard:keep", "is not option=value"),
    (f"bench {' '.join(TOY)} --pruner jaccard:kep=central", "did you mean keep?"),
    (f"bench {' '.join(TOY)} --pruner jaccard:keep=central,keep=diverse", "given twice"),
    (f"bench {' '.join(TOY)} --pruner deepconf:window=nan", "finite"),
    (f"bench {' '.join(TOY)} --pruner deepconf:window=1e999", "finite"),
    (f"bench {' '.join(TOY)} --pruner deepconf:window={10**30}", "finite"),
    (f"bench {' '.join(TOY)} --pruner logprob:checkpoint=x", "logprob has no options; leave out checkpoint"),
    (f"bench {' '.join(TOY)} --pruner deepconf:checkpoint=x", "unknown option of deepconf 'checkpoint'; known: window"),
    (f"bench {' '.join(TOY)} --pruner reward-model:model=y,checkpoint=x", "leave out one of them"),
    (f"bench {' '.join(TOY)} --pruner consensus:max_tokens={10**9}", "max_tokens=1000000000 would take too long to compute; give 1,048,576 or less"),
    (f"bench {' '.join(TOY)} --pruner thinkprm:model=y,n={10**9}", "would take too long to compute"),
    (f"train stop:rank={10**9} {' '.join(TOY)}", "would take too long to compute"),
    (f"bench --engine toy --pruner first --task reasoning_gym:chain_sum,max_terms={10**9}", "take too long to generate; give 10,000 or less"),
    (f"bench --engine toy --pruner first --task reasoning_gym:n_queens,n=-{10**9}", "take too long to generate"),
    (f"bench {' '.join(TOY)} --pruner ./nothing.py@Mine", "no pruner file"),
    (f"bench {' '.join(TOY)} --pruner ./nothing.py", "name its class"),
    ("bench --task toi --engine toy", "did you mean toy?"), ("bench --task nothing.jsonl --engine toy", "no file of problems"),
    ("bench --task toy --engine toi", "did you mean toy?"), ("bench --task toy --engine toy:skil=1", "skill"),
    ("bench --task toy --engine toy:skill=nan", "finite"), ("bench --task toy --engine hf --model hand", "did you mean hands?"),
    ("bench --task toy --engine hf --model ./nowhere", "no model folder"),
    *((f"bench {' '.join(TOY)} --pruner first --sampling {s}", says) for s, says in (
        ("temprature=1", "did you mean temperature?"), ("temperature=nan", "finite"), ("temperature=inf", "finite"),
        ("temperature=-1", "temperature must be from 0"), ("top_p=0", "top_p in"), ("top_p=2", "top_p in"), ("top_k=1.5", "top_k an integer"),
        ("top_k=-1", "top_k an integer"), ("temperature=hot", "temperature"), ("temperature=true", "temperature"), ("temperature", "option=value"),
        ("temperature=1,temperature=2", "given twice"), ("temperature=٣", "temperature"), ("=1", "option=value"),
    )),
    (f"bench {' '.join(TOY)} --vote brda", "did you mean borda?"), (f"bench {' '.join(TOY)} --ended countt", "did you mean count?"),
    # lengths, and what contradicts itself
    *((f"bench {' '.join(TOY)} --pruner first --n 8 {more}", says) for more, says in (
        ("--keep 9", "keep must be from 1"), ("--prefix 48", "below the token limit of 48, not 48"), ("--max-tokens 5", "below the token limit of 5, not 5"),
        ("--stages 16", "PREFIX:KEEP"), ("--stages 16:٣", "PREFIX:KEEP"), ("--stages ,", "at least one stage"), ("--stages 16:x", "PREFIX:KEEP"),
        ("--stages 16:4,8:2", "ascending"), ("--stages 8:4,16:5", "keeps"), (f"--stages {10**30}:4", "PREFIX:KEEP"),
        ("--stages 8:4 --keep 2", "leave out --keep"), ("--stages 8:4 --prefix 2", "leave out prefix"),
        ("--live --workers 2", "leave out --workers"),
        ("--workers 0", "give a number"), ("--workers ²", "give a number"), ("--workers ,", "give a number"), ("--workers many", "give a number"), ("--workers ray://", "give a number"),
        ("--keep 2 --results file", "file is a file"), ("--keep 2 --bank file", "file is a file"), ("--keep 2 --results file/r", "inside"),
    )),
    *((f"label {' '.join(TOY)} {more}", says) for more, says in (
        ("--prefixes 5,x", "must be a list of integers"), ("--prefixes 5,", "must be a list of integers"), ("--prefixes 5,5", "twice"), ("--prefixes 5 --prefix 6", "leave out"),
        ("--prefixes ٣", "must be a list of integers"), ("--prefixes 48", "prefix lengths must be from 1"), ("--bounds 0.9 0.1", "ascending order"), ("--bounds nan 1", "number"),
        ("--bounds 0 2", "from 0 to 1"), ("--harvest 0 --continuations 4", "continuations is 1"), ("--labels file", "is a file"),
    )),
    (f"train {' '.join(TOY)} linear-prob", "did you mean linear-probe?"), (f"train first {' '.join(TOY)}", "has no trainable parameters"),
    ("ablation rnk", "did you mean rank?"), (f"ablation transfer {' '.join(TOY)}", "--source"), (f"ablation rank --source toy {' '.join(TOY)}", "--source"),
    (f"check {' '.join(TOY)} frst", "did you mean first?"),
    # what is read
    ("leaderboard --results nowhere", "no results folder"), ("leaderboard --results file", "file is a file"), ("leaderboard --results empty", "no records"),
    (f"leaderboard {' '.join(READ)} --only nothing", "no records"), (f"leaderboard {' '.join(READ)} --only tsk=toy", "did you mean task?"),
    (f"leaderboard {' '.join(READ)} --only task=", "term=value"), (f"leaderboard {' '.join(READ)} --only task=toy,task=hands", "twice"),
    ("leaderboard --results r --keep 9", "fewer than --keep 9"),
    *((f"leaderboard {' '.join(READ)} --out {out}", says) for out, says in (
        ("x.pdf", "must end in"), ("x", "must end in"), ("folder.md", "is a folder"), ("file/x.md", "inside"),
        ("notes.md", "not utf-8 text"), ("x.md --out x.md", "twice"),
    )),
    (f"leaderboard {' '.join(READ)} --part a-->", "marker name"), (f"leaderboard {' '.join(READ)} --vote brda", "did you mean borda?"),
    ("budgets --results r --cost token", "did you mean tokens?"), ("budgets --results r --metric vote", "did you mean voted?"),
    ("budgets --results r --out x.csv", "must end in"),
    ("plot --results r --kind scalin", "did you mean scaling?"), ("plot --results r --kind scaling,", "kind of figure"),
    ("plot --results r --venue nerips", "did you mean neurips?"), ("plot --results r --out file", "is a file"),
    ("findings --results r --only *", "no record of stop"), ("findings --results nowhere", "no results folder"),
    ("pack nowhere", "no results folder"), ("pack file", "is a file"), ("pack empty", "no records"),
    ("record nowhere.jsonl", "nowhere.jsonl"), ("record nowhere.parquet", "nowhere.parquet"), ("record r", "is a folder"),
    ("record file", "is not a"), ("show pool.jsonl", "pathprune record"), ("show 0 --results r --pruner x", "unknown pruner of this table"),
    ("show nobody --results r", "a number from 0 to"),
    ("law fit --results r", "unknown pruner with records under r"), ("law fit --results nowhere", "no results folder"), ("law fit --out x.csv", "must end in"),
    ("law show --law nowhere.json", "no law at"), ("law show --law file", "is damaged"), ("law show --law broken.json", "its pruner"),
    ("law show --law newer.json", "upgrade"), ("law show --law law.json --out x.json", "must end in"),
    *((f"law recommend --law law.json --budget {b} --prefix {p} --length {n}", says) for b, p, n, says in (
        ("nan", 22, 130, "valid number"), ("4096", 22, "inf", "valid number"), ("4096", 22, 22, "larger than"), ("4096", 0, 130, "1 or more"),
        ("0", 22, 130, "must be from"), ("1e300", 22, 130, "must be from"), ("4096", 22, "1e300", "must be from"),
    )),
    ("bench --task toy:x=1 --engine toy", "toy has no options"), ("bench --task lm_eval: --engine toy", "such as lm_eval:gsm8k"),
    ("bench --task reasoning_gym --engine toy", "such as reasoning_gym:chain_sum"), ("bench --task lm_eval:shots=1 --engine toy", "needs a name"),
    ("bench --task p.jsonl --engine toy --pruner first", "give another model"),
    (f"check {' '.join(TOY)} linear-probe:checkpoint=/nonexistent", "no checkpoint at"),
    (f"export , {' '.join(TOY)} --out x", "no pruner given"),
    ("leaderboard --results r\udcff", "not UTF-8 text"), (f"bench {' '.join(TOY)} --bank b\udcff", "not UTF-8 text"),
    ("attention --n 1", "too small"), ("attention --task toy --engine toy", "engine hf"),
    ("convert nowhere.gguf out", "nowhere.gguf"), ("convert in.gguf file", "is a file"), ("convert in.gguf out --dtype float99", "did you mean"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "says"), CASES, ids=[ascii(line)[1:-1] for line, _ in CASES])
def test_a_mistake_is_one_line_that_names_it(line: str, says: str, given: Cli, world: Path) -> None:
    refused(given, world, line.split(), says)


@pytest.mark.parametrize(
    ("number", "says"),
    [
        *((n, "; free space, or choose") for n in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)),
        *((n, "; get the permission") for n in (errno.EACCES, errno.EPERM, errno.EROFS)),
        *((n, "; choose another folder") for n in (errno.ELOOP, errno.ENOTDIR, errno.EIO)),
    ],
)
def test_a_write_that_the_system_refuses_says_what_mends_it(number: int, says: str) -> None:
    assert says in str(files.refused(Path("x"), OSError(number, os.strerror(number))))


def said(file: Path) -> Iterator[str]:
    """The texts in a module that are no docstrings."""
    tree = ast.parse(file.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_nobody_is_told_to_delete_anything() -> None:
    files = [f for room in ("harness", "tasks", "pruners", "pathprune") for f in (ROOT / room).rglob("*.py")]
    told = [
        (f.name, text)
        for f in files
        for text in said(f)
        if re.search(r"\b(delete|erase|rm -|remove (it|the|that|this)\b)", text)
    ]
    assert len(files) > 100 and not told


def test_names_hold_no_markup(given: Cli, world: Path) -> None:
    """A console reads ``[/x]`` as the end of a style that never began."""
    code, out, err = given("leaderboard", *READ, "--out", "[/x].md")
    assert code == 0 and "wrote [/x].md" in out and not err
    (world / "[/x].md").unlink()


def test_a_law_that_lost_a_part_is_damaged(given: Cli, world: Path) -> None:
    whole = json.loads((world / "law.json").read_text())
    for part in ("pruner", "n", "law", "paper", "intervals", "constant", "held_out", "cells"):
        for value in (None, "x", [], {}, float("nan"), -1, [{}]):
            if value == {} and part == "intervals":
                continue
            (world / "broken.json").write_text(json.dumps({**whole, part: value}))
            if part == "pruner" and value == "x":
                continue
            refused(given, world, ["law", "show", "--law", "broken.json"], f"its {part} is not what a fit writes")
    assert pools(world / "r")
