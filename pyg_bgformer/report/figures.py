"""Figures of a study: means with intervals, the best score by trials, and what was logged by epoch."""

import textwrap
from itertools import product
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pyg_bgformer.report.colors import FAINT
from pyg_bgformer.report.statement import statement
from pyg_bgformer.report.statistics import SCORES, compare

FEATURE = "embedding"
"""What is deployed, and drawn."""

WIDTH, ROW_HEIGHT, MARGIN = 10.0, 0.28, 1.7
"""In inches: of the figure, of a row, and above and below all rows."""


def draw_study(runs: pd.DataFrame, title: str, path: Path) -> None:
    """Writes the figure of a study as PNG.

    Args:
        runs: From :func:`~pyg_bgformer.report.collect.collect`, with the column ``reference``.
        title: What the study asks.
        path: Where to.
    """
    figure = study_figure(runs)
    figure.suptitle(title, fontsize="medium")
    first = runs["reference"].iloc[0]
    note = f"Embedding; mean and its 95% interval, seeds as rings, dashed: '{first}'. {statement(runs)}."
    figure.supxlabel("\n".join(textwrap.wrap(note, 150)), fontsize="x-small")
    figure.savefig(path, dpi=150, format="png")


def study_figure(runs: pd.DataFrame) -> Figure:
    """Returns a figure with one panel a score: the mean of each row, its interval, and every seed as a ring.

    Args:
        runs: From :func:`~pyg_bgformer.report.collect.collect`, with the column ``reference``.
    """
    trained = runs[(runs["feature"] == FEATURE) & (runs["encoder"] == "trained")]
    lines = compare(trained)
    first = runs["reference"].iloc[0]
    scores = [score for score in SCORES if score in runs]
    figure = Figure(figsize=(WIDTH, MARGIN + ROW_HEIGHT * len(lines)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(scores), sharey=True, squeeze=False)[0]
    for panel, score in zip(panels, scores, strict=True):
        for y, line in enumerate(lines):
            if score not in line.means:
                continue
            values = 100 * trained.loc[trained["row"] == line.row, score]
            panel.plot(values, [y] * len(values), "o", color="0.6", markersize=4, fillstyle="none", zorder=1)
            mean, half_width, _, seeds = line.means[score]
            interval = half_width if seeds > 1 else None
            panel.errorbar(mean, y, xerr=interval, fmt="o", color="C0", markersize=5, capsize=3)
            if line.row == first:
                panel.axvline(mean, color="0.4", linestyle="--", linewidth=1, zorder=0)
        panel.set_xlabel(f"{SCORES[score]} in %")
        panel.grid(axis="x", color=FAINT)
        panel.set_axisbelow(True)
    panels[0].set_yticks(range(len(lines)), [line.row for line in lines])
    panels[0].set_ylim(len(lines) - 0.4, -0.6)
    return figure


def draw_tuning(trials: pd.DataFrame, score: str, title: str, path: Path) -> None:
    """Writes a PNG with the best score of each row after as many trials.

    Args:
        trials: One line a trial: ``row``, ``trial``, ``score``.
        score: Name of the score.
        title: What the study asks.
        path: Where to.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    styles = product(("-", "--", ":", "-."), (f"C{number}" for number in range(10)))
    for (row, of_row), (line, color) in zip(trials.groupby("row", sort=False), styles, strict=False):
        best = 100 * of_row["score"].cummax()
        panel.step(of_row["trial"] + 1, best, line, color=color, where="post", marker=".", label=row)
    panel.set_xlabel("trials; the first is the recipe as it is")
    panel.set_ylabel(f"best {score} so far on validation folds, in %")
    panel.set_title(title, fontsize="medium")
    panel.grid(color="0.9")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150, format="png")


def draw_epochs(epochs: pd.DataFrame, column: str, label: str, path: Path) -> None:
    """Writes a PNG with one line a row: the mean over seeds after each epoch, and every seed thin.

    Args:
        epochs: One line an epoch of a run: ``row``, ``seed``, ``epoch`` and what was logged.
        column: What is drawn.
        label: Its name in the figure.
        path: Where to.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    styles = product(("-", "--", ":", "-."), (f"C{number}" for number in range(10)))
    for (row, of_row), (line, color) in zip(epochs.groupby("row", sort=False), styles, strict=False):
        for _, of_seed in of_row.groupby("seed"):
            panel.plot(of_seed["epoch"], of_seed[column], line, color=color, linewidth=0.5, alpha=0.5)
        mean = of_row.groupby("epoch")[column].mean()
        panel.plot(mean.index, mean, line, color=color, marker=".", label=row)
    panel.set_xlabel("epoch")
    panel.set_ylabel(label)
    panel.set_ylim(bottom=0)
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.grid(color="0.9")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150, format="png")
