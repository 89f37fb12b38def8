"""An ablation: each variant's gain over random, and its paired distance to the first variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from harness.figures import style


def ablation_figure(data: pd.DataFrame, question: str, stem: Path, venue: str = "neurips") -> None:
    """Two panels that share their rows, 95 % intervals over problems; saves ``stem``.png, .pdf and .csv."""
    at = np.arange(len(data))[::-1]
    colour = style.mark("internal-learned").colour
    panels = (("gain", "low", "high"), ("difference", "difference_low", "difference_high"))
    titles = ("gain over random", f"minus {data.label.iloc[0]}, paired")
    with style.canvas(venue, 1, 2, height=0.55 + 0.13 * len(data), sharey=True) as (figure, axes):
        for axis, (mean, low, high), title in zip(axes[0], panels, titles, strict=True):
            middle = data[mean].to_numpy()
            spread = np.abs(np.stack([middle - data[low], data[high] - middle]))
            axis.errorbar(middle, at, xerr=spread, fmt="o", ms=3, color=colour, lw=1)
            axis.axvline(0, color="0.6", lw=0.6, zorder=0)
            axis.set_xlabel(title)
        axes[0][0].set_yticks(at, data.label)
        figure.suptitle(question)
        style.save(figure, data, stem)
