"""Several runs side by side: one row a run and feature, and means over seeds with differences from a reference."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from scipy import stats

from pyg_bgformer.errors import InputError

SCORES = {"recall_at_1": "R@1", "map_at_r": "MAP@R", "nmi": "NMI"}
"""Scores that a summary shows, in its order, as far as the runs have them; all are in the rows."""

METHODS_OWN = {"train": ("lr", "head_lr", "loss_lr", "clip_norm", "clip_value"), "encoder": ("head_norm",)}
"""Settings that belong to a method's recipe, beside its options and its loss."""


def collect(folders: Iterable[Path]) -> pd.DataFrame:
    """One row for each run, feature, and state of the encoder (untrained, trained); scores as fractions.

    Args:
        folders: Folders of finished runs that differ in the seed and in the method, with its loss, its learning
            rates, how it clips gradients, and whether its head begins with a norm.

    Raises:
        InputError: A folder without a result, or runs that differ in anything else.
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
    """A Markdown table of trained encoders: mean over seeds in %, its 95% interval, and differences.

    Intervals are Student's, for so few seeds wide. Differences are paired: taken for each seed that both methods
    have, then averaged; those whose interval leaves zero out are bold.

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
        "| feature | method | seeds | " + " | ".join(f"{SCORES[s]} | difference" for s in scores) + " |",
        "|---|---|---|" + "---|---|" * len(scores),
    ]
    untrained = runs[(runs["encoder"] == "untrained") & (runs["method"] == reference)]
    trained = runs[runs["encoder"] == "trained"]
    for feature in trained["feature"].unique():
        before = untrained[untrained["feature"] == feature]
        if len(before):
            lines.append(_line(feature, "untrained encoder", before, None, scores))
        of_feature = trained[trained["feature"] == feature]
        baseline = of_feature[of_feature["method"] == reference]
        for method in sorted(of_feature["method"].unique(), key=lambda m: (m != reference, m)):
            group = of_feature[of_feature["method"] == method]
            lines.append(_line(feature, method, group, None if method == reference else baseline, scores))
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
        config = dict(result["config"])
        for key in ("method", "loss", "seed", "runs"):
            config.pop(key, None)
        for section, own in METHODS_OWN.items():
            config[section] = {k: v for k, v in config.get(section, {}).items() if k not in own}
        return {
            **config,
            "data hash": result["dataset_manifest_sha256"],
            "weights": result["weights_sha256"],
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


def _origin(result: dict[str, Any], label: str) -> dict[str, Any]:
    return {
        "dataset": result["dataset"],
        "partial": result["dataset_partial"],
        "cropped": result.get("dataset_cropped", False),
        "method": label,
        "loss": result["config"]["loss"]["name"],
        "lr": result["config"]["train"]["lr"],
        "seed": result["seed"],
        "protocol": result["protocol"],
        "epochs": result["epochs"],
        "weights": result["weights"],
        "commit": result["git_commit"],
        "device": result["device"],
        "train_seconds": round(result["train_seconds"], 1),
        "leakage": result["leakage"],
    }


def _line(
    feature: str, name: str, group: pd.DataFrame, baseline: pd.DataFrame | None, scores: list[str]
) -> str:
    cells = []
    for score in scores:
        cells.append(_interval(100 * group[score], ".1f"))
        cells.append("" if baseline is None else _difference(group, baseline, score))
    return f"| {feature} | {name} | {len(group)} | " + " | ".join(cells) + " |"


def _difference(group: pd.DataFrame, baseline: pd.DataFrame, score: str) -> str:
    gains = 100 * (group.set_index("seed")[score] - baseline.set_index("seed")[score]).dropna()
    if gains.empty:
        return ""
    cell = _interval(gains, "+.1f")
    return f"**{cell}**" if abs(gains.mean()) > _half_width(gains) else cell


def _interval(values: pd.Series, form: str) -> str:
    return f"{values.mean():{form}}" + (f" ± {_half_width(values):.1f}" if len(values) > 1 else "")


def _half_width(values: pd.Series) -> float:
    """Of the mean's 95% interval; infinite for a single value."""
    if len(values) < 2:
        return float("inf")
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std() / len(values) ** 0.5)
