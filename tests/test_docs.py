"""What is public says what it is: every module, class and function, but for what implements a contract that says it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import api

ROOT = Path(__file__).parents[1]
PACKAGES = ("harness", "pathprune", "pruners", "tasks")
CONTRACTS = (
    api.Task,
    api.Engine,
    api.Probing,
    api.Adapter,
    api.Reader,
    api.Pruner,
    api.Streaming,
    api.Stopping,
    api.Learnable,
)
MEMBERS = {n for c in CONTRACTS for n in (*vars(c), *c.__annotations__) if not n.startswith("_")}
# Of other people's contracts: torch, vLLM, lm-eval, transformers' caches.
THEIRS = {"forward", "train", "load_weights", "compute_logits", "embed_input_ids", "is_argmax_invariant", "update_state", "apply", "update",
          "get_seq_length", "generate_until", "loglikelihood", "loglikelihood_rolling", "apply_chat_template", "tokenizer_name"}  # fmt: skip


def undocumented(tree: ast.AST, inside: str = "") -> Iterator[str]:
    """Names of public definitions without a docstring that no contract explains."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            explained = inside and node.name in MEMBERS | THEIRS
            if not ast.get_docstring(node) and not explained:
                yield f"{inside}{node.name}"
            if isinstance(node, ast.ClassDef):
                yield from undocumented(node, f"{node.name}.")


@pytest.mark.parametrize("package", PACKAGES)
def test_what_is_public_is_documented(package: str) -> None:
    lacking = []
    for file in sorted((ROOT / package).rglob("*.py")):
        tree = ast.parse(file.read_text())
        lacking += [] if ast.get_docstring(tree) else [str(file.relative_to(ROOT))]
        lacking += [f"{file.relative_to(ROOT)}: {name}" for name in undocumented(tree)]
    assert not lacking, "\n".join(lacking)
