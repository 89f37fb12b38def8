"""``python -m tests.benchmarks NAME [OPTIONS]``, or ``make perf NAME=... ARGS=...``: one benchmark of this folder."""

from __future__ import annotations

import ast
import sys
from importlib import import_module
from pathlib import Path

from harness.signals import Interrupts
from tests.benchmarks.lines import interruptible

FOLDER = Path(__file__).parent


def benchmarks() -> dict[str, str]:
    """The first line of the docstring of every module here that has a ``main``, by name; nothing is imported."""
    found = {}
    for file in sorted(FOLDER.glob("[!_]*.py")):
        tree = ast.parse(file.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or "").splitlines()[0]
    return found


def main() -> None:
    """Run the benchmark that the first argument names; the others are its own."""
    known = benchmarks()
    if len(sys.argv) < 2 or sys.argv[1] not in known:
        lines = "\n".join(f"  {name:9} {line}" for name, line in known.items())
        raise SystemExit(f"usage: python -m tests.benchmarks NAME [OPTIONS]\n\n{lines}")
    name = sys.argv.pop(1)
    interrupts = Interrupts()
    with interrupts.caught(interrupts.leave):
        module = import_module(f"tests.benchmarks.{name}")
    interruptible(module.main)


if __name__ == "__main__":
    main()
