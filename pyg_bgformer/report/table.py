"""A run's result as one table."""

from typing import Any

from rich.table import Table

LABELS = {
    "map_at_r": "MAP@R",
    "r_precision": "R-precision",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "pair_f1": "pair F1",
}
"""Metrics of a result, in the order of the table, after Recall@K."""


def result_table(result: dict[str, Any]) -> Table:
    """The untrained and the trained encoder side by side, in %, from a run's ``result.json``.

    Where the best epoch was kept, the last one stands beside it.
    """
    untrained, trained, last = result["untrained"], result["trained"], result.get("last")
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


def _title(result: dict[str, Any]) -> str:
    config = result["config"]
    mark = " (partial copy: not comparable with published numbers)" if result["dataset_partial"] else ""
    if result.get("dataset_cropped", False):
        mark += " (images cut to annotated boxes: not comparable with published numbers)"
    return f"{config['data']['name']}{mark}, method {config['method']['name']}, seed {result['seed']}"


def _caption(result: dict[str, Any]) -> str:
    test = result["trained"]["embedding"]
    refined = result["refined_features"]
    depend = (
        f"\n{', '.join(refined)}: test images refined by each other, not what is deployed" if refined else ""
    )
    return (
        f"{test['queries']} queries of {test['classes']} unseen classes; protocol {result['protocol']}: "
        f"{_tested(result)}\n{_setting(result)}\nlargest change of an embedding by its batch: "
        f"{result['leakage']:.1e} of its norm{depend}"
    )


def _setting(result: dict[str, Any]) -> str:
    encoder, data = result["config"]["encoder"], result["config"]["data"]
    return (
        f"{encoder['name']}, weights {result['weights']}, {encoder['embedding_dim']} dimensions, "
        f"{data['image_size']} px, {'partial' if result['dataset_partial'] else 'whole'} data; {result['device']}"
    )


def _tested(result: dict[str, Any]) -> str:
    last = result.get("last")
    if last is None:
        return "tested once, after the last epoch"
    gap = 100 * (result["trained"]["embedding"]["recall_at_1"] - last["embedding"]["recall_at_1"])
    return (
        f"epoch {result['trained_epoch']} of {result['epochs']}, chosen on the test images themselves; gap to the "
        f"last epoch {gap:+.1f} Recall@1 of the embedding"
    )
