"""Figures from records. Each function returns its data, which is also written next to the figure.

``FIGURES`` are the figures of a ``harness.report.Group``: ``figure(group, stem, venue="neurips")``. They return None if
there is nothing to plot. ``harness.studies.attention_figure`` is separate because it needs the engine.
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
