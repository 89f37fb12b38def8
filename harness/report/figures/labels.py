"""Labels next to points that overlap neither each other, nor points, nor the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from harness.report.figures.style import literal

DISTANCES = (0.7, 1.4, 2.2, 3.2, 4.5, 6.0, 8.0)  # distances of a label from its point, in font sizes
ANGLES = np.deg2rad([0, 180, 45, -45, 135, -135, 90, -90, 68, -68, 112, -112, 22, -22, 158, -158])


def label_points(
    axis: Axes, points: Sequence[tuple[float, float, str]], others: Sequence[tuple[float, float]] = ()
) -> None:
    """Write each text near its point, at the first free place. A distant label is joined to its point by a thin line.

    ``others`` are points without a label. Coordinates are data coordinates, the layout must be final, and labels stay
    inside the axes. If no place is free, the one with the least overlap is taken.
    """
    figure: Any = axis.figure
    size = float(axis.xaxis.label.get_fontsize()) - 1
    pixels = size * figure.dpi / 72
    occupied = [_around(axis, x, y, 0.35 * pixels).extents for x, y in [(x, y) for x, y, _ in points] + list(others)]
    labels: list[Bbox] = []
    frame = axis.get_window_extent()
    offsets = [(d * np.cos(a), d * np.sin(a)) for d in DISTANCES for a in ANGLES]
    for x, y, text in points:
        note = axis.annotate(
            literal(text), (x, y), (0, 0), textcoords="offset points", fontsize=size, annotation_clip=False
        )
        drawn = note.get_window_extent(figure.canvas.get_renderer())
        at = axis.transData.transform((x, y))
        boxes = [_box(at, pixels * dx, pixels * dy, drawn.width, drawn.height) for dx, dy in offsets]
        covered, inside = _shared(boxes, occupied).sum(1), _shared(boxes, [frame.extents])[:, 0]
        crossed = [_crossed(at, at + pixels * np.array(offset), labels) for offset in offsets]
        costs = covered + 9 * (drawn.width * drawn.height - inside) + 9 * pixels * np.array(crossed)
        chosen = int(np.argmin(np.round(costs, 3)))  # the nearest of equally good places
        dx, dy = offsets[chosen]
        note.set(position=(size * dx, size * dy), ha=_side(dx, "left", "right"), va=_side(dy, "bottom", "top"))
        occupied.append(boxes[chosen].extents)
        labels.append(boxes[chosen])
        if np.hypot(dx, dy) > 1.5:
            line = {"arrowstyle": "-", "lw": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2}
            axis.annotate("", (x, y), (size * dx, size * dy), textcoords="offset points", arrowprops=line)


def _side(offset: float, positive: str, negative: str) -> str:
    return "center" if abs(offset) < 1e-3 else positive if offset > 0 else negative


def _box(at: np.ndarray, dx: float, dy: float, width: float, height: float) -> Bbox:
    """The box of a text of this size, aligned to the side that faces its point."""
    back = [0.5 - 0.5 * float(np.sign(round(offset, 3))) for offset in (dx, dy)]
    left, low = np.add(at, (dx, dy)) - np.multiply(back, (width, height))
    return Bbox.from_bounds(left, low, width, height)


def _crossed(start: np.ndarray, end: np.ndarray, labels: Sequence[Bbox]) -> int:
    """Number of points, of twenty on the line to a label, that other labels cover."""
    line = [start + share * (end - start) for share in np.linspace(0, 1, 20)]
    return sum(label.contains(float(x), float(y)) for x, y in line for label in labels)


def _around(axis: Axes, x: float, y: float, radius: float) -> Bbox:
    across, along = axis.transData.transform((x, y))
    return Bbox([[across - radius, along - radius], [across + radius, along + radius]])


def _shared(boxes: Sequence[Bbox], others: Sequence[tuple[float, ...]]) -> np.ndarray:
    """Area of the overlap of each box with each extent, in square pixels ``[boxes, others]``."""
    one, other = np.array([b.extents for b in boxes])[:, None], np.array(others)[None]
    sides = np.minimum(one[..., 2:], other[..., 2:]) - np.maximum(one[..., :2], other[..., :2])
    area: np.ndarray = sides.clip(0).prod(-1)
    return area
