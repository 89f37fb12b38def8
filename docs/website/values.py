"""Numbers for pages, read from ``results/``: the names that ``{{ ... }}`` on a page may use.

Rows are chosen by what they are (task, model, prefix length, name) and never by a hash, so that a page survives new rows.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results"
HEADS = {
    "accuracy": "avg@k",
    "gain": "gain over random",
    "behind": "behind the best",
    "oracle_share": "of oracle",
    "voted": "cons@k",
    "own_vote": "own vote",
    "tokens": "tokens",
    "saved": "saved",
    "serial": "serial tokens",
    "within": "AUROC within",
    "prefix": "L",
    "name": "pruner",
    "quadrant": "type",
    "fidelity": "fidelity",
}
FORMS = {"gain": "+.3f", "behind": "+.3f", "oracle_share": ".0%", "tokens": ",.0f", "serial": ",.0f", "saved": ".1%"}
SHORT = ("name", "quadrant", "fidelity", "accuracy", "gain", "voted", "saved", "serial")


@cache
def leaderboard() -> pd.DataFrame:
    """Every published row, as ``results/leaderboard.csv`` holds it."""
    return pd.read_csv(RESULTS / "leaderboard.csv")


def chosen(**terms: Any) -> pd.DataFrame:
    """The published rows of given columns' values; by default those of the embedded model of the task."""
    terms = {"engine": "hf", "keep": 8, **terms}
    if "task" in terms:
        terms.setdefault("model", terms["task"])
    data = leaderboard()
    for column, value in terms.items():
        data = data[data[column] == value]
    return data


def cell(row: Any, column: str) -> str:
    """One number of a row with its interval, in the table's form."""
    form = FORMS.get(column, ".3f")
    unsigned = form.lstrip("+")
    if column not in row:
        mean, low, high = (row[f"{column}_{part}"] for part in ("mean", "low", "high"))
        return "-" if pd.isna(mean) else f"{mean:{form}} [{low:{unsigned}}, {high:{unsigned}}]"
    value = row[column]
    if pd.isna(value):
        return "-"
    return value if isinstance(value, str) else f"{value:{form}}" if column in FORMS else f"{value:g}"


def names_of(data: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of a method; one that keeps the same paths as others shares their row."""
    return data[[name in row.split(" = ") for row in data.name]]


def row(name: str, column: str, task: str = "hands", prefix: int = 22, model: str | None = None) -> str:
    """One number of one method: ``row("stop", "gain", prefix=22)``."""
    data = chosen(task=task, prefix=prefix, model=model or task)
    matching = data if data.empty else names_of(data, name)
    if len(matching) != 1:
        raise LookupError(f"{len(matching)} published rows of {name} on {task} at L = {prefix}")
    return cell(matching.iloc[0], column)


def table(data: pd.DataFrame, columns: tuple[str, ...]) -> str:
    """Rows as a Markdown table."""
    lines = [[HEADS.get(c, c) for c in columns], ["---"] * len(columns)]
    lines += [[cell(data.iloc[i], c).replace("|", "\\|") for c in columns] for i in range(len(data))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def rows(
    names: list[str], columns: list[str], task: str = "hands", prefix: int = 22, n: int = 64, model: str | None = None
) -> str:
    """A Markdown table of some methods at ``n`` paths per problem, in the order given."""
    data = chosen(task=task, prefix=prefix, n=n, model=model or task)
    parts = [names_of(data, name) for name in names]
    if missing := [name for name, part in zip(names, parts, strict=True) if part.empty]:
        raise LookupError(f"no published row of {', '.join(missing)} on {task} at L = {prefix}, {n} paths")
    return table(pd.concat(parts), ("name", *columns))


def best(quadrant: str, task: str = "hands", prefix: int = 22) -> str:
    """The name of a quadrant's method of the highest gain."""
    data = chosen(task=task, prefix=prefix, quadrant=quadrant)
    return str(data.sort_values("gain_mean", ascending=False)["name"].iloc[0]).split(" = ")[0]


def problems(task: str = "hands", prefix: int = 22) -> int:
    """Test problems of a table."""
    return int(chosen(task=task, prefix=prefix).problems.max())


def count(what: str) -> int:
    """Published "rows" or "tables"."""
    data = leaderboard()
    return {"rows": len(data), "tables": data.table.nunique()}[what]


def part(file: str, only: str = "") -> str:
    """A Markdown file of ``results/``, without its title; ``only`` keeps the sections whose heading holds it."""
    text = (RESULTS / file).read_text().partition("\n")[2]
    sections = re.split(r"(?m)^(?=#### )", text)
    kept = [s for s in sections if only in s.splitlines()[0]] if only else sections
    if not kept:
        raise LookupError(f"{file} has no section {only!r}")
    return "".join(s.replace("#### ", "## ", 1) if s.startswith("#### ") else s for s in kept)


def law() -> str:
    """The fitted retention law, in the words of ``pathprune law show``."""
    from harness.studies import law as laws

    return "\n".join(laws.summary(laws.read(RESULTS / "law.json")))


def ablation(name: str) -> str:
    """The variants of an ablation, with the paired difference of each to the first."""
    data = pd.read_csv(RESULTS / "ablations" / f"{name}.csv")
    lines = [["variant", "label tokens", "prefixes", "gain over random", "difference", "to"], ["---"] * 6]
    records: Any = data.to_dict("records")
    for one in records:
        gain = "{gain:+.3f} [{low:.3f}, {high:.3f}]".format(**one)
        difference = "{difference:+.3f} [{difference_low:.3f}, {difference_high:.3f}]".format(**one)
        apart = [difference, one["against"]] if one["label"] != one["against"] else ["-", "-"]
        lines.append([one["label"], f"{one['label_tokens']:,.0f}", f"{one['prefixes']:,.0f}", gain, *apart])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def card(pruner: str, field: str) -> Any:
    """A field of the card of the checkpoint that ships for ``hands``."""
    (file,) = (ROOT / "pruners/checkpoints" / pruner).glob(f"{_fingerprint('hands')}/checkpoint.json")
    value: Any = json.loads(file.read_text())
    for key in field.split("."):
        value = value[key]
    return value


def measured(part: str, field: str, card: str = "h200") -> Any:
    """A figure of ``make gpu`` on a card: ``measured("vllm-graphs", "ours")``."""
    return json.loads((RESULTS / "gpu" / f"{card}.json").read_text())[part][field]


def _fingerprint(model: str) -> str:
    return str(leaderboard().query("model == @model").fingerprint.iloc[0])


def files(pattern: str) -> list[Path]:
    """Published files by a pattern under ``results/``, of which there has to be one."""
    found = sorted(RESULTS.glob(pattern))
    if not found:
        raise LookupError(f"no file results/{pattern}")
    return found


def figure(pattern: str, text: str) -> str:
    """A published figure, by a pattern of its name under ``results/`` without ``.png``; of several the first."""
    return f"![{text}]({{up}}{published(files(f'{pattern}.png')[0])})"


def published(file: Path) -> str:
    """Where the site has a published file."""
    return f"published/{file.relative_to(RESULTS)}"


def everything(task: str = "hands", prefix: int = 22, columns: tuple[str, ...] = SHORT) -> str:
    """All rows of one table, the highest gain first."""
    data = chosen(task=task, prefix=prefix)
    if data.empty:
        raise LookupError(f"no published row on {task} at L = {prefix}")
    return table(data.sort_values("gain_mean", ascending=False), columns)


NAMES = {
    f.__name__: f for f in (row, rows, best, problems, count, part, law, ablation, card, measured, figure, everything)
}
