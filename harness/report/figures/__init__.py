"""Figures from records. Every function returns its data, and the file beside the picture holds it.

``FIGURES``: those made of a ``harness.report.Group``, ``figure(group, stem, venue="neurips")``; None where there is nothing
to draw. ``harness.studies.attention_figure`` needs the engine itself.
"""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from harness.report.figures.calibration import calibration_figure
from harness.report.figures.overhead import overhead_figure
from harness.report.figures.scaling import scaling_figure
from harness.report.figures.style import VENUES
from harness.report.figures.success import success_figure
from harness.report.figures.survival import survival_figure
from harness.report.figures.taxonomy import taxonomy_figure
from harness.report.scaling import GAMMAS, scaling_data

FIGURES: dict[str, Callable[..., pd.DataFrame | None]] = {
    "scaling": scaling_figure,
    "taxonomy": taxonomy_figure,
    "survival": survival_figure,
    "calibration": calibration_figure,
    "success": success_figure,
    "overhead": overhead_figure,
}

__all__ = ["FIGURES", "GAMMAS", "VENUES", "scaling_data", "scaling_figure"]
