"""What a row is stands in its header; a name decides nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness import report
from harness.report import latex
from harness.report.figures import chosen
from harness.report.matched import at_budget, curves
from harness.report.rows import rows
from harness.store.records import records
from harness.store.roles import role_of
from tests.test_reports import WHERE

PRUNER = """
class Mine:
    quadrant, needs, fidelity = "internal-fixed", frozenset({"text"}), "exact"
    def score(self, prefixes, check):
        return [float(len(p.text) * 7 % 5) for p in prefixes]
"""


def spec(pruner: str = "mine", **more: Any) -> dict[str, Any]:
    return {"pruner": pruner, "code": "0", "prefix": 22} | more


@pytest.mark.parametrize(
    ("header", "role"),
    [
        ({"spec": {"n": 4}}, None),
        ({"spec": spec(), "quadrant": "internal-learned", "source": "pathprune 0.1.0"}, "method"),
        ({"spec": spec("all"), "quadrant": "control", "source": "pathprune 0.1.0"}, "closed-form"),
        ({"spec": spec("random"), "quadrant": "control", "source": "pathprune 0.1.0"}, "closed-form"),
        ({"spec": spec("all"), "source": "pathprune 0.1.0"}, "closed-form"),
        ({"spec": spec("all-mine"), "quadrant": "control", "source": "pathprune 0.1.0"}, "control"),
        ({"spec": spec("all"), "quadrant": "control", "source": "pathprune-more 2.0"}, "control"),
        ({"spec": spec("random@All"), "quadrant": "internal-fixed", "source": "file 0123"}, "method"),
        ({"spec": spec("oracle", code="", continuations=8), "quadrant": "reference", "source": "pathprune"}, "oracle"),
        ({"spec": spec("oracle_lite@Mine"), "quadrant": "internal-fixed", "source": "file 0123"}, "method"),
        ({"spec": spec("oracle"), "quadrant": "reference", "source": "file 0123"}, "method"),
        (
            {"spec": spec("slimsc-online", prefix=0), "quadrant": "external-fixed", "source": "pathprune 0.1.0"},
            "own-rule",
        ),
        ({"spec": spec("anything"), "role": "oracle"}, "oracle"),
    ],
)
def test_headers_of_before_tell_what_they_are(header: dict[str, Any], role: str | None) -> None:
    assert role_of(header) == role


def test_a_role_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="king"):
        role_of({"spec": spec(), "role": "king"})


def test_plugins_with_the_names_of_references_compete(tmp_path: Path, run_cli: Callable[..., tuple[int, str]]) -> None:
    for name in ("oracle_lite", "all-mine", "random_too"):
        (tmp_path / f"{name}.py").write_text(PRUNER.replace("* 7", f"* {len(name)}"))
    folders = ["--results", str(tmp_path / "r"), "--bank", str(tmp_path / "b")]
    mine = [f"{tmp_path}/{name}.py@Mine" for name in ("oracle_lite", "all-mine", "random_too")]
    scale = ["--problems", "8", "--n", "8"]
    code, out = run_cli(
        "bench", *WHERE, *folders, "--pruner", ",".join([*mine, "all", "random", "logprob"]), *scale, "--keep", "2"
    )
    assert code == 0, out
    assert run_cli("oracle", *WHERE, *folders, *scale, "--continuations", "2")[0] == 0
    (group,) = report.groups(tmp_path / "r")
    names = {"oracle_lite@Mine", "all-mine@Mine", "random_too@Mine", "logprob"}
    assert {m.name: m.role for m in group.judged} == {
        **dict.fromkeys(names, "method"), "all": "closed-form", "random": "closed-form", "oracle": "oracle",
    }  # fmt: skip
    assert {m.name for m in chosen.methods(group)} == names
    table = rows(group, 2)
    by_name = {row.name: row for row in table}
    assert {n for n, row in by_name.items() if row.adjusted_p is not None} == names
    assert [row.role for row in table] == ["closed-form"] * 2 + ["method"] * 4 + ["oracle"] * 2
    assert by_name["oracle"].oracle_share is None or by_name["oracle"].oracle_share.mean == 1
    assert not {id(r) for r in table if r.name not in names} & latex.emphasis(table).keys()
    made = curves(group, 10)
    budget = float(made[0].costs("tokens").max())
    assert {w.name for w in at_budget(made, budget) if w.adjusted_p is not None} == names
    assert {r.header["role"] for r in records(group.folder, "judged")} == {"method", "closed-form", "oracle"}
