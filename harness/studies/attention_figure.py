"""The figure of [STOP] attention over a prefix (STOP, Fig. 7), by token and by kind of token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import PowerNorm

from harness import advice, registry
from harness.api import Path as Sampled
from harness.api import PathpruneError, Task
from harness.learn import checkpoints
from harness.loop import check
from harness.replay.stats import bootstrap
from harness.report.figures import style
from harness.studies.attention import AttentionMass, read_attention

KINDS = ("prompt", "number", "letter", "word", "sign", "[STOP]")
ENDS = ("highest", "lowest")
SHOWN = 32  # tokens shown of a longer prefix, around the most attention
COLUMNS = ["panel", "which", "score", "place", "token", "last", "mean", "low", "high"]
Scored = tuple[list[list[Sampled]], list[np.ndarray], Any]


def scored(
    task: Task, engine: Any, pruner: str = "stop", prefix: int | None = None, problems: int = 8, n: int = 16, seed: int = 0
) -> Scored:  # fmt: skip
    """Launch prefixes of test problems and score them.

    Returns:
        (paths of each problem, their scores, the pruner's adapter).

    Raises:
        PathpruneError: the pruner appends no tokens.
    """
    plugin = registry.pruner(pruner)
    checkpoints.attach(plugin, engine)
    paths = engine.launch(task.problems("test", problems), n, prefix or task.defaults.prefixes[0], seed)
    scores = [check(plugin.pruner, group, engine, task, seed)[0] for group in paths]
    adapter = getattr(plugin.pruner, "adapter", None)
    if adapter is None:
        raise PathpruneError(
            f"{pruner} appends no tokens to a prefix, so it has no attention to show; take {advice.option(pruner='stop')}"
        )
    return paths, scores, adapter


def stop_attention(engine: Any, paths: Sequence[Sampled], adapter: Any) -> np.ndarray:
    """Attention mass of the [STOP] tokens on each prefix token, mean over heads, float32 ``[n, layers, T_s, L]``.

    The rest of the mass is on the prompt and the [STOP] tokens; see ``harness.studies.attention``."""
    return read_attention(engine, paths, adapter).prefix


def kind_of(token: str) -> str:
    """number, letter (a single one: a variable, an option), word or sign (white space too)."""
    text = token.strip()
    if any(c.isdigit() for c in text):
        return "number"
    if not any(c.isalpha() for c in text):
        return "sign"
    return "letter" if len(text) == 1 else "word"


def attention_data(
    engine: Any, problem_paths: Sequence[Sequence[Sampled]], scores: Sequence[np.ndarray], adapter: Any
) -> pd.DataFrame:
    """Panel "tokens": the highest and the lowest scoring prefix of the problem whose scores differ most, a row per token.

    ``last`` is the mass in the last layer, ``mean`` that over all layers, both means over the [STOP] tokens. Panel "kinds":
    mass per kind of token, mean over layers, of the highest and the lowest scoring quarter of each problem's prefixes,
    with 95 % intervals over problems."""
    paths = [p for group in problem_paths for p in group]
    reading = read_attention(engine, paths, adapter)
    starts = np.cumsum([0, *map(len, problem_paths)])
    widest = int(np.argmax([np.ptp(s) for s in scores]))
    extremes = starts[widest] + np.array([np.argmax(scores[widest]), np.argmin(scores[widest])])
    rows: list[tuple[Any, ...]] = []
    for which, index in zip(ENDS, extremes, strict=True):
        mass = reading.prefix[index].mean(1)  # [layers, L]
        score = float(scores[widest][index - starts[widest]])
        for t, token in enumerate(paths[index].tokens):
            text = engine.decode([token])
            rows.append(("tokens", which, score, t, text, mass[-1, t], mass[:, t].mean(), np.nan, np.nan))
    kinds = _by_kind(engine, paths, reading)
    for which, sign in zip(ENDS, (-1, 1), strict=True):
        quarters = [np.argsort(sign * s, kind="stable")[: max(1, len(s) // 4)] for s in scores]
        per_problem = np.array([kinds[a + q].mean(0) for a, q in zip(starts[:-1], quarters, strict=True)])
        mean_score = float(np.mean([s[q].mean() for s, q in zip(scores, quarters, strict=True)]))
        for number, kind in enumerate(KINDS):
            mass = bootstrap(per_problem[:, number])
            rows.append(("kinds", which, mean_score, number, kind, np.nan, mass.mean, mass.low, mass.high))
    return pd.DataFrame(rows, columns=COLUMNS)


def _by_kind(engine: Any, paths: Sequence[Sampled], reading: AttentionMass) -> np.ndarray:
    """Mass per path and kind, mean over layers and [STOP] tokens, ``[n, kinds]``; rows sum to 1."""
    out = np.zeros((len(paths), len(KINDS)))
    out[:, 0] = reading.prompt.mean((1, 2))
    out[:, -1] = reading.appended.sum(-1).mean((1, 2))
    mass = reading.prefix.mean((1, 2))
    for row, path in enumerate(paths):
        for t, token in enumerate(path.tokens):
            out[row, KINDS.index(kind_of(engine.decode([token])))] += mass[row, t]
    return out


def attention_figure(
    engine: Any, problem_paths: Sequence[Sequence[Sampled]], scores: Sequence[np.ndarray], adapter: Any, stem: Path,
    venue: str = "neurips",
) -> pd.DataFrame | None:  # fmt: skip
    """Plot two strips of tokens and a panel by kind of token. None if no problem has two prefixes to compare."""
    if not any(len(group) > 1 for group in problem_paths):
        return None
    data = attention_data(engine, problem_paths, scores, adapter)
    tokens, kinds = data[data.panel == "tokens"], data[data.panel == "kinds"]
    most = float(tokens[["last", "mean"]].max().max())
    with style.canvas(venue, 3, 1, height=1.75, height_ratios=[1, 1, 2.6]) as (figure, axes):
        for axis, which in zip(axes[:2, 0], ENDS, strict=True):
            image = _strip(axis, tokens[tokens.which == which], which, most)
        bar = figure.colorbar(image, ax=axes[:2, 0].tolist(), pad=0.01, fraction=0.03, aspect=12)
        bar.set_label("attention")
        bar.outline.set_visible(False)
        _kinds(axes[2, 0], kinds)
        style.save(figure, data, stem)
    return data


def _strip(axis: Any, part: pd.DataFrame, which: str, most: float) -> Any:
    """Plot tokens in a row, darker for more attention: the last layer above, the mean over layers below."""
    start = 0
    if len(part) > SHOWN:
        start = int(np.convolve(part["mean"], np.ones(SHOWN), "valid").argmax())
        part = part.iloc[start : start + SHOWN]
    image = axis.imshow(part[["last", "mean"]].T, cmap="Greys", norm=PowerNorm(0.5, 0, most), aspect="auto")
    texts = [repr(t)[1:-1].strip() or "␣" for t in part.token]
    widths = 0.6 * style.small() * np.array([len(t) for t in texts])  # about, in points
    room = 72 * axis.figure.get_figwidth() * 0.8 / max(1, len(texts))
    steep = bool(((widths[1:] + widths[:-1]) / 2 > room).any())
    axis.set_xticks(range(len(texts)), texts, rotation=90 if steep else 0)
    axis.set_yticks([0, 1], ["last layer", "all layers"])
    axis.set_xticks(np.arange(len(texts) + 1) - 0.5, minor=True)
    axis.grid(which="minor", axis="x", color="0.85", lw=0.4)
    axis.tick_params(which="both", length=0)
    axis.spines[:].set_visible(False)
    where = f", tokens {start + 1} to {start + len(part)}" if start or len(texts) == SHOWN else ""
    axis.set_title(f"{which} score, {part.score.iloc[0]:.2f}{where}", loc="left")
    return image


def _kinds(axis: Any, kinds: pd.DataFrame) -> None:
    edge = {"edgecolor": "black", "lw": 0.5}
    looks = {
        "highest": {"facecolor": style.mark("internal-learned").colour, **edge},
        "lowest": {"facecolor": "white", "hatch": "////", **edge},
    }
    for which, shift in zip(ENDS, (-0.2, 0.2), strict=True):
        part = kinds[kinds.which == which]
        positions = part.place + shift
        axis.bar(positions, part["mean"], width=0.38, label=f"{which} scoring quarter", **looks[which])
        reach = np.nan_to_num(np.array([part["mean"] - part.low, part.high - part["mean"]])).clip(min=0)
        axis.errorbar(positions, part["mean"], yerr=reach, ls="", color="black", elinewidth=0.7, capsize=1.5)
    axis.set_xticks(range(len(KINDS)), KINDS)
    axis.set(ylabel="attention mass", xlabel="kind of token (mean over layers)")
    axis.legend(loc="best")
