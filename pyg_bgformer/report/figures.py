"""A study's figure: one panel a score, the mean of each row with its interval, and every seed."""

import textwrap
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pyg_bgformer.report.statistics import SCORES, Line, compare
from pyg_bgformer.report.study_table import references
from pyg_bgformer.report.summary import statement

FEATURE = "embedding"
"""What is deployed, and drawn."""

WIDTH, ROW_HEIGHT, MARGIN = 10.0, 0.28, 1.7
"""In inches: of the figure, of a row, and above and below all rows."""


def draw_study(runs: pd.DataFrame, title: str, path: Path) -> None:
    """Writes a PNG.

    Args:
        runs: From :func:`~pyg_bgformer.report.summary.collect`, with a column ``reference``.
        title: What the study asks.
        path: Where to.
    """
    embeddings = runs[(runs["feature"] == FEATURE) & (runs["encoder"] == "trained")]
    lines = compare(embeddings, references(runs))
    scores = [score for score in SCORES if score in runs]
    figure = Figure(figsize=(WIDTH, MARGIN + ROW_HEIGHT * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for panel, score in zip(panels, scores, strict=True):
        _draw(panel, lines, embeddings, score)
    panels[0].set_yticks(range(len(lines)), [line.name for line in lines])
    panels[0].set_ylim(len(lines) - 0.4, -0.6)
    figure.suptitle(title, fontsize="medium")
    note = (
        f"Embedding; mean and its 95% interval, seeds as rings, dashed: '{_first(runs)}'. {statement(runs)}."
    )
    figure.supxlabel("\n".join(textwrap.wrap(note, 150)), fontsize="x-small")
    figure.savefig(path, dpi=150, format="png")


def _draw(panel: Axes, lines: list[Line], runs: pd.DataFrame, score: str) -> None:
    for y, line in enumerate(lines):
        if score not in line.estimates:
            continue
        mean, half_width, seeds = line.estimates[score]
        values = 100 * runs.loc[runs["method"] == line.name, score]
        panel.plot(values, [y] * len(values), "o", color="0.6", markersize=4, fillstyle="none", zorder=1)
        interval = half_width if seeds > 1 else None
        panel.errorbar(mean, y, xerr=interval, fmt="o", color="C0", markersize=5, capsize=3)
    first = next((line for line in lines if line.name == _first(runs)), None)
    if first is not None and score in first.estimates:
        panel.axvline(first.estimates[score].mean, color="0.4", linestyle="--", linewidth=1, zorder=0)
    panel.set_xlabel(f"{SCORES[score]} in %")
    panel.grid(axis="x", color="0.9")
    panel.set_axisbelow(True)


def _first(runs: pd.DataFrame) -> str:
    return next(iter(references(runs).values()))
