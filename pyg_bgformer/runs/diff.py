"""What differs between two runs: recipe, data, weights, software, hardware."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import read_mapping

RECIPE, RESULT = "config.yaml", "result.json"

PLACES = ("runs",)
"""Keys of a recipe that say where a run is, and nothing of what it is."""

ORIGIN = (
    "dataset",
    "dataset_manifest_sha256",
    "dataset_partial",
    "dataset_cropped",
    "weights",
    "weights_sha256",
    "python",
    "packages",
    "git_commit",
    "device",
    "threads",
)
"""What a finished run says of itself beside its recipe."""

ABSENT = "(absent)"


def difference_lines(first: Path, second: Path) -> list[str]:
    """One line for each thing in which two runs differ; none for equal ones. Scores are not compared.

    Of a run that is not finished only the recipe is known: then recipes alone are compared.

    Raises:
        InputError: A folder that is no run, or a damaged one.
    """
    found = differing(_recipe(first), _recipe(second))
    if is_finished(first) and is_finished(second):
        found |= differing(_origin(first), _origin(second))
    elif is_finished(first) or is_finished(second):
        found["finished"] = (_yes_or_no(first), _yes_or_no(second))
    return [f"{key}: {one} | {other}" for key, (one, other) in found.items()]


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The values of each dotted key whose values are not equal; :data:`ABSENT` stands for a missing one."""
    ours, theirs = dict(_flat(first)), dict(_flat(second))
    pairs = {key: (ours.get(key, ABSENT), theirs.get(key, ABSENT)) for key in {**ours, **theirs}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def is_finished(folder: Path) -> bool:
    """Whether a run's folder has its result."""
    return (folder / RESULT).exists()


def _yes_or_no(folder: Path) -> str:
    return "yes" if is_finished(folder) else "no"


def _recipe(folder: Path) -> dict[str, Any]:
    if not (folder / RECIPE).is_file():
        raise InputError(f"{folder} is not the folder of a run: it has no {RECIPE}")
    recipe = read_mapping(folder / RECIPE, "recipe")
    return {"recipe": {key: value for key, value in recipe.items() if key not in PLACES}}


def _origin(folder: Path) -> dict[str, Any]:
    try:
        result = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{folder / RESULT} is damaged: {error}") from error
    return {key: result[key] for key in ORIGIN if key in result}


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
