"""Several runs side by side: one row a run and feature, and means over seeds with differences from a reference."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.statistics import SCORES, compare
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import RunResult, read_result

METHODS_OWN = {"train": ("lr", "head_lr", "loss_lr", "clip_norm", "clip_value"), "encoder": ("head_norm",)}
"""Settings that belong to a method's recipe, beside its options and its loss."""


def collect(folders: Iterable[Path], labels: Sequence[str] | None = None) -> pd.DataFrame:
    """One row for each run, feature, and state of the encoder; scores as fractions.

    States are untrained and trained; and last, where trained is the best test epoch.

    Args:
        folders: Folders of finished runs that differ in the seed and in the method, with its loss, its learning
            rates, how it clips gradients, and whether its head begins with a norm.

    Raises:
        InputError: A folder without a result, or runs that differ in anything else.
    """
    results = [read_result(RunFolder(folder)) for folder in folders]
    if not results:
        raise InputError("no run to summarise: name the folders of finished runs")
    if labels is None:
        _check_comparable(results)
        labels = _labels([result.config["method"] for result in results])
    return pd.DataFrame(
        [
            {**_origin(result, label), "feature": feature, "encoder": encoder, **scores}
            for result, label in zip(results, labels, strict=True)
            for encoder in ("untrained", "trained", "last")
            for feature, scores in (getattr(result, encoder) or {}).items()
        ]
    )


def summary(runs: pd.DataFrame, reference: str) -> str:
    """A Markdown table of trained encoders: mean over seeds in %, its 95% interval, and differences.

    Intervals are Student's, for so few seeds wide. Differences are paired: taken for each seed that both methods
    have, then averaged; those whose interval leaves zero out are bold.

    Args:
        runs: From :func:`collect`.
        reference: The method that others are compared with.

    Raises:
        InputError: If there is no run of ``reference``.
    """
    methods = set(runs["method"])
    if reference not in methods:
        raise InputError(f"no run of '{reference}'; found {', '.join(sorted(methods))}")
    scores = [score for score in SCORES if score in runs]
    lines = [
        "| feature | method | seeds | " + " | ".join(f"{SCORES[s]} | difference" for s in scores) + " |",
        "|---|---|---|" + "---|---|" * len(scores),
    ]
    ordered = sorted(methods, key=lambda method: (method != reference, method))
    compared = compare(runs, dict.fromkeys(ordered, reference))
    lines += [markdown_row([x.feature, x.name, str(x.seeds), *x.cells(scores)]) for x in compared]
    return "\n".join(lines)


def statement(runs: pd.DataFrame) -> str:
    """One line on what scores depend on beside what is compared: everything that a table has to say.

    Where runs differ in one of these, it names all that occur.
    """
    copies = runs["dataset"] + runs["partial"].map({True: " (partial copy)", False: " (whole)"})
    if "cropped" in runs:
        copies += runs["cropped"].map({True: ", images cut to annotated boxes", False: ""})
    values = {
        "Data": copies,
        "protocol": runs["protocol"],
        "epochs": runs["epochs"],
        "seeds": runs["seed"],
        "weights": runs["weights"],
        "embedding dimension": runs["embedding_dim"],
        "image size": runs["image_size"].astype(str) + " px",
        "device": runs["device"],
        "commit": runs["commit"].fillna("unknown").str.replace(r"^(\w{12})\w*", r"\1", regex=True),
    }
    if "tuning" in runs:
        values["tuning"] = runs["tuning"]
    parts = [f"{name}: {', '.join(map(str, column.drop_duplicates()))}" for name, column in values.items()]
    return "; ".join([*parts, *_gaps(runs)])


def _gaps(runs: pd.DataFrame) -> list[str]:
    """How much better the best test epochs are than the last ones, by method, where a protocol chose such."""
    embedding = runs[runs["feature"] == "embedding"]
    last, trained = (
        embedding[embedding["encoder"] == encoder].groupby("method", sort=False)["recall_at_1"].mean()
        for encoder in ("last", "trained")
    )
    if last.empty:
        return []
    gaps = 100 * (trained[last.index] - last)
    each = ", ".join(f"{method} {gap:+.1f}" for method, gap in gaps.items())
    return [
        f"epochs chosen on the test images, mean gap to the last epochs in Recall@1 of the embedding: {each}"
    ]


def markdown_row(cells: Iterable[str]) -> str:
    """One row of a Markdown table."""
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _check_comparable(results: list[RunResult]) -> None:
    def rest(result: RunResult) -> dict[str, Any]:
        config = {
            k: v for k, v in result.config.items() if k not in ("protocol", "method", "loss", "seed", "runs")
        }
        for section, own in METHODS_OWN.items():
            config[section] = {k: v for k, v in config[section].items() if k not in own}
        return {
            **config,
            "protocol": result.protocol,
            "data hash": result.provenance.dataset_manifest_sha256,
            "weights": result.provenance.weights_sha256,
        }

    first = rest(results[0])
    for result in results[1:]:
        differing = [key for key, value in rest(result).items() if value != first.get(key)]
        if differing:
            raise InputError(
                f"runs differ in {', '.join(differing)}, not in method and seed alone: they do not compare"
            )


def _labels(methods: list[dict[str, Any]]) -> list[str]:
    """Each method's name, with the options in which runs of that name differ."""

    def label(method: dict[str, Any]) -> str:
        peers = [other for other in methods if other["name"] == method["name"]]
        differing = [key for key in method if any(other[key] != method[key] for other in peers)]
        return " ".join([method["name"], *(f"{key}={method[key]}" for key in differing)])

    return [label(method) for method in methods]


def _origin(result: RunResult, label: str) -> dict[str, Any]:
    config, origin = result.config, result.provenance
    return {
        "dataset": origin.dataset,
        "partial": origin.dataset_partial,
        "cropped": origin.dataset_cropped,
        "method": label,
        "loss": config["loss"]["name"],
        "lr": config["train"]["lr"],
        "seed": result.seed,
        "protocol": result.protocol,
        "epochs": result.epochs,
        "trained_epoch": result.trained_epoch,
        "image_size": config["data"]["image_size"],
        "embedding_dim": config["encoder"]["embedding_dim"],
        "weights": origin.weights,
        "commit": origin.git_commit,
        "device": origin.device,
        "train_seconds": round(result.train_seconds, 1),
        "batch_dependence": result.batch_dependence,
    }
