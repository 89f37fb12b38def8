"""Labels beside points that cover neither each other, nor points, nor the frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

DISTANCES = (0.7, 1.4, 2.2, 3.2, 4.5, 6.0, 8.0)  # of a label from its point, in font sizes
ANGLES = np.deg2rad([0, 180, 45, -45, 135, -135, 90, -90])


def label_points(
    axis: Axes, points: Sequence[tuple[float, float, str]], others: Sequence[tuple[float, float]] = ()
) -> None:
    """Write each text near its point, at the first place that is free; a place further off gets a thin line.

    ``others`` are points without a label. Data coordinates; the layout must be final, and labels stay inside the axes. Where no place is free, the one
    that overlaps least is taken."""
    figure: Any = axis.figure
    size = float(axis.xaxis.label.get_fontsize()) - 1
    pixels = size * figure.dpi / 72
    taken = [_around(axis, x, y, 0.35 * pixels) for x, y in [(x, y) for x, y, _ in points] + list(others)]
    frame = axis.get_window_extent()
    for x, y, text in points:
        best, chosen = np.inf, None
        for distance, angle in ((d, a) for d in DISTANCES for a in ANGLES):
            note = _note(axis, x, y, text, distance * size, angle, size)
            box = note.get_window_extent(figure.canvas.get_renderer())
            cost = sum(_shared(box, other) for other in taken) + 9 * (box.width * box.height - _shared(box, frame))
            if cost < best - 1e-6:
                if chosen is not None:
                    chosen[0].remove()
                best, chosen = cost, (note, box)
            else:
                note.remove()
            if best <= 1e-6:
                break
        if chosen is not None:
            taken.append(chosen[1])


def _note(axis: Axes, x: float, y: float, text: str, distance: float, angle: float, size: float) -> Any:
    dx, dy = distance * np.cos(angle), distance * np.sin(angle)
    across = "left" if dx > 1e-3 else "right" if dx < -1e-3 else "center"
    along = "bottom" if dy > 1e-3 else "top" if dy < -1e-3 else "center"
    line = {"arrowstyle": "-", "lw": 0.4, "color": "0.5", "shrinkA": 0, "shrinkB": 2}
    return axis.annotate(
        text, (x, y), (dx, dy), textcoords="offset points", ha=across, va=along, fontsize=size, annotation_clip=False,
        arrowprops=line if distance > 1.5 * size else None,
    )  # fmt: skip


def _around(axis: Axes, x: float, y: float, radius: float) -> Bbox:
    across, along = axis.transData.transform((x, y))
    return Bbox([[across - radius, along - radius], [across + radius, along + radius]])


def _shared(one: Bbox, other: Bbox) -> float:
    """Area of the overlap, in square pixels."""
    both = Bbox.intersection(one, other)
    return 0.0 if both is None else float(both.width * both.height)
