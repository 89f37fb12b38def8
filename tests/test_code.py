"""Digests of code: what computes the same has the same digest, whatever it is called inside and however it is explained."""

from __future__ import annotations

import ast
import hashlib
import importlib
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from harness import registry
from harness.plugins.code import bytes_digest, code_digest, is_present, normal_form
from harness.report.staleness import is_stale, restated
from harness.store.records import Record, pack

MODULE = '''
"""A method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from math import sqrt as root

from {package}.helper import scaled

if TYPE_CHECKING:
    from harness.api import Path

WIDTH = 8


@dataclass
class Mine:
    """Scores by length."""

    window: int = 4
    quadrant = "control"

    def score(self, prefixes: list[Path], check: object) -> np.ndarray:
        """The score."""
        # One per path.
        values = np.array([scaled(len(p.tokens)) for p in prefixes])
        total = 0
        for index, value in enumerate(values):
            if (half := value / 2) > self.window:
                total += half + index
        try:
            least = min(values)
        except ValueError as error:
            raise RuntimeError(str(error)) from error

        def inner(x, *, power=2):
            """Nothing."""
            base = x - least
            return base**power + total

        key = lambda item: item + least
        match values.shape:
            case (size,) if size > WIDTH:
                return root(size) * values
            case [first, *rest]:
                return np.array([inner(v) for v in sorted(values, key=key)])
        return values
'''
HELPER = "def scaled(x):\n    y = 2 * x\n    return y\n"

SAME = {
    "a docstring": ('"""Scores by length."""', '"""Scores by length, better explained."""'),
    "no docstring": ('        """The score."""\n', ""),
    "a comment": ("# One per path.", "# One for every path, # and so on"),
    "layout": ("return root(size) * values", "return (\n                    root(size)\n                    * values\n                )"),
    "an annotation": ("check: object) -> np.ndarray", "check: Any) -> list[float]"),
    "a local": ("values", "numbers"),
    "a loop's local": ("index", "i"),
    "a walrus": ("half", "h"),
    "an exception's name": ("error", "problem"),
    "a nested function": ("inner", "nested"),
    "a nested local": ("base", "b"),
    "a closure's local": ("least", "smallest"),
    "a comprehension's local": ("scaled(len(p.tokens)) for p in", "scaled(len(q.tokens)) for q in"),
    "a comprehension's other local": ("inner(v) for v in", "inner(w) for w in"),
    "a pattern's name": ("rest", "others"),
    "a pattern's other name": ("size", "count"),
    "order of imports": ("import numpy as np\nfrom math import sqrt as root", "from math import sqrt as root\nimport numpy as np"),
    "an unused import": ("import numpy as np\n", "import numpy as np\nimport json\n"),
    "where a helper of a distribution lies": ("from math import sqrt", "from math.inside import sqrt"),
}  # fmt: skip
OTHER = {
    "a constant": ("WIDTH = 8", "WIDTH = 9"),
    "a default": ("window: int = 4", "window: int = 5"),
    "a default of a function": ("power=2", "power=3"),
    "a parameter's name": ("power", "exponent"),
    "an operator": ("half + index", "half - index"),
    "a comparison": ("> self.window", ">= self.window"),
    "an attribute": ("p.tokens", "p.text"),
    "a method's name": ("def score", "def scored"),
    "a class attribute": ('quadrant = "control"', 'quadrant = "internal-fixed"'),
    "a field that is none any more": ("window: int = 4", "window = 4"),
    "what an import stands for": ("from math import sqrt as root", "from math import cbrt as root"),
    "which distribution": ("import numpy as np", "import numbers as np"),
    "which of two locals": ("return base**power + total", "return total**power + base"),
    "a condition's side": ("if (half := value / 2) > self.window", "if (half := value / 3) > self.window"),
    "an order of steps": ("total = 0\n", "total = 1\n"),
    "a decorator": ("@dataclass\n", "@dataclass(frozen=True)\n"),
    "a filter": ("for p in prefixes]", "for p in prefixes if p]"),
}


def form(text: str) -> str:
    return normal_form(ast.parse(text.replace("{package}", "mine")), "mine")


@pytest.mark.parametrize("change", SAME)
def test_what_computes_the_same_has_one_digest(change: str) -> None:
    before, after = SAME[change]
    assert before in MODULE and form(MODULE.replace(before, after)) == form(MODULE)


@pytest.mark.parametrize("change", OTHER)
def test_what_computes_otherwise_has_another(change: str) -> None:
    before, after = OTHER[change]
    assert before in MODULE and form(MODULE.replace(before, after)) != form(MODULE)


def test_names_stay_where_they_may_matter() -> None:
    def written(local: str) -> str:
        return form(f"def f(a):\n    {local} = a\n    return locals()\n")

    assert written("b") != written("c")
    assert form("def f():\n    global b\n    b = 1\n") != form("def f():\n    global c\n    c = 1\n")
    assert form("b = 1\n") != form("c = 1\n")


def test_a_golden_digest_holds_on_every_python() -> None:
    """A change stales every published row: it needs another version before the colon."""
    assert hashlib.sha256(form(MODULE).encode()).hexdigest()[:12] == "5ef7a84431e3"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a package with a method and its helper, and imports the method anew."""
    monkeypatch.syspath_prepend(tmp_path)
    count = iter(range(100))

    def write(module: str = MODULE, helper: str = HELPER) -> Any:
        name = f"digested{next(count)}"
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
        (tmp_path / name / "method.py").write_text(module.replace("{package}", name))
        (tmp_path / name / "helper.py").write_text(helper)
        importlib.invalidate_caches()
        return importlib.import_module(f"{name}.method").Mine

    yield write
    for name in [n for n in sys.modules if n.startswith("digested")]:
        del sys.modules[name]


def test_helpers_of_the_package_count_and_are_not_imported_for_it(package: Any) -> None:
    lazy = MODULE.replace("from {package}.helper import scaled\n", "").replace(
        "        total = 0\n", "        from {package}.helper import scaled\n\n        total = 0\n"
    )
    first = package(lazy)
    assert code_digest(first).startswith("a1:") and f"{first.__module__.partition('.')[0]}.helper" not in sys.modules
    assert code_digest(first) == code_digest(package(lazy, HELPER.replace("y", "twice")))
    assert code_digest(first) != code_digest(package(lazy, HELPER.replace("2", "3")))


INTERACTIVE = """
SHIFT = 1

def helper(x):
    "Helps."
    moved = x + SHIFT
    return moved

class Base:
    def score(self, prefixes, check):
        total = [helper(p) for p in prefixes]
        return total

class Mine(Base):
    "A class of a notebook."
    needs = frozenset({"text", "hidden", "forced"})
    window = 4

    @staticmethod
    def static(a):
        return a + 1

    @property
    def wide(self):
        return self.window * 2
"""


def interactive(text: str = INTERACTIVE) -> Any:
    space: dict[str, Any] = {"__name__": "__nowhere__"}
    exec(textwrap.dedent(text), space)
    return space["Mine"]


def test_a_class_without_a_source_file_has_a_digest_of_its_code() -> None:
    digest = code_digest(interactive())
    assert digest.startswith("c1:") and code_digest(interactive()) == digest
    for before, after in (
        ("total", "sums"),
        ("moved", "there"),
        ('"A class of a notebook."', '"Another text."'),
        ("Helps", "Does"),
    ):
        assert code_digest(interactive(INTERACTIVE.replace(before, after))) == digest, before
    for before, after in (
        ("SHIFT = 1", "SHIFT = 2"), ("x + SHIFT", "x - SHIFT"), ("window = 4", "window = 5"), ("a + 1", "a + 2"),
        ("* 2", "* 3"), ('"hidden"', '"trace"'), ("[helper(p)", "[-helper(p)"),
    ):  # fmt: skip
        assert code_digest(interactive(INTERACTIVE.replace(before, after))) != digest, before


def header(code: str, name: str = "jaccard") -> dict[str, Any]:
    return {"spec": {"pruner": f"{name}:keep=central", "code": code}, "quadrant": "external-fixed"}


def test_digests_of_before_are_recognised_and_restated() -> None:
    made = registry.load("pruners", "jaccard")[0]
    old, new = bytes_digest(made), code_digest(made)
    assert len(old) == 12 and ":" not in old and is_present(old, made) and is_present(new, made)
    assert (
        not is_stale(header(old))
        and not is_stale(header(new))
        and is_stale(header("0" * 12))
        and is_stale(header("a1:0"))
    )
    assert not is_stale(header("0" * 12, "nobody@Mine"))
    renewed = restated(header(old))
    assert renewed["spec"]["code"] == new and renewed["was"] == {"code": old}
    assert restated(renewed) == renewed
    for stays in (header("0" * 12), header(old, "nobody@Mine"), {"spec": {"n": 4}}):
        assert restated(stays) == stays


def test_a_restated_row_is_found_under_its_former_name(tmp_path: Path) -> None:
    """The key in a record's file name was made of the former digest: the same method is not scored again."""
    made = registry.load("pruners", "jaccard")[0]
    spec = {"n": 4, "prefix": 5, **header(bytes_digest(made))["spec"]}
    Record.open(tmp_path / "L5-jaccard-former.jsonl", spec).append([{"problem": "p", "scores": [1.0]}])
    pack(tmp_path, restated)
    now = spec | {"code": code_digest(made)}
    found = Record.open(tmp_path / "L5-jaccard-present.jsonl", now)
    assert found.file.name == "L5-jaccard-former.jsonl" and list(found.lines) == ["p"]
    found.append([{"problem": "q", "scores": [2.0]}])
    assert list(Record.open(tmp_path / "L5-jaccard-present.jsonl", now).lines) == ["p", "q"]
    other = Record.open(tmp_path / "L5-jaccard-later.jsonl", now | {"code": "a1:later"})
    assert other.file.name == "L5-jaccard-later.jsonl" and not other.lines
    # A journal that was begun before, under the former spec, is the same record.
    (journal := found.file).write_text(journal.read_text().replace(code_digest(made), bytes_digest(made)))
    assert list(Record.read(journal).lines) == ["p", "q"]
