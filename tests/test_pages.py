"""Every fenced command and every Python block of the pages, README and CONTRIBUTING: what a reader types is there and runs."""

from __future__ import annotations

import functools
import json
import re
import shlex
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import pathprune as pp

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"])
FENCE = re.compile(r"^([ ]*)```(\w+)([^\n]*)\n(.*?)^\1```", re.M | re.S)
COMMENT = re.compile(r"\s+#\s.*$")
OTHERS = ("pip", "pathprune-lm-eval", ".venv/bin/accelerate", "git")
STANDS_FOR_A_NAME = {"yours", "NAME"}
REGISTERED_OPTIONS = ("pruners", "scorers", "rules", "spec", "pruner")


class Block(NamedTuple):
    """A fenced block of a page: its language, what stands behind it, and its text."""

    page: str
    language: str
    kind: str
    text: str


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        for indent, language, kind, text in FENCE.findall(page.read_text()):
            found.append(Block(str(page.relative_to(ROOT)), language, kind.strip(), textwrap.dedent(indent + text)))
    return [b for b in found if b.language in languages]


def commands() -> list[tuple[str, str]]:
    """(page, command) of every line of every shell block; a line that ends in a backslash goes on."""
    found = []
    for block in blocks("sh", "bash", "shell", "console"):
        for line in block.text.replace("\\\n", " ").splitlines():
            command = COMMENT.sub("", line).strip()
            if command and not command.startswith("#"):
                found += [(block.page, part.strip()) for part in command.split("&&")]
    return sorted(set(found))


@functools.cache
def expanded(line: str) -> list[str]:
    """The ``pathprune`` commands that a call of ``make`` would run; its targets and variables have to be the Makefile's."""
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^([a-z][\w-]*(?: [a-z][\w-]*)*):(?!=)", makefile, re.M)
    for word in shlex.split(line)[1:]:
        name, assigns, _ = word.partition("=")
        if assigns:
            assert f"$({name})" in makefile or f"$(or $({name})," in makefile or f",$({name})" in makefile, word
        else:
            assert any(name in t.split() for t in targets), f"make has no target {name}"
    done = subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ran = done.stdout.replace("\\\n", " ").splitlines()
    return [f"pathprune {text.partition('bin/pathprune ')[2]}" for text in ran if "bin/pathprune " in text]


def pruners_of(given: str) -> Iterator[str]:
    """Names of the pruners in a list of specs."""
    from harness.registry import split_specs

    for spec in split_specs(given):
        for part in spec.split("+"):
            name = part.partition(":")[0]
            if "@" not in name and name not in STANDS_FOR_A_NAME:
                yield name


def parsed(line: str) -> None:
    """Verb, options and their values, as click reads them; pruners have to be registered. Nothing is run."""
    import click

    from harness import registry
    from harness.cli import cli

    words, command, name = shlex.split(line)[1:], cli, "pathprune"
    context = click.Context(cli, info_name=name)
    while isinstance(command, click.Group):
        assert words, f"{line}: no verb"
        assert words[0] in command.commands, f"{line}: no verb {words[0]}"
        name, command = words[0], command.commands[words[0]]
        words = words[1:]
        if not isinstance(command, click.Group):
            context = without_callbacks(command).make_context(name, list(words), parent=context)
    for option in REGISTERED_OPTIONS:
        for pruner in pruners_of(str(context.params.get(option) or "")):
            assert pruner == "all-registered" or pruner in registry.names("pruners"), f"{line}: no pruner {pruner}"


def without_callbacks(command: Any) -> Any:
    """The command, whose parameters are read and checked and open nothing."""
    import copy

    bare = copy.copy(command)
    bare.params = [copy.copy(parameter) for parameter in command.params]
    for parameter in bare.params:
        parameter.callback = None
    return bare


@pytest.mark.parametrize(("page", "line"), commands(), ids=lambda value: value[:60])
def test_a_command_of_a_page_is_one(page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = line.removeprefix(".venv/bin/") if line.startswith(".venv/bin/pathprune") else line
    first = shlex.split(line)[0]
    if first in OTHERS:
        if "harness.cli" in line:
            parsed(f"pathprune {line.partition('harness.cli ')[2]}")
        return
    assert first in ("make", "pathprune"), f"{page}: {line}"
    lines = expanded(line) if first == "make" else [line]
    monkeypatch.chdir(tmp_path)
    for command in lines:
        parsed(command)


def test_every_command_that_publishes_results_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from results.publish import STEPS

    monkeypatch.chdir(tmp_path)
    for step in STEPS.values():
        for command in step.commands:
            if command.startswith("pathprune "):
                parsed(command)


def test_makes_targets_are_few_and_documented() -> None:
    told = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    names = [line.split()[0] for line in told]
    assert len(names) <= 25 and {"bench", "test", "docs", "publish", "perf"} <= set(names)
    assert all(len(line.split()) > 2 for line in told)
    plain = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert plain == told, "make alone has to print its targets and do nothing"


# -- Python ------------------------------------------------------------------------------------------------------------


def small(function: Any) -> Any:
    """A front function on a few paths of a few problems, silent; a schedule of cuts and a pool keep their number of paths."""

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        if isinstance(arguments[0], pp.Pool):
            options |= {"keep": 1}
        elif "stages" not in options:
            options |= {"n": 8, "keep": 2}
        return function(*arguments, **options | {"problems": 2, "progress": False})

    return called


def texts(page: str) -> list[str]:
    return [b.text for b in blocks("python") if b.page == page and not b.kind]


def python_pages() -> list[Any]:
    """Pages with Python that runs; what benches the embedded model takes seconds."""
    found = []
    for page in sorted({b.page for b in blocks("python") if not b.kind}):
        benches = any(word in text for text in texts(page) for word in ('pp.bench("', "pp.frontier"))
        found.append(pytest.param(page, marks=pytest.mark.long if benches else ()))
    return found


@pytest.mark.parametrize("page", python_pages())
def test_the_python_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks of a page, in order and in one scope, on two problems; a block that names its file is saved there, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pp, "bench", small(pp.bench))
    monkeypatch.setattr(pp, "live", small(pp.live))
    (tmp_path / "samples.jsonl").write_text((ROOT / "tests/fixtures/imports/vllm.jsonl").read_text())
    if "results/published" in "".join(texts(page)):
        pp.bench("stop,asc", results="results/published")
    scope: dict[str, Any] = {"pp": pp, "Mine": Shortest, "__name__": "page"}
    for text in texts(page):
        if named := re.match(r"# (\w+\.py)\n", text):
            (tmp_path / named[1]).write_text(text)
        exec(compile(text, page, "exec"), scope)


class Shortest(pp.Pruner):
    """The pruner that a page calls hers."""

    quadrant, needs = "external-fixed", frozenset({"text"})

    def score(self, prefixes: Any, check: Any) -> list[float]:
        return [-float(len(p.text)) for p in prefixes]


@pytest.mark.parametrize("block", [b for b in blocks("python") if b.kind], ids=lambda b: f"{b.page}-{b.kind}")
def test_python_that_needs_more_than_is_here_is_python(block: Block) -> None:
    compile(block.text, block.page, "exec")


@pytest.mark.parametrize("name", ["mine.py@Mine", "mine.py@TwoAhead"])
def test_the_pruners_of_the_pages_pass_the_conformance_suite(
    name: str, tmp_path: Path, monkeypatch: Any, run_cli: Any
) -> None:
    page = {"Mine": "docs/howto/pruner.md", "TwoAhead": "docs/policies.md"}[name.partition("@")[2]]
    (source,) = [t for t in texts(page) if t.startswith("# mine.py")]
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(source)
    code, said = run_cli("check", f"./{name}", "--task", "toy", "--engine", "toy")
    assert code == 0 and "FAIL" not in said, said


def test_the_task_of_the_page_passes_the_conformance_suite() -> None:
    from harness.testing import task_conformance

    scope: dict[str, Any] = {}
    for text in texts("docs/howto/task.md"):
        exec(compile(text, "sums.py", "exec"), scope)
    wrong = [(name, problem) for name, problem in task_conformance(scope["Sums"]()) if problem]
    assert not wrong


def test_a_release_has_one_version() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"## [{version}]" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text()


def test_every_extra_is_documented() -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    page = (ROOT / "docs/start/install.md").read_text()
    assert all(f"| `{extra}` |" in page for extra in extras)


# -- the site ----------------------------------------------------------------------------------------------------------


def test_every_registered_pruner_has_a_page_with_its_formula_and_its_rows() -> None:
    from docs.website import methods

    found = methods.methods()
    known = {m.name for m in found}
    assert {"stop", "asc", "deepconf-online", "qwen-prm"} <= known
    for method in found:
        text = methods.page(method, known)
        assert text.startswith(f"# {method.name}\n") and "## Results so far" in text and method.traits.fidelity in text
        assert "``" not in re.sub(r"```.*?```|``[^`]+``", "", text, flags=re.S), method.name
        assert set(re.findall(r"\]\(([\w-]+)\.md\)", text)) <= known
    rows = methods.page(next(m for m in found if m.name == "stop"), known)
    assert re.search(r"\| stop \| 22 \| 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\] \| \+0\.\d{3}", rows)


def test_every_verb_and_option_is_in_the_reference() -> None:
    from docs.website import commands as reference
    from harness.cli import cli

    text = reference.page()
    for name, command in reference.verbs(cli):
        assert f"## {name}\n" in text
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert all(p.opts[0] in section for p in command.params if p.param_type_name == "option" and p.opts)


def test_a_number_that_is_not_published_stops_the_build() -> None:
    from docs.website import values

    with pytest.raises(LookupError, match="no published row of no-such"):
        values.rows(["no-such"], ["gain"])
    with pytest.raises(LookupError, match="has no section"):
        values.part("findings.md", only="no such heading")
    assert re.fullmatch(r"[+-]0\.\d{3} \[-?0\.\d{3}, -?0\.\d{3}\]", values.row("stop", "gain"))


@pytest.mark.parametrize(
    ("html", "loaded"),
    [
        ('<script src="https://cdn.example/x.js"></script>', ["https://cdn.example/x.js"]),
        ('<link rel="stylesheet" href="//fonts.example/a.css">', ["//fonts.example/a.css"]),
        (
            "<img alt='' src='http://example.org/a.png'><iframe src=../published/leaderboard.html>",
            ["http://example.org/a.png"],
        ),
        ('<a href="https://arxiv.org/abs/2604.16029">a paper</a><script>"https://"</script>', []),
    ],
)
def test_what_a_page_loads_from_elsewhere_is_found(html: str, loaded: list[str]) -> None:
    from docs.website.foreign import foreign

    assert foreign(html) == loaded


def test_no_page_types_a_result() -> None:
    """An interval or a signed gain on a page comes from ``results/`` by the build."""
    for page in (ROOT / "docs").rglob("*.md"):
        assert not re.search(r"\d\.\d{3} \[|[+-]0\.\d{3}\b", page.read_text()), page


@pytest.mark.long
def test_the_notebook_runs(tmp_path: Path) -> None:
    """As it stands, in an empty folder; nothing but results on its outputs."""
    nbformat = pytest.importorskip("nbformat")
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs/tour.ipynb", 4)
    before = [{k for o in c.get("outputs", []) for k in o.get("data", {})} for c in notebook.cells]
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    after = [{k for o in c.get("outputs", []) for k in o.get("data", {})} for c in notebook.cells]
    assert after == before, "the stored notebook is of another run: execute it again and store it"
    assert any("image/png" in kinds for kinds in after)


def test_the_stored_notebook_holds_no_errors_and_no_folder_of_anybody() -> None:
    text = (ROOT / "docs/tour.ipynb").read_text()
    assert "Traceback" not in text and "site-packages" not in text and str(ROOT) not in text
    assert "/home/" not in text and "/root/" not in text and "/tmp/" not in text
    outputs = [o for cell in json.loads(text)["cells"] for o in cell.get("outputs", [])]
    assert outputs and not [o for o in outputs if o.get("name") == "stderr"], (
        "a warning names folders of whoever ran it"
    )
