"""Several runs side by side: one row a run and feature, and means over seeds with differences from a reference."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from pyg_bgformer.errors import InputError

SCORES = ("recall_at_1", "map_at_r", "r_precision", "nmi", "ami", "ari", "pair_f1")
"""Scores that a summary shows, in its order, as far as the runs have them."""

NAMES = {
    "recall_at_1": "R@1",
    "map_at_r": "MAP@R",
    "r_precision": "RP",
    "nmi": "NMI",
    "ami": "AMI",
    "ari": "ARI",
    "pair_f1": "pair F1",
}


def collect(folders: Iterable[Path]) -> pd.DataFrame:
    """One row for each run, feature, and state of the encoder (untrained, trained); scores as fractions.

    Args:
        folders: Folders of finished runs of one recipe, apart from the method and the seed.

    Raises:
        InputError: A folder without a result, or runs that differ in more than method and seed.
    """
    results = [_read(folder) for folder in folders]
    if not results:
        raise InputError("no run to summarise: name the folders of finished runs")
    _check_comparable(results)
    labels = _labels([result["config"]["method"] for result in results])
    return pd.DataFrame(
        [
            {**_origin(result, label), "feature": feature, "encoder": encoder, **scores}
            for result, label in zip(results, labels, strict=True)
            for encoder in ("untrained", "trained")
            for feature, scores in result[encoder].items()
        ]
    )


def summary(runs: pd.DataFrame, reference: str) -> str:
    """A Markdown table of trained encoders: mean and standard deviation over seeds, in %, and differences.

    Differences are paired: taken for each seed that both methods have, then averaged.

    Args:
        runs: From :func:`collect`.
        reference: The method that others are compared with.

    Raises:
        InputError: If there is no run of ``reference``.
    """
    if reference not in set(runs["method"]):
        raise InputError(f"no run of '{reference}'; found {', '.join(sorted(set(runs['method'])))}")
    scores = [score for score in SCORES if score in runs]
    lines = [
        "| feature | method | seeds | " + " | ".join(NAMES[score] for score in scores) + " |",
        "|---|---|---|" + "---|" * len(scores),
    ]
    untrained = runs[(runs["encoder"] == "untrained") & (runs["method"] == reference)]
    trained = runs[runs["encoder"] == "trained"]
    for feature in trained["feature"].unique():
        lines.append(_line(feature, "untrained encoder", untrained[untrained["feature"] == feature], scores))
        of_feature = trained[trained["feature"] == feature]
        baseline = of_feature[of_feature["method"] == reference].set_index("seed")[scores]
        methods = sorted(of_feature["method"].unique(), key=lambda method: (method != reference, method))
        for method in methods:
            group = of_feature[of_feature["method"] == method]
            lines.append(_line(feature, method, group, scores))
            if method != reference:
                gains = 100 * (group.set_index("seed")[scores] - baseline).dropna()
                cells = [_spread(gains[score], "+.1f") for score in scores]
                lines.append(f"| | *difference* | {len(gains)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _read(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{folder} holds no result.json: it is no finished run") from error
    except ValueError as error:
        raise InputError(f"{folder / 'result.json'} is damaged: {error}") from error


def _check_comparable(results: list[dict[str, Any]]) -> None:
    def rest(result: dict[str, Any]) -> dict[str, Any]:
        kept = {k: v for k, v in result["config"].items() if k not in ("method", "seed", "runs")}
        return {**kept, "data hash": result["dataset_manifest_sha256"], "weights": result["weights_sha256"]}

    first = rest(results[0])
    for result in results[1:]:
        differing = [key for key, value in rest(result).items() if value != first[key]]
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


def _origin(result: dict[str, Any], label: str) -> dict[str, Any]:
    return {
        "dataset": result["dataset"],
        "partial": result["dataset_partial"],
        "method": label,
        "seed": result["seed"],
        "protocol": result["protocol"],
        "epochs": result["epochs"],
        "weights": result["weights"],
        "commit": result["git_commit"],
        "device": result["device"],
        "train_seconds": round(result["train_seconds"], 1),
        "leakage": result["leakage"],
    }


def _line(feature: str, name: str, group: pd.DataFrame, scores: list[str]) -> str:
    cells = [_spread(100 * group[score], ".1f") for score in scores]
    return f"| {feature} | {name} | {len(group)} | " + " | ".join(cells) + " |"


def _spread(values: pd.Series, form: str) -> str:
    deviation = f" ± {values.std():.1f}" if len(values) > 1 else ""
    return f"{values.mean():{form}}{deviation}"
