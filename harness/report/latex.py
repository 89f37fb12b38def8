"""LaTeX tables for a paper: booktabs, the best in bold, the second underlined, ties by confidence interval."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from harness.replay.stats import FEW, Interval
from harness.report import Group
from harness.report.rows import Row
from harness.text import one_line

ESCAPED = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "|": r"\textbar{}", "<": r"\textless{}", ">": r"\textgreater{}",
}  # fmt: skip
HEADS = (
    "Method",
    "Type",
    r"avg@{keep}$\mid${n}",
    "Gain over random",
    "cons@{keep}",
    r"{Unit} saved (\%)",
    "Cold {unit}",
    "Serial {unit}",
    "AUROC",
)


def escaped(text: str) -> str:
    """A text with LaTeX's special characters escaped."""
    return "".join(ESCAPED.get(c, c) for c in one_line(text))


def document(groups: Sequence[tuple[Group, Sequence[Row]]], keep: int) -> str:
    r"""All tables as LaTeX, for ``\input``; needs ``\usepackage{booktabs}``."""
    return "% Needs \\usepackage{booktabs}.\n\n" + "\n".join(table(group, rows, keep) for group, rows in groups)


def table(group: Group, rows: Sequence[Row], keep: int) -> str:
    """One table with all its rows, as LaTeX."""
    known = {"{keep}": str(keep), "{n}": str(group.pool.n), "{unit}": group.unit, "{Unit}": group.unit.capitalize()}
    heads = " & ".join(HEADS)
    for name, value in known.items():
        heads = heads.replace(name, escaped(value))
    marks = emphasis(rows)
    lines = [" & ".join(_cells(row, marks.get(id(row), "{}"))) + r" \\" for row in rows]
    exact = [r for r in rows if r.role == "closed-form"]
    lines.insert(len(exact), r"\midrule")
    few = " Few problems: read the intervals." if len(group.pool.problems) < FEW else ""
    caption = (
        f"{escaped(group.title)}; {len(group.pool.problems)} problems, 95\\,\\% bootstrap intervals over problems. Bold: "
        f"the best method and those whose paired difference to it includes 0; underlined: the best of the rest.{few}{_power(keep, rows)}"
    )
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{escaped(group.slug)}}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(HEADS) - 2)}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _power(keep: int, rows: Sequence[Row]) -> str:
    """A note on the smallest detectable gains, in percent as in the table; "" if none is known."""
    told = []
    for unit, name in ((f"avg@{keep}", "detectable"), (f"cons@{keep}", "detectable_voted")):
        if values := [value for row in rows if (value := getattr(row, name)) is not None]:
            told.append(f"{100 * median(values):.1f} in {unit}")
    return f" Gains over random of {' and '.join(told)} are detected with 80\\,\\% power." if told else ""


def emphasis(rows: Sequence[Row]) -> dict[int, str]:
    """The emphasis of each row's accuracy, by ``id`` of the row. Only competing methods (top-k, no reference) are marked."""
    competing = [r for r in rows if r.gain is not None and r.adjusted_p is not None]
    if not competing:
        return {}
    best = max(competing, key=lambda r: r.accuracy.mean)
    ties = [r for r in competing if r is best or (r.behind is not None and r.behind.high >= 0)]
    rest = [r for r in competing if not any(r is t for t in ties)]
    second = max(rest, key=lambda r: r.accuracy.mean, default=None)
    marks = {id(r): r"\textbf{{{}}}" for r in ties}
    return marks | ({id(second): r"\underline{{{}}}"} if second else {})


def _cells(row: Row, mark: str) -> list[str]:
    return [
        escaped(row.name),
        escaped(row.quadrant),
        mark.format(_interval(row.accuracy)),
        _interval(row.gain, "+.1f"),
        _interval(row.voted),
        "--" if row.saved != row.saved else f"{100 * row.saved:.1f}",
        "" if row.cold_tokens is None else f"{row.cold_tokens.mean:,.0f}",
        "--" if row.serial is None else f"{row.serial.mean:,.0f}",
        _interval(row.within, scale=1.0, form=".3f"),
    ]


def _interval(value: Interval | None, form: str = ".1f", scale: float = 100.0) -> str:
    """Percent by default, as the field prints accuracies."""
    if value is None or value.mean != value.mean:
        return "--"
    mean = format(scale * value.mean, form)
    if value.low != value.low:
        return f"${mean}$"
    bare = form.lstrip("+")
    return f"${mean}$ {{\\scriptsize[${scale * value.low:{bare}}$, ${scale * value.high:{bare}}$]}}"
