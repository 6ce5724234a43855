"""The sections of a page with numbers: scores, charts and provenance."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from pyg_bgformer.report.curves import line_chart
from pyg_bgformer.report.statistics import SCORES
from pyg_bgformer.report.tables import LABELS
from pyg_bgformer.runs.result import RunResult


def tiles(result: RunResult) -> list[dict[str, str]]:
    """Returns the main scores of the embedding before and after training, as text in %.

    Args:
        result: The result of a run.
    """
    before, after = result.untrained.get("embedding", {}), result.trained["embedding"]
    return [
        {
            "name": f"{name} of the embedding in %",
            "before": f"{100 * before[key]:.1f}" if key in before else "",
            "after": f"{100 * after[key]:.1f}",
            "gain": f"{100 * (after[key] - before[key]):+.1f}" if key in before else "",
        }
        for key, name in SCORES.items()
        if key in after
    ]


def score_table(result: RunResult) -> dict[str, list[Any]]:
    """Returns the head and the body of the table of all scores, in %.

    Args:
        result: The result of a run.
    """
    columns: list[tuple[str, dict[str, float]]] = []
    for feature, scores in result.trained.items():
        if feature in result.untrained:
            columns.append((f"{feature}, untrained", result.untrained[feature]))
        columns.append((f"{feature}, trained", scores))
        if result.last is not None:
            columns.append((f"{feature}, last epoch", result.last[feature]))
    measured = result.trained["embedding"]
    recalls = {key: f"R@{key.rpartition('_')[2]}" for key in measured if key.startswith("recall_at_")}
    return {
        "head": ["", *(name for name, _ in columns)],
        "body": [
            [label, *(f"{100 * scores[key]:.1f}" for _, scores in columns)]
            for key, label in {**recalls, **LABELS}.items()
            if key in measured
        ],
    }


def charts(result: RunResult, history: pd.DataFrame) -> list[Figure]:
    """Returns charts of the loss, the learning rates, other measurements of each epoch, and Recall@K.

    Args:
        result: The result of a run.
        history: The content of ``metrics.csv``, one row for each epoch.
    """
    epochs, names = history["epoch"].tolist(), [str(name) for name in history]
    rates = {name.removeprefix("lr_"): history[name].tolist() for name in names if name.startswith("lr_")}
    by_rate: dict[tuple[float, ...], list[str]] = {}
    for name, values in rates.items():
        by_rate.setdefault(tuple(values), []).append(name)
    terms = [name for name in ("loss", "plain", "refined", "network", "generator") if name in history]
    scores = [name for name in names if name.endswith("recall_at_1")]
    graph = {"same_class_attention": "attention", "edge_homophily": "edges"}
    found = [
        line_chart(epochs, {name: history[name].tolist() for name in terms}, "Loss", "epoch"),
        line_chart(
            epochs,
            {", ".join(names): list(values) for values, names in by_rate.items()},
            "Learning rate",
            "epoch",
        ),
    ]
    if scores:
        lines = {name.removesuffix("_recall_at_1"): (100 * history[name]).tolist() for name in scores}
        found.append(line_chart(epochs, lines, "Recall@1 by epoch in %", "epoch"))
    if "feature_scale" in history:
        lines = {"feature_scale": history["feature_scale"].tolist()}
        found.append(line_chart(epochs, lines, "Spread of the features, first batch = 1", "epoch"))
    if any(name in history for name in graph):
        lines = {graph[name]: (100 * history[name]).tolist() for name in graph if name in history}
        found.append(line_chart(epochs, lines, "Batch graph: share within a class in %", "epoch"))
    ks = [key for key in result.trained["embedding"] if key.startswith("recall_at_")]
    after, before = (
        {feature: [100 * scores[key] for key in ks] for feature, scores in side.items()}
        for side in (result.trained, result.untrained)
    )
    title, numbers = "Recall@K in %; untrained dashed", [key.rpartition("_")[2] for key in ks]
    found.append(line_chart(range(len(ks)), after, title, "K", before=before, x_names=numbers))
    return found


def provenance_rows(result: RunResult) -> list[tuple[str, str]]:
    """Returns the name and the value of everything that identifies the run besides its recipe.

    Args:
        result: The result of a run.
    """
    origin = result.provenance
    packages = ", ".join(f"{name} {version}" for name, version in origin.packages.items())
    return [
        ("dataset", f"{origin.dataset}, manifest {origin.dataset_manifest_sha256}"),
        ("weights", f"{origin.weights}, {origin.weights_sha256 or 'no file'}"),
        ("seed", str(result.seed)),
        ("tested epoch", f"{result.trained_epoch} of {result.epochs}"),
        ("time of training", f"{result.train_seconds:.0f} s on {origin.device}, {origin.threads} threads"),
        ("commit", origin.git_commit or "unknown"),
        ("python", origin.python),
        ("packages", packages),
    ]
