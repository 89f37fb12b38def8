"""Dependencies point one way: no room imports, through whatever others, a room that imports it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOPS = ("harness", "tasks", "pruners", "pathprune")
LEAVES = {"harness.api", "harness.text", "harness.rng"}  # what a task may import of the harness
FORBIDDEN = {
    f"harness.{name}" for name in ("loop", "store", "report", "runners", "session", "cli", "where", "imports")
}  # for pruners


def modules(root: Path) -> dict[str, Path]:
    """Every module below the four packages, by name."""
    files = (file for top in TOPS for file in (root / top).rglob("*.py"))
    named = {".".join(file.relative_to(root).with_suffix("").parts): file for file in files}
    return {name.removesuffix(".__init__"): file for name, file in named.items()}


def imported(file: Path, known: Mapping[str, Path]) -> Iterator[str]:
    """The modules that a file imports, inside functions too, but for what only a type checker reads."""
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        waiting += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file} imports relatively"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in known else str(node.module) for name in inner)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and a.value in known)


def room(module: str) -> str:
    """A folder or file of the harness, of tasks or of the front; pruners are one room, and a script is one of its own."""
    parts = module.split(".")
    return module if parts[-1] == "__main__" else parts[0] if parts[0] == "pruners" else ".".join(parts[:2])


def rooms(root: Path = ROOT) -> dict[str, set[str]]:
    """Which rooms each room imports."""
    known = modules(root)
    graph: dict[str, set[str]] = {}
    for name, file in known.items():
        others = {room(other) for other in imported(file, known) if other in known}
        graph.setdefault(room(name), set()).update(others - {room(name)})
    return graph


def circle(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """The rooms of a circle, none where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_room_imports_one_that_imports_it() -> None:
    graph = rooms()
    assert {"harness.imports", "harness.engines", "tasks.benchmarks", "pruners", "pathprune.hidden"} <= graph.keys()
    assert not circle(graph)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("import harness.report", "import pruners.mine"),
        ("def f():\n    from harness import report", "from pruners import mine"),
        ("from harness.report import x", "import importlib\nimportlib.import_module('pruners.mine')"),
    ],
)
def test_a_circle_is_found(one: str, other: str, tmp_path: Path) -> None:
    for folder, file, text in (("pruners", "mine.py", one), ("harness", "report.py", other), ("harness", "api.py", "")):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / file).write_text(text)
    assert set(circle(rooms(tmp_path))) == {"pruners", "harness.report"}
    (tmp_path / "harness/report.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pruners.mine"
    )
    assert not circle(rooms(tmp_path))


def test_tasks_import_contracts_alone_and_pruners_nothing_that_drives_them() -> None:
    graph = rooms()
    for name, others in graph.items():
        of_harness = {other for other in others if other.startswith("harness")}
        if name.startswith("tasks."):
            assert of_harness <= LEAVES and "pruners" not in others, name
        if name == "pruners":
            assert not of_harness & FORBIDDEN and not any(other.startswith("tasks") for other in others)
