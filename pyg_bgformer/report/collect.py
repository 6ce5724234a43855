"""Reads finished runs into one data frame."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pyg_bgformer.errors import InputError
from pyg_bgformer.runs.diff import differing
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import RunResult, read_result

MAY_DIFFER = (
    *("method.", "loss.", "seed", "runs", "report.", "encoder.head_norm"),
    *("train.lr", "train.head_lr", "train.loss_lr", "train.clip_norm", "train.clip_value"),
)
"""Beginnings of the keys that belong to the recipe of a method. Compared runs may differ in them."""


def collect(folders: Iterable[Path], rows: Sequence[str] | None = None) -> pd.DataFrame:
    """Returns one line for each run, feature and state of the encoder, with scores as fractions.

    The states are ``untrained`` and ``trained``. There is also ``last`` if the protocol chose the epoch.

    Args:
        folders: Folders of finished runs.
        rows: The row of each run. With ``None``, runs of a method with the same options are a row, and all runs
            must agree in all other settings.

    Raises:
        InputError: If there is no folder, a folder has no finished run, or runs cannot be compared.
    """
    results = [read_result(RunFolder(folder)) for folder in folders]
    if not results:
        raise InputError("found no run, expected folders of finished runs")
    if rows is None:
        check_comparable(results)
        rows = method_names(results)
    return pd.DataFrame(
        [
            {**origin(result, row), "feature": feature, "encoder": encoder, **scores}
            for result, row in zip(results, rows, strict=True)
            for encoder in ("untrained", "trained", "last")
            for feature, scores in (getattr(result, encoder) or {}).items()
        ]
    )


def check_comparable(results: Sequence[RunResult]) -> None:
    """Raises an error if runs differ in more than the seed and the method.

    Raises:
        InputError: If runs differ in other settings. It names them.
    """

    def setting(result: RunResult) -> dict[str, Any]:
        made_from = result.provenance
        hashes = {"data": made_from.dataset_manifest_sha256, "weights": made_from.weights_sha256}
        return {**result.config, "hash": hashes}

    for result in results[1:]:
        different = differing(setting(results[0]), setting(result))
        keys = [key for key in different if not key.startswith(MAY_DIFFER)]
        if keys:
            raise InputError(
                f"the runs cannot be compared: they differ in {', '.join(keys)}, not only in method and seed"
            )


def method_names(results: Sequence[RunResult]) -> list[str]:
    """Returns the name of each run's method, and the options in which the runs of that method differ."""
    methods = [result.config["method"] for result in results]
    names = []
    for method in methods:
        peers = [other for other in methods if other["name"] == method["name"]]
        different = [key for key in method if any(other[key] != method[key] for other in peers)]
        names.append(" ".join([method["name"], *(f"{key}={method[key]}" for key in different)]))
    return names


def origin(result: RunResult, row: str) -> dict[str, Any]:
    """Returns the settings and the provenance of a run, for its lines in the data frame."""
    config, made_from = result.config, result.provenance
    return {
        "dataset": made_from.dataset,
        "partial": made_from.dataset_partial,
        "cropped": made_from.dataset_cropped,
        "row": row,
        "loss": config["loss"]["name"],
        "lr": config["train"]["lr"],
        "seed": result.seed,
        "protocol": result.protocol,
        "epochs": result.epochs,
        "trained_epoch": result.trained_epoch,
        "image_size": config["data"]["image_size"],
        "embedding_dim": config["encoder"]["embedding_dim"],
        "weights": made_from.weights,
        "commit": made_from.git_commit,
        "device": made_from.device,
        "train_seconds": round(result.train_seconds, 1),
        "batch_dependence": result.batch_dependence,
    }
