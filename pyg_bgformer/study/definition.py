"""A study file: recipes x overrides x seeds, each combination a row of the study's table."""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Config
from pyg_bgformer.errors import InputError, did_you_mean
from pyg_bgformer.files import read_mapping
from pyg_bgformer.study.space import Budget, Range, read_budget, read_space

KEYS: dict[str, type | tuple[type, ...]] = {
    "title": str,
    "recipes": str,
    "recipe": str,
    "seeds": (list, int),
    "common": dict,
    "tune": dict,
    "reference": str,
    "rows": list,
    "results": str,
    "sizes": dict,
}
"""What a study file, and each of its sizes, may set."""

ROW_KEYS: dict[str, type | tuple[type, ...]] = {
    "name": str,
    "recipe": str,
    "set": dict,
    "grid": dict,
    "space": dict,
    "seeds": (list, int),
    "reference": str,
}

OWN_KEYS = ("config", "seed", "runs")
"""Keys of a recipe that the study itself decides."""


@dataclass(frozen=True)
class Row:
    """One line of a study's table.

    Args:
        name: Unique within the study.
        config: Of the first seed.
        seeds: Each of them one run.
        reference: The row that this one is compared with; its own name for one that others are compared with.
        arguments: The command line that gives its configuration, all but the seed.
        space: What tuning may change.
    """

    name: str
    config: Config
    seeds: tuple[int, ...]
    reference: str
    arguments: tuple[str, ...]
    space: Mapping[str, Range]

    @property
    def slug(self) -> str:
        """The name as part of a folder's name."""
        return re.sub(r"[^\w.=+-]+", "_", self.name)


@dataclass(frozen=True)
class Study:
    """What is run and compared.

    Args:
        name: Of its files: that of the study file, of the size if it has sizes, and of the protocol if it is not
            ``final``, so that tables of two protocols never replace each other.
        title: What it asks.
        rows: In the order of the table.
        results: Folder of the tables.
        budget: Of tuning each row, or ``None`` where rows are trained as their recipes are.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    results: Path
    budget: Budget | None


def read_study(path: Path, size: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """Reads a study file and checks every row's recipe; experiments/README.md has the format.

    Args:
        path: The file, YAML; paths in it are relative to its folder.
        size: One of its sizes, if it has any.
        overrides: Command line of further settings (``--data.root FOLDER``) for all rows, which a row's own
            settings override.

    Raises:
        InputError: The file, a row, or a recipe is not as it should be; the line says which.
    """
    try:
        _check_own([argument.removeprefix("--").partition("=")[0] for argument in overrides])
        given = _sized(read_mapping(path, "study"), size)
        budget = read_budget(given["tune"]) if "tune" in given else None
        rows = tuple(_rows(given, path.parent, overrides))
        _check_folders(rows)
        _check_references(rows)
        results = path.parent / _needed(given, "results")
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    protocols = {row.config.protocol.name for row in rows} - {"final"}
    name = "-".join([path.stem, *([size] if size else []), *sorted(protocols)])
    return Study(name, given.get("title", name), rows, results, budget)


def _sized(given: Mapping[str, Any], size: str | None) -> dict[str, Any]:
    """The study of one size: its keys over those of the file, ``common`` merged."""
    _check_keys(given, KEYS, "")
    sizes = given.get("sizes", {})
    for name in sizes:
        _typed(name, str, "sizes: the name of one")
    if size is None and sizes:
        raise InputError(f"which size? Add --size {' or --size '.join(sizes)}")
    if size is None:
        return dict(given)
    if size not in sizes:
        raise InputError(f"no size '{size}'; {did_you_mean(size, sizes) if sizes else 'it has no sizes'}")
    chosen = _typed(sizes[size], dict, f"sizes.{size}")
    _check_keys(chosen, {key: kind for key, kind in KEYS.items() if key != "sizes"}, f"sizes.{size}.")
    common = {**given.get("common", {}), **chosen.get("common", {})}
    return {**given, **chosen, "common": common}


def _rows(given: Mapping[str, Any], folder: Path, overrides: Sequence[str]) -> Iterator[Row]:
    if not _needed(given, "rows"):
        raise InputError("rows is an empty list; expected at least one row")
    for number, entry in enumerate(given["rows"], start=1):
        where = f"row {number}"
        _check_keys(_typed(entry, dict, where), ROW_KEYS, f"{where}: ")
        row = {**{key: given[key] for key in ("recipe", "seeds", "reference") if key in given}, **entry}
        for values in _grid(row.get("grid", {}), where):
            name = _row_name(entry, values, where)
            try:
                arguments = (
                    *("--config", str(_recipe(given, row, folder))),
                    *settings_arguments(given.get("common", {})),
                    *overrides,
                    *settings_arguments({**row.get("set", {}), **values}),
                )
                seeds = _seeds(row)
                config = read_config([*arguments, "--seed", str(seeds[0])])
                space = _space(given, row, {**row.get("set", {}), **values}, arguments)
            except InputError as error:
                raise InputError(f"row '{name}': {error}") from error
            yield Row(name, config, seeds, _reference(entry, row, values), arguments, space)


def _space(
    given: Mapping[str, Any], row: Mapping[str, Any], own: Mapping[str, Any], arguments: Sequence[str]
) -> dict[str, Range]:
    """What is tuned of a row: the common space without what the row itself sets, and the row's own space."""
    if "tune" not in given:
        if "space" in row:
            raise InputError("space: found one, but the study has no 'tune' with a number of trials")
        return {}
    common = read_space(_typed(given["tune"].get("space", {}), dict, "tune.space"), "tune.space")
    space = {key: r for key, r in common.items() if key not in own} | read_space(
        row.get("space", {}), "space"
    )
    for end in (0, -1):  # both ends must be settings that a run accepts
        read_config([*arguments, *settings_arguments({key: r.values[end] for key, r in space.items()})])
    return space


def _grid(grid: Mapping[str, Any], where: str) -> Iterator[dict[str, Any]]:
    """Every combination of the values; a single empty one without a grid."""
    for key, values in grid.items():
        if not _typed(values, list, f"{where}: grid.{key}"):
            raise InputError(f"{where}: grid.{key} is an empty list; expected values")
    for combination in itertools.product(*grid.values()):
        yield dict(zip(grid, combination, strict=True))


def _row_name(entry: Mapping[str, Any], values: Mapping[str, Any], where: str) -> str:
    parts = [entry["name"]] if "name" in entry else []
    name = " ".join([*parts, *_labels(values)])
    if not re.search(r"\w", name):
        raise InputError(f"{where}: found no name and no grid; name it")
    return name


def _labels(values: Mapping[str, Any]) -> list[str]:
    return [f"{key.rpartition('.')[2]}={_text(value)}" for key, value in values.items()]


def _recipe(given: Mapping[str, Any], row: Mapping[str, Any], folder: Path) -> Path:
    recipes = folder / _needed(given, "recipes")
    name = _needed(row, "recipe")
    if not recipes.is_dir():
        raise InputError(f"recipes: {recipes} is no folder")
    known = {path.stem: path for path in recipes.glob("*.yaml")}
    if name not in known:
        raise InputError(f"{recipes} has no recipe '{name}'; {did_you_mean(name, known)}")
    return known[name]


def settings_arguments(settings: Mapping[str, Any]) -> list[str]:
    """Returns dotted settings as a command line."""
    _check_own(settings)
    return [f"--{key}={_text(value)}" for key, value in settings.items()]


def _check_own(keys: Iterable[str]) -> None:
    if own := [key for key in keys if key in OWN_KEYS]:
        raise InputError(f"'{own[0]}' is the study's own: it comes from recipe, seeds and --runs")


def _text(value: Any) -> str:
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except TypeError:
        raise InputError(f"found {value!r}; put it in quotes if it is text") from None


def _seeds(row: Mapping[str, Any]) -> tuple[int, ...]:
    seeds = _needed(row, "seeds")
    if type(seeds) is int and seeds > 0:
        return tuple(range(seeds))
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds: expected different whole numbers from 0, or how many, found {seeds}")
    return tuple(seeds)


def _reference(entry: Mapping[str, Any], row: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """The row to compare with: of the study, or of the entry, whose grid goes along with that of its reference."""
    return (
        " ".join([entry["reference"], *_labels(values)])
        if "reference" in entry
        else _needed(row, "reference")
    )


def _check_folders(rows: Sequence[Row]) -> None:
    """Folders are told apart on file systems that know no capitals, too."""
    seen: dict[str, str] = {}
    for row in rows:
        other = seen.setdefault(row.slug.lower(), row.name)
        if other == row.name and sum(peer.name == row.name for peer in rows) > 1:
            raise InputError(f"two rows are named '{row.name}'; give each a name of its own")
        if other != row.name:
            raise InputError(f"rows '{other}' and '{row.name}' would share a folder; rename one")


def _check_references(rows: Sequence[Row]) -> None:
    known = {row.name: row for row in rows}
    for row in rows:
        if row.reference not in known:
            raise InputError(f"reference '{row.reference}' is no row; {did_you_mean(row.reference, known)}")
        if not set(row.seeds) & set(known[row.reference].seeds):
            raise InputError(
                f"row '{row.name}' has seeds {list(row.seeds)}, none in common with its reference "
                f"'{row.reference}', which has {list(known[row.reference].seeds)}"
            )


def _check_keys(given: Mapping[str, Any], kinds: Mapping[str, type | tuple[type, ...]], where: str) -> None:
    for key, value in given.items():
        if key not in kinds:
            raise InputError(f"unknown key '{where}{key}'; {did_you_mean(str(key), kinds)}")
        _typed(value, kinds[key], f"{where}{key}")


def _typed(value: Any, kind: type | tuple[type, ...], where: str) -> Any:
    if not isinstance(value, kind):
        words = {str: "text", list: "a list", dict: "a mapping", int: "a number"}
        expected = " or ".join(words[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"{where}: expected {expected}, found {value!r}")
    return value


def _needed(given: Mapping[str, Any], key: str) -> Any:
    if key not in given:
        raise InputError(f"'{key}' is missing")
    return given[key]
