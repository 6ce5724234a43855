"""Differences between two runs: recipe, data, weights, software, hardware."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result

ASIDE = ("runs", "report")
"""Keys of a recipe that do not change a run's results. They say where the run is and what it writes for people."""

ABSENT = "(absent)"
"""Stands for a value that only the other run has."""


def difference_lines(first: RunFolder, second: RunFolder) -> list[str]:
    """Returns one line for each difference between two runs. Scores are not compared.

    The recipes are always compared. The provenance is compared if both runs are finished.

    Args:
        first: A run's folder.
        second: Another run's folder.

    Raises:
        InputError: If the recipe or the result of a run is missing or damaged.
    """
    recipes = [
        {"recipe": {key: value for key, value in folder.read_recipe().items() if key not in ASIDE}}
        for folder in (first, second)
    ]
    found = differing(*recipes)
    finished = [folder.state == "finished" for folder in (first, second)]
    if all(finished):
        found |= differing(*(asdict(read_result(folder).provenance) for folder in (first, second)))
    elif any(finished):
        found["finished"] = tuple("yes" if state else "no" for state in finished)
    return [f"{key}: {one} | {other}" for key, (one, other) in found.items()]


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """Returns both values of each dotted key whose values differ. :data:`ABSENT` stands for a missing value.

    Args:
        first: Nested plain values.
        second: Other nested plain values.
    """
    ours, theirs = dict(dotted(first)), dict(dotted(second))
    pairs = {key: (ours.get(key, ABSENT), theirs.get(key, ABSENT)) for key in {**ours, **theirs}}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def dotted(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the dotted key and the value of each entry of nested mappings.

    Args:
        values: Nested plain values.
        prefix: Text before each key.
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
