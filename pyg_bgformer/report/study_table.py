"""A study's table, in Markdown and in LaTeX: rows against their references."""

import re

import pandas as pd

from pyg_bgformer.report.statistics import SCORES, compare
from pyg_bgformer.report.summary import markdown_row, statement

LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "_%&#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
    }
)


def references(runs: pd.DataFrame) -> dict[str, str]:
    """For each row of a study, in its order, the row that it is compared with."""
    rows = runs.drop_duplicates("method")
    return dict(zip(rows["method"], rows["reference"], strict=True))


def study_markdown(runs: pd.DataFrame, title: str) -> str:
    """The page of a study.

    Args:
        runs: From :func:`~pyg_bgformer.report.summary.collect`, with a column ``reference``.
        title: What the study asks.
    """
    head, *body = _cells(runs)
    lines = [markdown_row(head), "|" + "---|" * len(head), *map(markdown_row, body)]
    return "\n".join([f"# {title}", "", *lines, "", _legend(runs), "", f"{statement(runs)}."])


def study_latex(runs: pd.DataFrame, title: str) -> str:
    """The same as a LaTeX table, no wider than the text; needs the packages booktabs and graphicx."""
    head, *body = _cells(runs)
    caption = f"{title}. {_legend(runs)} {statement(runs)}."
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{_latex(caption)}}}",
            r"\resizebox{\textwidth}{!}{%",
            rf"\begin{{tabular}}{{{'l' * len(head)}}}",
            r"\toprule",
            _latex_row(head),
            r"\midrule",
            *map(_latex_row, body),
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
        ]
    )


def _cells(runs: pd.DataFrame) -> list[list[str]]:
    """Head and body of the table; where rows have different references, each names its own."""
    compared_with = references(runs)
    several = len(set(compared_with.values())) > 1
    scores = [score for score in SCORES if score in runs]
    head = ["feature", "row", *(["against"] if several else []), "seeds"]
    cells = [head + [name for score in scores for name in (SCORES[score], "difference")]]
    for line in compare(runs, compared_with):
        reference = compared_with.get(line.name, line.name)
        against = [reference if reference != line.name else ""] if several else []
        cells.append([line.feature, line.name, *against, str(line.seeds), *line.cells(scores, p_values=True)])
    return cells


def _legend(runs: pd.DataFrame) -> str:
    compared_with = references(runs)
    several = len(set(compared_with.values())) > 1
    against = "the row named under 'against'" if several else f"'{next(iter(compared_with.values()))}'"
    comparisons = sum(name != reference for name, reference in compared_with.items())
    return (
        f"Mean over seeds in %, ± half of its 95% interval (Student's t). Difference: from {against}, paired by "
        "seed; p of the two-sided paired t-test, not corrected for the number of rows that are compared "
        f"({comparisons}); bold where the interval leaves zero out."
    )


def _latex_row(cells: list[str]) -> str:
    return " & ".join(map(_latex, cells)) + r" \\"


def _latex(text: str) -> str:
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text.translate(LATEX))
