"""How the rows of a study were tuned: what was searched, what was found, and the best score after each trial."""

from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from pyg_bgformer.report.summary import markdown_row


def tuning_markdown(title: str, budget: str, trials: pd.DataFrame, settings: pd.DataFrame) -> str:
    """Returns the page of a tuning.

    Args:
        title: What the study asks.
        budget: What each row was given.
        trials: One line a trial: ``row``, ``trial``, ``score``, ``failed``.
        settings: One line a row and setting: what was searched, the recipe's value, and the best one.
    """
    rows = []
    for row, of_row in trials.groupby("row", sort=False):
        best = of_row.sort_values("score", ascending=False, kind="stable").iloc[0]
        rows.append(
            {
                "row": row,
                "recipe": f"{100 * of_row['score'].iloc[0]:.1f}",
                "best": f"{100 * best['score']:.1f}",
                "found in trial": best["trial"],
                "failed trials": (of_row["failed"] != "").sum(),
            }
        )
    lines = [*_lines(pd.DataFrame(rows)), "", *_lines(settings)]
    return "\n".join([f"# {title}: tuning", "", budget, "", *lines])


def draw_tuning(title: str, score: str, trials: pd.DataFrame, path: Path) -> None:
    """Writes a PNG: the best score of each row after as many trials.

    Args:
        title: What the study asks.
        score: Name of the score.
        trials: One line a trial: ``row``, ``trial``, ``score``.
        path: Where to.
    """
    figure = Figure(figsize=(8.0, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    styles = cycle(("-", "--", ":"))
    style = next(styles)
    for number, (row, of_row) in enumerate(trials.groupby("row", sort=False)):
        style = style if number % 10 else next(styles)  # ten colours
        best = 100 * of_row["score"].cummax()
        axes.step(of_row["trial"] + 1, best, where="post", linestyle=style, label=row, marker=".")
    axes.set_xlabel("trials; the first is the recipe as it is")
    axes.set_ylabel(f"best validation {score} so far, in %")
    axes.grid(color="0.9")
    axes.set_title(title, fontsize="medium")
    figure.legend(loc="outside right upper", fontsize="small")
    figure.savefig(path, dpi=150, format="png")


def _lines(table: pd.DataFrame) -> list[str]:
    head = [str(column) for column in table.columns]
    body = [markdown_row([str(cell) for cell in row]) for row in table.itertuples(index=False)]
    return [markdown_row(head), "|" + "---|" * len(head), *body]
