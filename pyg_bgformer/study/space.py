"""Reads the ``tune`` section of a study: the searched settings, and the number of trials of each row."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyg_bgformer.errors import InputError, did_you_mean

KINDS = ("log", "uniform", "int", "choice")


@dataclass(frozen=True)
class Values:
    """The values that tuning may give to one setting.

    Args:
        kind: ``log`` or ``uniform`` for real numbers, ``int`` for whole numbers, or ``choice``.
        values: The lowest and the highest value, or all choices.
    """

    kind: str
    values: tuple[Any, ...]

    def __contains__(self, value: object) -> bool:
        if self.kind == "choice":
            return value in self.values
        if type(value) is not int and (type(value) is not float or self.kind == "int"):
            return False
        return bool(self.values[0] <= value <= self.values[1])

    def __str__(self) -> str:
        if self.kind == "choice":
            return ", ".join(map(str, self.values))
        return f"{self.values[0]:g} to {self.values[1]:g}" + (" (log)" if self.kind == "log" else "")


@dataclass(frozen=True)
class Budget:
    """The budget for tuning, which is equal for all rows.

    Args:
        trials: Number of trials for each row, from 1. The first trial is the unchanged recipe.
        folds: Number of parts into which the training classes are split, from 2. Each trial trains once for each
            fold and is scored on the classes of that fold.
        score: The score that is maximised, ``feature/score``. It is the mean over folds.
        seed: Decides the settings that are tried, and is the seed of every training.
    """

    trials: int
    folds: int = 2
    score: str = "embedding/map_at_r"
    seed: int = 0

    def __str__(self) -> str:
        return (
            f"Every row: {self.trials} trials, the first of them its recipe as it is. Score: {self.score}, the "
            f"mean over {self.folds} folds of the training classes, each set aside once; seed {self.seed}. The "
            "test images are not used."
        )


def read_budget(given: Mapping[str, Any]) -> Budget:
    """Returns the budget of a study's ``tune`` section. Its ``space`` is ignored here.

    Raises:
        InputError: If a key is unknown or missing, or a value is out of range.
    """
    options = {key: value for key, value in given.items() if key != "space"}
    for key in options:
        if key not in Budget.__dataclass_fields__:
            raise InputError(
                f"unknown key 'tune.{key}'; {did_you_mean(key, [*Budget.__dataclass_fields__, 'space'])}"
            )
    for key, least in (("trials", 1), ("folds", 2), ("seed", 0)):
        value = options.get(key, least)
        if type(value) is not int or value < least:
            raise InputError(f"tune.{key}: expected a whole number from {least}, found {value!r}")
    if "trials" not in options:
        raise InputError("'tune.trials' is missing, the number of trials for each row")
    budget = Budget(**options)
    if not isinstance(budget.score, str) or budget.score.count("/") != 1:
        raise InputError(
            f"tune.score: expected FEATURE/SCORE such as embedding/map_at_r, found {budget.score!r}"
        )
    return budget


def read_space(given: Any, where: str) -> dict[str, Values]:
    """Returns the values of each setting, read from entries such as ``{train.lr: {log: [1.0e-5, 1.0e-2]}}``.

    Args:
        given: A section of the study file.
        where: Its place in the file, for error messages.

    Raises:
        InputError: If an entry is not ``{log: [a, b]}``, ``{uniform: [a, b]}``, ``{int: [a, b]}`` or
            ``{choice: [...]}``.
    """
    if not isinstance(given, dict):
        raise InputError(f"{where}: expected a mapping of settings to values, found {given!r}")
    space = {}
    for key, entry in given.items():
        if not isinstance(entry, dict) or len(entry) != 1 or next(iter(entry)) not in KINDS:
            expected = "{log: [a, b]}, {uniform: [a, b]}, {int: [a, b]} or {choice: [...]}"
            raise InputError(f"{where}.{key}: expected {expected}, found {entry!r}")
        kind, values = next(iter(entry.items()))
        _check_values(kind, values, f"{where}.{key}.{kind}")
        space[key] = Values(kind, tuple(values))
    return space


def _check_values(kind: str, values: Any, where: str) -> None:
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: expected a list of values, found {values!r}")
    if kind == "choice":
        for value in values:
            if value is not None and not isinstance(value, bool | int | float | str):
                raise InputError(f"{where}: expected numbers, text, true, false or null, found {value!r}")
        return
    numbers = (int,) if kind == "int" else (int, float)
    if len(values) != 2 or any(type(value) not in numbers for value in values) or values[0] > values[1]:
        whole = "whole numbers" if kind == "int" else "numbers"
        raise InputError(f"{where}: expected the lowest and the highest value, both {whole}, found {values}")
    if kind == "log" and values[0] <= 0:
        raise InputError(f"{where}: expected a range above 0, because it is logarithmic, found {values}")
