"""Tables: of a run for the terminal, and of several runs in Markdown and LaTeX."""

import re

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.statement import statement
from pyg_bgformer.report.statistics import SCORES, Estimate, compare
from pyg_bgformer.runs.result import RunResult

LABELS = {**SCORES, "r_precision": "R-precision", "ami": "AMI", "ari": "ARI", "pair_f1": "pair F1"}
"""Scores of a run in the order of its table. Recall@K for other K follow."""


def verdict(result: RunResult) -> str:
    """Returns one line that says how training changed the scores of the embedding.

    Args:
        result: The result of a run.
    """
    before, after = result.untrained.get("embedding"), result.trained["embedding"]
    map_at_r, recall = (
        change(before[name], after[name]) if before else f"{100 * after[name]:.1f}"
        for name in ("map_at_r", "recall_at_1")
    )
    tested = f"{after['classes']} {result.tested}"
    if result.tested == "training images":
        tested = f"the training images ({after['classes']} classes)"
    return f"MAP@R on {tested}: {map_at_r}, R@1 {recall} (embedding)"


def result_table(result: RunResult, verbose: bool = False) -> Group:
    """Returns the verdict on a run and a table of its scores in %, for the untrained and the trained encoder.

    If the protocol chose the epoch, the table also has the scores of the last epoch.

    Args:
        result: The result of a run.
        verbose: Whether to show all scores. Otherwise the table has R@1, MAP@R and NMI.
    """
    config, origin, trained = result.config, result.provenance, result.trained
    table = Table(box=SIMPLE_HEAD)
    table.add_column("%")
    for feature in trained:
        states = "\nuntrained -> trained" if feature in result.untrained else ""
        table.add_column(f"{feature}{states}", justify="right")
        if result.last is not None:
            table.add_column(f"{feature}\nlast epoch", justify="right")
    measured = trained["embedding"]
    recalls = {name: f"R@{name.rpartition('_')[2]}" for name in measured if name.startswith("recall_at_")}
    for name, label in ({**LABELS, **recalls} if verbose else SCORES).items():
        if name not in measured:
            continue
        cells = []
        for feature, scores in trained.items():
            before = result.untrained.get(feature)
            cells.append(change(before[name], scores[name]) if before else f"{100 * scores[name]:.1f}")
            if result.last is not None:
                cells.append(f"{100 * result.last[feature][name]:.1f}")
        table.add_row(label, *cells)
    setting = (
        f"{config['data']['name']}, method {config['method']['name']}, seed {result.seed}: {measured['queries']} "
        f"queries, {config['data']['image_size']} px; {config['encoder']['name']}, weights {origin.weights}, "
        f"{config['encoder']['embedding_dim']} dimensions; {origin.device}"
    )
    return Group(Text(verdict(result), style="bold"), table, *map(Text, [setting, *notes(result)]))


def notes(result: RunResult) -> list[str]:
    """Returns what a reader of a run's scores must know: how the epoch was chosen, and when not to compare them.

    Args:
        result: The result of a run.
    """
    tested = (
        "tested once, after the last epoch" if result.untrained else "an existing model, not trained here"
    )
    if result.last is not None:
        gap = 100 * (result.trained["embedding"]["recall_at_1"] - result.last["embedding"]["recall_at_1"])
        tested = (
            f"epoch {result.trained_epoch} of {result.epochs}, chosen on the test images; the R@1 of the embedding "
            f"differs from the last epoch by {gap:+.1f}"
        )
    origin, lines = result.provenance, [f"protocol {result.protocol}: {tested}"]
    if result.tested == "training images":
        lines.append(
            "tested on the training images: the scores do not say how good the encoder is on other images"
        )
    if result.tested == "seen classes":
        lines.append(
            "tested on classes of the training: the scores do not say how good the encoder is on new classes"
        )
    if origin.dataset_partial:
        lines.append("partial copy of the dataset: not comparable with published numbers")
    if origin.dataset_cropped:
        lines.append("images cut to annotated boxes: not comparable with published numbers")
    if result.refined_features:
        lines.append(
            f"{', '.join(result.refined_features)}: test images refine each other; a saved model does not do this"
        )
    independent = "FAILED" if result.batch_dependent else "OK"
    lines.append(f"batch independence: {independent} (largest relative change {result.batch_dependence:.1e})")
    return lines


def change(before: float, after: float) -> str:
    """Returns two fractions as text in %, for example ``14.0 -> 60.4``."""
    return f"{100 * before:.1f} -> {100 * after:.1f}"


def against(runs: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Returns runs with the column ``reference``. All are compared with one row, which comes first.

    Args:
        runs: Runs from :func:`~pyg_bgformer.report.collect.collect`.
        reference: Name of the row.

    Raises:
        InputError: If the row has no run.
    """
    rows = set(runs["row"])
    if reference not in rows:
        raise InputError(f"no run of '{reference}'; found {', '.join(sorted(rows))}")
    order = {row: (row != reference, row) for row in rows}
    return runs.assign(reference=reference).sort_values(
        "row", key=lambda names: names.map(order), kind="stable"
    )


def comparison_markdown(runs: pd.DataFrame, title: str = "") -> str:
    """Returns a Markdown page: the table of several runs, its legend, and the settings that its scores depend on.

    Args:
        runs: Runs from :func:`~pyg_bgformer.report.collect.collect`, with the column ``reference``.
        title: Heading of the page. Empty for no heading.
    """
    parts = [markdown_table(comparison(runs)), legend(runs), f"{statement(runs)}."]
    return "\n\n".join([f"# {title}", *parts] if title else parts)


def comparison_latex(runs: pd.DataFrame, title: str) -> str:
    """Returns the table of several runs in LaTeX, as wide as the text. It needs booktabs and graphicx.

    Args:
        runs: Runs from :func:`~pyg_bgformer.report.collect.collect`, with the column ``reference``.
        title: First sentence of the caption.
    """
    tabular = comparison(runs).map(latex).rename(columns=latex).to_latex(index=False, escape=False).strip()
    caption = latex(f"{title}. {legend(runs)} {statement(runs)}.")
    resized = f"\\resizebox{{\\textwidth}}{{!}}{{%\n{tabular}}}"
    return f"\\begin{{table}}\n\\caption{{{caption}}}\n{resized}\n\\end{{table}}"


def latex(text: str) -> str:
    """Returns text for LaTeX. Text between ``**`` becomes bold."""
    text = text.replace("\\", r"\textbackslash ")
    text = re.sub(r"([_%&#${}])", r"\\\1", text)
    for sign, code in {
        "~": r"\textasciitilde{}",
        "^": r"\^{}",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
    }.items():
        text = text.replace(sign, code)
    return re.sub(r"\*\*(.+?)\*\*", r"\\textbf{\1}", text)


def comparison(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the cells of the table of several runs as text.

    Means have a 95% interval, and differences the p-value of the paired t-test. A difference is bold if zero is
    outside its interval.
    """
    several = len(set(runs["reference"])) > 1
    lines = []
    for line in compare(runs):
        cells = {"feature": line.feature, "row": line.row}
        if several:
            cells["against"] = line.reference
        cells["seeds"] = str(line.seeds)
        for score, label in SCORES.items():
            if score in runs:
                cells[label] = line.means[score].text() if score in line.means else ""
                cells[f"{label} difference"] = difference_text(line.differences.get(score))
        lines.append(cells)
    return pd.DataFrame(lines)


def difference_text(difference: Estimate | None) -> str:
    """Returns a difference in Markdown, or an empty text if there is none."""
    if difference is None:
        return ""
    text = f"**{difference.text('+')}**" if difference.clear else difference.text("+")
    if difference.seeds < 2:
        return text
    return f"{text} ({'p < 0.001' if difference.p_value < 0.001 else f'p = {difference.p_value:.3f}'})"


def legend(runs: pd.DataFrame) -> str:
    """Returns how to read the table of several runs."""
    references = runs.drop_duplicates("row").set_index("row")["reference"]
    named = f"'{references.iloc[0]}'" if len(set(references)) == 1 else "the row named under 'against'"
    return (
        f"Mean over seeds in %, ± half of its 95% interval (Student's t). Difference: from {named}, paired by "
        "seed; p of the two-sided paired t-test, not corrected for the number of rows that are compared "
        f"({(references != references.index).sum()}); bold where the interval leaves zero out."
    )


def tuning_markdown(title: str, budget: str, trials: pd.DataFrame, settings: pd.DataFrame) -> str:
    """Returns a Markdown page about a tuning: the budget, the best trial of each row, and the settings found.

    Args:
        title: Title of the study.
        budget: A sentence about the budget of each row.
        trials: One line for each trial: ``row``, ``trial``, ``score`` as a fraction, ``failed``.
        settings: One line for each row and setting.
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
    tables = [markdown_table(pd.DataFrame(rows)), markdown_table(settings)]
    return "\n\n".join([f"# {title}: tuning", budget, *tables])


def markdown_table(table: pd.DataFrame) -> str:
    """Returns a table in Markdown."""
    head, *body = [list(table.columns), *table.itertuples(index=False, name=None)]
    lines = [[str(cell).replace("|", r"\|") for cell in line] for line in (head, *body)]
    lines.insert(1, ["---"] * len(head))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
