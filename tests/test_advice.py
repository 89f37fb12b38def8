"""Messages name commands that the reader has: make's targets in the source checkout, the console script elsewhere."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import advice

ROOT = Path(advice.__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of the user's, whose Makefile is not ours."""
    (tmp_path / "Makefile").write_text("bench:\n\techo mine\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("checkout")
def test_in_a_checkout_the_advice_is_make() -> None:
    assert advice.command("bench", pruner="stop", prefix=22) == "make bench PRUNER=stop L=22"
    assert advice.command("train", pruner="stop:seed=1") == "make train PRUNER=stop:seed=1"
    assert advice.command("ablation", name="seeds") == "make ablation NAME=seeds"
    assert advice.command("label") == "make label"
    assert advice.option(engine="hf") == "ENGINE=hf"
    assert advice.target("smollm2") == "make smollm2"


@pytest.mark.usefixtures("elsewhere")
def test_anywhere_else_it_is_the_console_script() -> None:
    assert advice.command("bench", pruner="stop", max_tokens=9) == "pathprune bench --pruner stop --max-tokens 9"
    assert advice.command("train", pruner="stop:seed=1") == "pathprune train stop:seed=1"
    assert advice.command("ablation", name="seeds") == "pathprune ablation seeds"
    assert advice.command("label") == "pathprune label"
    assert advice.command("bench", pruner="./my file.py@Mine") == "pathprune bench --pruner './my file.py@Mine'"
    assert advice.option(engine="hf") == "--engine hf"
    assert advice.target("smollm2") == "make smollm2, in a source checkout of pathprune"


def test_a_message_follows_the_working_folder(
    run_cli: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    arguments = ("leaderboard", "--results", str(tmp_path / "nothing"))
    monkeypatch.chdir(ROOT)
    assert "run: make bench PRUNER=stop" in run_cli(*arguments)[1]
    monkeypatch.chdir(tmp_path)
    code, out = run_cli(*arguments)
    assert code == 2 and "run: pathprune bench --pruner stop" in out and "make " not in out


def sources() -> list[Path]:
    return sorted(f for package in ("harness", "pruners", "tasks") for f in (ROOT / package).rglob("*.py"))


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, text) of every string of a module but those that stand alone, its docstrings."""
    alone = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in alone:
            yield node.lineno, node.value


def test_no_message_spells_a_command_of_the_makefile_out() -> None:
    """Advice goes through ``harness.advice``; docstrings may name a target."""
    targets = "|".join(re.findall(r"^([a-z][\w-]*)(?: [\w-]+)*:(?!=)", MAKEFILE, re.MULTILINE))
    spelled = re.compile(rf"(?<!\w)make (?:{targets})\b|\b(?:PRUNER|ENGINE|MODEL|TASK|RESULTS|VOTE)=")
    for file in sources():
        for line, text in strings(ast.parse(file.read_text())):
            assert file == Path(advice.__file__) or not spelled.search(text), f"{file}:{line}: {text}"


def test_every_command_that_is_advised_is_there() -> None:
    """Each verb is one of the console script and of the Makefile; each target is one of the Makefile."""
    from harness.cli import cli

    for file in sources():
        text = file.read_text()
        for verb in re.findall(r"advice\.command\(\s*['\"]([\w-]+)['\"]", text):
            assert verb in cli.commands and re.search(rf"^{verb}:", MAKEFILE, re.MULTILINE), f"{file}: {verb}"
        for target in re.findall(r"advice\.target\(\s*['\"]([\w-]+)['\"]", text):
            assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", MAKEFILE, re.MULTILINE), f"{file}: {target}"
