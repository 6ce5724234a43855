"""Figures of a study: means with intervals, the best score after each trial, and logged values by epoch."""

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
"""The feature that figures show, which is the one that saved models return."""

WIDTH, ROW_HEIGHT, MARGIN = 10.0, 0.28, 1.7
"""Width of the figure, height of a row, and height of everything above and below the rows, in inches."""


def draw_study(runs: pd.DataFrame, title: str, path: Path) -> None:
    """Writes the figure of a study as PNG.

    Args:
        runs: Runs from :func:`~pyg_bgformer.report.collect.collect`, with the column ``reference``.
        title: Title of the study.
        path: The file.
    """
    figure = study_figure(runs)
    figure.suptitle(title, fontsize="medium")
    first = runs["reference"].iloc[0]
    note = f"Embedding; mean and its 95% interval, seeds as rings, dashed: '{first}'. {statement(runs)}."
    figure.supxlabel("\n".join(textwrap.wrap(note, 150)), fontsize="x-small")
    figure.savefig(path, dpi=150, format="png")


def study_figure(runs: pd.DataFrame) -> Figure:
    """Returns a figure with a panel for each score: the mean of each row, its interval, and a ring for each seed.

    Args:
        runs: Runs from :func:`~pyg_bgformer.report.collect.collect`, with the column ``reference``.
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
    """Writes a PNG with the best score of each row after each trial.

    Args:
        trials: One line for each trial: ``row``, ``trial``, ``score`` as a fraction.
        score: Name of the score.
        title: Title of the study.
        path: The file.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    styles = product(("-", "--", ":", "-."), (f"C{number}" for number in range(10)))
    for (row, of_row), (line, color) in zip(trials.groupby("row", sort=False), styles, strict=False):
        best = 100 * of_row["score"].cummax()
        panel.step(of_row["trial"] + 1, best, line, color=color, where="post", marker=".", label=row)
    panel.set_xlabel("trials; the first one is the unchanged recipe")
    panel.set_ylabel(f"best {score} so far on validation folds, in %")
    panel.set_title(title, fontsize="medium")
    panel.grid(color="0.9")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150, format="png")


def draw_epochs(epochs: pd.DataFrame, column: str, label: str, path: Path) -> None:
    """Writes a PNG with a line for each row: the mean over seeds after each epoch. Thin lines are single seeds.

    Args:
        epochs: One line for each epoch of a run: ``row``, ``seed``, ``epoch`` and the logged values.
        column: The logged value that is drawn.
        label: Name of the value in the figure.
        path: The file.
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
