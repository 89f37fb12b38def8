"""Rows as text, and as Markdown for files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from harness.api import PathpruneError
from harness.replay.stats import FEW, Interval
from harness.report import Group
from harness.report import overhead as overhead_rows
from harness.report.rows import Row
from harness.spec import Ended
from harness.store.blame import unreadable
from harness.store.files import writable
from harness.text import one_line

BRIEF = (0, 1, 2, 3, 4, 7, 8, 9, 10, 13, 14, 24, 16, 22)  # columns of the README's tables
WORDS = (0, 1, 2, 22)  # names and notes, which plug-ins and records bring along
MARKUP = re.compile(r"([\\`<\[\]*])")
TITLE = "# Leaderboard\n\n"
BESIDE: Mapping[Ended, str] = {  # a sentence below the title of a table at equal cost
    "count": "",
    "bypass": " Paths that end inside a prefix vote in addition to those kept.",
}


def columns(n: int, keep: int, unit: str = "tokens") -> list[str]:
    """Heads of the columns, in order; ``unit``: what lengths and costs count."""
    return [
        "pruner", "type", "fidelity", f"avg@{keep}|{n}", "gain over random", "p (Holm)", "gain, length-matched", "behind the best",
        "of oracle", f"cons@{keep}", "own vote", unit, f"cold {unit}", "saved", "generated saved", "MFLOPs", "AUROC within", "pooled", "kept length",
        "truncated", "label tokens", "problems", "note", "gain, ended bypass", f"serial {unit}", "rounds",
    ]  # fmt: skip


def cells(row: Row) -> list[str]:
    """A row as texts, in the order of ``columns``."""
    return [
        row.name,
        row.quadrant,
        row.fidelity,
        shown(row.accuracy),
        shown(row.gain, "+.3f"),
        _number(row.adjusted_p, ".3f"),
        shown(row.matched, "+.3f"),
        shown(row.behind, "+.3f"),
        shown(row.oracle_share, ".0%"),
        shown(row.voted),
        "-" if row.own_vote is None else f"{row.own_vote[0]} {shown(row.own_vote[1])}",
        shown(row.tokens, ",.0f"),
        "" if row.cold_tokens is None else shown(row.cold_tokens, ",.0f"),
        _number(row.saved, ".1%"),
        _number(row.saved_generated, ".1%"),
        _number(row.flops / 1e6, ",.0f"),
        shown(row.within),
        _number(row.pooled, ".3f"),
        shown(row.kept_length, ".1f"),
        _number(row.truncated, ".1%"),
        _number(row.label_tokens, ",d"),
        str(row.problems),
        row.note,
        shown(row.bypassed, "+.3f"),
        shown(row.serial, ",.0f"),
        _number(row.rounds, ".1f"),
    ]


def shown(value: Interval | None, form: str = ".3f") -> str:
    """A mean with its interval as text; "-" for None."""
    if value is None or value.mean != value.mean:
        return "-"
    bare = form.lstrip("+")
    if value.low != value.low:  # one problem has no interval
        return f"{value.mean:{form}} [n/a]"
    return f"{value.mean:{form}} [{value.low:{bare}}, {value.high:{bare}}]"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None or value != value else format(value, form)


def notes(group: Group) -> list[str]:
    """The notes below a table."""
    lines = [
        f"The row `all` is avg@{group.pool.n} and cons@{group.pool.n}. "
        f"{int(group.pool.mixed().sum())} of {len(group.pool.problems)} problems are mixed (pass rate 4/32 to 28/32); "
        f"intervals are 95 % paired bootstrap over problems; {group.unit}, MFLOPs and length are means per problem. A method that reads "
        f"text reads a problem's prompt once; cold {group.unit} are those if nothing were shared between texts; serial {group.unit} are those that must "
        "be generated one after another."
    ]
    if len(group.pool.problems) < FEW:
        lines.append(f"{len(group.pool.problems)} problems are few: read the intervals, not the ranks.")
    return lines + (_of_import(group) if group.origin else [])


def with_power(group: Group, keep: int, table_rows: Sequence[Row]) -> list[str]:
    """The notes below a table, with one on the detectable gains."""
    about, *rest = notes(group)
    detected = power(keep, table_rows)
    return [f"{about} {detected}".rstrip(), *rest]


def power(keep: int, table_rows: Sequence[Row]) -> str:
    """A note on the smallest detectable gain over random, from the methods' paired differences; "" if unknown."""
    problems = max((row.problems for row in table_rows), default=0)
    return power_text(keep, problems, *([getattr(row, name) for row in table_rows] for name in DETECTABLE))


DETECTABLE = ("detectable", "detectable_voted")  # of a row


def power_text(keep: int, problems: int, gains: Sequence[float | None], voted: Sequence[float | None]) -> str:
    """The same note, from the methods' detectable gains in avg and in cons."""
    told = [span(f"in avg@{keep}", gains), span(f"in cons@{keep}", voted)]
    return detects(problems, "gain over random", told)


def detects(problems: int, what: str, told: Sequence[str], whose: str = "method") -> str:
    """A note on the smallest detectable differences; "" if none is known.

    Args:
        problems: their number.
        what: the difference, such as "gain over random".
        told: texts of ``span``; empty ones are left out.
        whose: the spans run over the paired differences of these.
    """
    *first, last = [text for text in told if text] or [""]
    if not last:
        return ""
    each = f"{', of '.join(first)} and of {last}" if first else last
    return (
        f"Power: {problems} problems detect a true {what} of {each}, or more, with a probability of "
        f"80 % (two-sided 5 %, one comparison; the median {whose}'s paired differences, and those of least and most spread)."
    )


def span(where: str, values: Sequence[float | None]) -> str:
    """Median and range of the known detectable differences, followed by ``where`` they hold; "" if none is known."""
    known = [value for value in values if value]
    return f"{np.median(known):.3f} ({min(known):.3f} to {max(known):.3f}) {where}" if known else ""


def _of_import(group: Group) -> list[str]:
    """Notes on imported paths."""
    origin, few = group.origin, {p: n for p, n in group.origin["ragged"].items() if n < group.pool.n}
    files = [f"{s['file']} (sha256 {s['sha256'][:12]}, {s['rows']:,} rows)" for s in origin["sources"]]
    more = f" and {len(files) - NAMED} more files" if len(files) > NAMED else ""
    graded = {"given": "grades are the file's", "ours": "grades are ours"}.get(
        origin["grades"], "grades are the file's"
    )
    if origin["grades"] == "both":
        graded += f", and ours differ on {origin['disagreements']} paths"
    lines = [
        f"Imported paths, of {', '.join(files[:NAMED]) or 'a file'}{more}; {graded}; lengths and costs are in {origin['unit']}."
    ]
    if origin.get("text_by") == "rate" and origin["unit"] == "tokens":
        lines.append(
            "Where tokens end in a text is not recorded: a prefix of L tokens is cut at the pool's mean number of characters per token."
        )
    if not group.pool.flops.per_token:
        lines.append("FLOPs are not known, for nobody stated the number of parameters.")
    if origin.get("unknown_finish"):
        lines.append(
            f"Of {origin['unknown_finish']:,} paths it is not recorded how they ended: they count as complete."
        )
    if clipped := origin.get("clipped"):
        told = ", ".join(f"{count:,} of {name}" for name, count in clipped.items())
        lines.append(f"Beyond the range of float16, and stored at its end: {told}.")
    if few:
        names = ", ".join(sorted(few)[:NAMED]) + ", ..." * (len(few) > NAMED)
        lines.append(f"Left out: {len(few)} problems that have fewer than {group.pool.n} paths ({names}).")
    return lines


NAMED = 5  # files and problems that a note names


def markdown(group: Group, keep: int, table_rows: Sequence[Row], wanted: Sequence[int] | None = None) -> str:
    """A table with all columns, or with the ``wanted`` ones."""
    heads = columns(group.pool.n, keep, group.unit)
    indices = range(len(heads)) if wanted is None else wanted
    lines = [f"#### {plain(group.title)}", "", line([heads[i] for i in indices]), "|" + "---|" * len(indices)]
    for row in table_rows:
        texts = [plain(text) if i in WORDS else text for i, text in enumerate(cells(row))]
        lines.append(line([texts[i] for i in indices]))
    return "\n".join([*lines, "", *with_power(group, keep, table_rows), ""])


def line(texts: Sequence[str]) -> str:
    # A bar inside a cell would end it.
    """Cells as one line of a Markdown table."""
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def plain(text: str) -> str:
    """A name escaped for Markdown: no markup, link, image or line break."""
    text = MARKUP.sub(r"\\\1", one_line(text))
    return text.replace("://", ":\\//").replace("www.", "www\\.")


def _picture(figure: Path, file: Path, unit: str) -> str:
    if not figure.exists():
        return ""
    link = os.path.relpath(figure.resolve(), file.resolve().parent)
    return f"\n![cons@N against {unit} per problem]({Path(link).as_posix()})\n"


def write_leaderboard(
    groups: Sequence[tuple[Group, Sequence[Row]]], keep: int, file: Path, figures: Path, part: str = "leaderboard"
) -> None:
    """Write all tables, with existing figures, to one file.

    In a file with the markers of ``part`` (a README), only the text between them changes, and tables have fewer columns.
    """
    wanted = BRIEF if marked(file, part) else None
    text = "\n".join(
        markdown(group, keep, table, wanted) + _picture(figures / f"{group.slug}.png", file, group.unit)
        for group, table in groups
    )
    if wanted is None:
        text += "".join(overhead(folder) for folder in dict.fromkeys(group.folder for group, _ in groups))
    write_part(file, part, TITLE, text)


def overhead(folder: Path) -> str:
    """Tables of seconds for Launch, Check and Resume from a pool's live records; "" without any."""
    text = ""
    for setting, rows in overhead_rows.stored(folder):
        lines = [
            f"\n#### Overhead, {folder.parent.name} {folder.name}, {plain(setting)}",
            "",
            f"{overhead_rows.TITLE[0].upper()}{overhead_rows.TITLE[1:]}.",
            "",
        ]
        lines += [
            line(overhead_rows.HEADS),
            "|" + "---|" * len(overhead_rows.HEADS),
            *(line([plain(name), *numbers]) for name, *numbers in rows),
            "",
        ]
        text += "\n".join(lines)
    return text


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- {name}:begin -->", f"<!-- {name}:end -->"


def marked(file: Path, name: str) -> bool:
    """Does the file have markers with this name?"""
    old = _text(file)
    return all(m in old for m in _markers(name))


def _text(file: Path) -> str:
    """The text of a Markdown file; "" if it does not exist."""
    try:
        return file.read_text(encoding="utf-8") if file.exists() else ""
    except UnicodeDecodeError as error:
        raise PathpruneError(f"{file} is not UTF-8 text and was not changed; choose another --out") from error
    except OSError as error:
        raise unreadable(file, error) from error


def write_part(file: Path, name: str, title: str, text: str) -> None:
    """Write a whole file that starts with ``title``, or only the part between the markers ``name`` of an existing file.

    Raises:
        PathpruneError: an existing file that has neither the title nor the markers.
    """
    old = _text(file)
    begin, end = _markers(name)
    before, after = title, ""
    if marked(file, name):
        before, after = old[: old.index(begin) + len(begin)] + "\n", old[old.index(end) :]
    elif old and not old.startswith(title):
        raise PathpruneError(
            f"{file} is not a {name} file, has no {begin} markers, and was not changed; choose another --out"
        )
    with writable(file) as part:
        part.write_text(before + text + after, encoding="utf-8")
