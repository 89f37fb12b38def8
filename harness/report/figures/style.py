"""A common style of all figures: venues, fonts, one colour, marker and dash per quadrant, and reproducible files.

Sizes are in inches and points as printed: a figure has the width of its column and is never scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from harness.api import PathpruneError
from harness.report.sheet import defused
from harness.store.files import writable
from harness.text import unknown

DPI = 200


@dataclass(frozen=True)
class Venue:
    """Widths in inches of a column and of the whole text, and the font size in points."""

    column: float
    full: float
    font: float


VENUES = {
    "neurips": Venue(5.5, 5.5, 8.0),  # one column
    "icml": Venue(3.25, 6.75, 7.5),
    "acl": Venue(3.03, 6.3, 7.5),
    "slides": Venue(10.0, 10.0, 14.0),
}


@dataclass(frozen=True)
class Mark:
    """The style of a line or a point. Dash and marker distinguish kinds without colour, as hatches do on bars."""

    colour: Any
    marker: str
    dash: tuple[float, ...]

    def line(self, **more: Any) -> dict[str, Any]:
        """Arguments of ``Axes.plot`` for lines."""
        return {"color": self.colour, "marker": self.marker, "dashes": self.dash, "ms": _points(0.45)} | _named(more)

    def point(self, **more: Any) -> dict[str, Any]:
        """Arguments of ``Axes.plot`` for single points."""
        return {"color": self.colour, "marker": self.marker, "ls": "", "ms": _points(0.6)} | _named(more)


def literal(text: str) -> str:
    """A name as literal text: Matplotlib would read text between two dollars as mathematics."""
    return text.replace("$", r"\$")


def _named(more: dict[str, Any]) -> dict[str, Any]:
    return more | {"label": literal(more["label"])} if "label" in more else more


_COLOURS = sns.color_palette("colorblind")
QUADRANTS = {
    "control": Mark(_COLOURS[5], "v", (5, 1, 1, 1, 1, 1)),
    "external-fixed": Mark(_COLOURS[2], "s", (3, 1, 1, 1)),
    "external-learned": Mark(_COLOURS[1], "D", (1, 1)),
    "internal-fixed": Mark(_COLOURS[4], "^", (4, 1.5)),
    "internal-learned": Mark(_COLOURS[0], "o", (1, 0)),
    "reference": Mark((0.0, 0.0, 0.0), "*", (8, 2)),
}
RANDOM = Mark((0.45, 0.45, 0.45), "x", (2, 2))  # the expectation of random selection
NO_PRUNING = Mark((0.0, 0.0, 0.0), "P", (8, 2))


def mark(quadrant: str) -> Mark:
    """The style of a quadrant; that of a reference for anything outside the taxonomy."""
    return QUADRANTS.get(quadrant, QUADRANTS["reference"])


def venue_of(name: str) -> Venue:
    """The sizes of a venue, by name."""
    if name not in VENUES:
        raise PathpruneError(unknown("venue", name, list(VENUES)))
    return VENUES[name]


@contextmanager
def canvas(
    venue: str, rows: int = 1, columns: int = 1, height: float = 1.0, wide: bool = True, **grid: Any
) -> Iterator[tuple[Figure, Any]]:
    """(figure, axes ``[rows, columns]``) at the venue's text width (``wide``) or column width, closed afterwards.

    ``height`` is the height of the figure in units of 0.35 of the neurips width, scaled with the font.
    """
    size = venue_of(venue)
    width = size.full if wide else size.column
    with plt.rc_context(_settings(size)):
        figure, axes = plt.subplots(
            rows, columns, figsize=(width, height * 1.95 * size.font / 8), squeeze=False, layout="constrained", **grid
        )
        figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03)
        sns.despine(figure)
        try:
            yield figure, axes
        finally:
            plt.close(figure)


def _settings(size: Venue) -> Any:
    small, unit = size.font - 1, size.font / 8
    return {
        **sns.axes_style("ticks"),
        "font.size": size.font,
        "axes.labelsize": size.font,
        "axes.titlesize": size.font,
        "xtick.labelsize": small,
        "ytick.labelsize": small,
        "legend.fontsize": small,
        "figure.titlesize": size.font,
        "legend.frameon": False,
        "lines.linewidth": 1.1 * unit,
        "axes.linewidth": 0.6 * unit,
        "hatch.linewidth": 0.5 * unit,
        "xtick.major.width": 0.6 * unit,
        "ytick.major.width": 0.6 * unit,
        "xtick.major.size": 2.5 * unit,
        "ytick.major.size": 2.5 * unit,
        "xtick.minor.size": 1.5 * unit,
        "ytick.minor.size": 1.5 * unit,
        "pdf.fonttype": 42,  # TrueType: submission systems refuse Type 3
        "savefig.bbox": "standard",  # a tight box would change the width
    }


def legend_below(figure: Figure, axis: Any, **more: Any) -> None:
    """Place the axis's legend below the figure, in as many columns as fit. The figure grows by its height."""
    handles, names = axis.get_legend_handles_labels()
    for columns in range(len(names), 0, -1):
        legend = figure.legend(handles, names, loc="outside lower center", ncols=columns, columnspacing=1.2, **more)
        size = legend.get_window_extent(figure.canvas.get_renderer())  # type: ignore[attr-defined]
        if size.width <= 0.98 * figure.bbox.width or columns == 1:
            figure.set_figheight(figure.get_figheight() + size.height / figure.dpi)
            return
        legend.remove()


def freeze(figure: Figure) -> None:
    """Compute the layout of the figure now, and keep it."""
    figure.canvas.draw()
    figure.set_layout_engine("none")


def small() -> float:
    """Font size of tick labels in points, within a canvas."""
    return _points(1.0) - 1


def _points(share: float) -> float:
    return float(share * plt.rcParams["font.size"])


def save(figure: Figure, data: pd.DataFrame, stem: Path) -> None:
    """Write ``stem``.png, .pdf and .csv atomically. Equal records give equal bytes."""
    for suffix in (".png", ".pdf"):
        with writable(stem.with_name(stem.name + suffix)) as part:
            about = {"CreationDate": None} if suffix == ".pdf" else {"Software": None}
            figure.savefig(part, format=suffix[1:], dpi=DPI, metadata=about)
    with writable(stem.with_name(stem.name + ".csv")) as part:
        defused(data.round(5)).to_csv(part, index=False)
