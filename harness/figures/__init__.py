"""Figures from records. Every function returns its data, and the file beside the picture holds it.

``FIGURES``: those made of a ``harness.report.Group``, ``figure(group, stem, venue="neurips")``; None where there is nothing
to draw. ``harness.figures.attention`` needs the engine itself.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from harness.figures.calibration import calibration_figure
from harness.figures.overhead import overhead_figure
from harness.figures.scaling import GAMMAS, scaling_data, scaling_figure
from harness.figures.style import VENUES
from harness.figures.success import success_figure
from harness.figures.survival import survival_figure
from harness.figures.taxonomy import taxonomy_figure

FIGURES: dict[str, Callable[..., pd.DataFrame | None]] = {
    "scaling": scaling_figure,
    "taxonomy": taxonomy_figure,
    "survival": survival_figure,
    "calibration": calibration_figure,
    "success": success_figure,
    "overhead": overhead_figure,
}

__all__ = ["FIGURES", "GAMMAS", "VENUES", "scaling_data", "scaling_figure"]
