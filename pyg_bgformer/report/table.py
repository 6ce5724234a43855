"""A run's result as one table."""

from typing import Any

from rich.table import Table

from pyg_bgformer.runs.result import RunResult

LABELS = {
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "pair_f1": "pair F1",
}
"""Metrics of a result, in the order of the table, after Recall@K."""


def result_table(result: RunResult) -> Table:
    """Returns a table of the untrained and the trained encoder side by side, in %.

    Where the best epoch was kept, the last one stands beside it.

    Args:
        result: Of a finished run.
    """
    untrained, trained, last = result.untrained, result.trained, result.last
    table = Table(
        title=_title(result), title_justify="left", caption=_caption(result), caption_justify="left"
    )
    table.add_column("%")
    for feature in trained:
        for when, side in (("untrained", untrained), ("trained", trained)):
            if feature in side:
                table.add_column(f"{feature}\n{when}", justify="right")
        if feature in untrained:
            table.add_column("gain", justify="right")
        if last is not None:
            table.add_column(f"{feature}\nlast epoch", justify="right")
    for label, key in metric_rows(trained["embedding"]):
        cells = []
        for feature in trained:
            after = 100 * trained[feature][key]
            if feature not in untrained:
                cells.append(f"{after:.1f}")
            else:
                before = 100 * untrained[feature][key]
                cells += [f"{before:.1f}", f"{after:.1f}", f"{after - before:+.1f}"]
            if last is not None:
                cells.append(f"{100 * last[feature][key]:.1f}")
        table.add_row(label, *cells)
    return table


def metric_rows(metrics: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and key of each metric that is there, in the order of the table."""
    recalls = [key for key in metrics if key.startswith("recall_at_")]
    rows = [(f"Recall@{key.rpartition('_')[2]}", key) for key in recalls]
    return rows + [(label, key) for key, label in LABELS.items() if key in metrics]


def _title(result: RunResult) -> str:
    config, origin = result.config, result.provenance
    mark = " (partial copy: not comparable with published numbers)" if origin.dataset_partial else ""
    if origin.dataset_cropped:
        mark += " (images cut to annotated boxes: not comparable with published numbers)"
    return f"{config['data']['name']}{mark}, method {config['method']['name']}, seed {result.seed}"


def _caption(result: RunResult) -> str:
    test, refined = result.trained["embedding"], result.refined_features
    depend = (
        f"\n{', '.join(refined)}: test images refined by each other, not what is deployed" if refined else ""
    )
    return (
        f"{test['queries']} queries of {test['classes']} unseen classes; protocol {result.protocol}: "
        f"{_tested(result)}\n{_setting(result)}\nbatch independence: "
        f"{'FAILED' if result.batch_dependent else 'OK'} "
        f"(largest relative change {result.batch_dependence:.1e}){depend}"
    )


def _setting(result: RunResult) -> str:
    encoder, data, origin = result.config["encoder"], result.config["data"], result.provenance
    return (
        f"{encoder['name']}, weights {origin.weights}, {encoder['embedding_dim']} dimensions, "
        f"{data['image_size']} px, {'partial' if origin.dataset_partial else 'whole'} data; {origin.device}"
    )


def _tested(result: RunResult) -> str:
    if result.last is None:
        return "tested once, after the last epoch"
    gap = 100 * (result.trained["embedding"]["recall_at_1"] - result.last["embedding"]["recall_at_1"])
    return (
        f"epoch {result.trained_epoch} of {result.epochs}, chosen on the test images themselves; gap to the "
        f"last epoch {gap:+.1f} Recall@1 of the embedding"
    )
