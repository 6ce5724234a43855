"""Reads a study file. It describes a comparison: rows with a recipe, settings and seeds."""

import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyg_bgformer.config.recipe import read_config, say_on_stderr
from pyg_bgformer.config.schema import Config
from pyg_bgformer.config.shipped import find_recipe
from pyg_bgformer.errors import InputError, did_you_mean
from pyg_bgformer.files import read_mapping
from pyg_bgformer.study.space import Budget, Values, read_budget, read_space

Kind = type | tuple[type, ...]

KEYS: dict[str, Kind] = {
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
"""Keys of a study file and of each of its sizes."""

ROW_KEYS: dict[str, Kind] = {
    "name": str,
    "recipe": str,
    "set": dict,
    "grid": dict,
    "space": dict,
    "seeds": (list, int),
    "reference": str,
}

OWN_KEYS = ("config", "seed", "runs")
"""Keys of a recipe that the study decides."""


@dataclass(frozen=True)
class Row:
    """One row of a study's table.

    Args:
        name: Name of the row, unique in the study.
        config: The configuration with the first seed.
        seeds: The seeds. Each of them is a run.
        reference: Name of the row that this row is compared with. It is its own name for the reference itself.
        arguments: The command line of the configuration, without the seed.
        space: The settings that tuning may change, with their values.
    """

    name: str
    config: Config
    seeds: tuple[int, ...]
    reference: str
    arguments: tuple[str, ...]
    space: Mapping[str, Values]

    @property
    def slug(self) -> str:
        """The name of the row in the names of folders."""
        return re.sub(r"[^\w.=+-]+", "_", self.name)


@dataclass(frozen=True)
class Study:
    """A comparison of rows.

    Args:
        name: Beginning of the names of its files: the name of the study file, its size, and its protocol if that is
            not ``final``. Tables of different protocols therefore never replace each other.
        title: Title of the study.
        rows: The rows in the order of the table.
        results: Folder of the tables.
        budget: The budget to tune each row with, or ``None`` if rows are not tuned.
    """

    name: str
    title: str
    rows: tuple[Row, ...]
    results: Path
    budget: Budget | None


def read_study(path: Path, size: str | None = None, overrides: Sequence[str] = ()) -> Study:
    """Returns the study of a study file, after checking the recipe of every row.

    ``experiments/README.md`` describes the format.

    Args:
        path: The file, YAML. Paths in it are relative to its folder.
        size: One of the study's sizes, if it has sizes.
        overrides: Settings for all rows as on the command line (``--data.root FOLDER``). The settings of a row
            override them.

    Raises:
        InputError: If the file, a row or a recipe is wrong.
    """
    try:
        refuse_own([argument.removeprefix("--").partition("=")[0] for argument in overrides])
        given = of_size(read_mapping(path, "study"), size)
        if not given.get("rows"):
            raise InputError("'rows' is missing or empty")
        budget = read_budget(given["tune"]) if "tune" in given else None
        notes: dict[str, None] = {}  # each once: the rows replace the same parts
        rows = tuple(read_rows(given, path.parent, overrides, notes.setdefault))
        check_rows(rows)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    for note in notes:
        say_on_stderr(note)
    protocols = {row.config.protocol.name for row in rows} - {"final"}
    name = "-".join([path.stem, *([size] if size else []), *sorted(protocols)])
    return Study(name, given.get("title", name), rows, path.parent / given.get("results", "results"), budget)


def of_size(given: Mapping[str, Any], size: str | None) -> dict[str, Any]:
    """Returns the content of a study file for one size. The keys of the size replace those of the file.

    The entries of ``common`` are merged. In a size, ``rows`` may be a list of names of rows of the file.

    Args:
        given: The content of the file.
        size: Name of the size, if the study has sizes.

    Raises:
        InputError: If a key or a row is unknown, a value has the wrong type, or there is no such size.
    """
    check_keys(given, KEYS, "")
    sizes = given.get("sizes", {})
    for name, content in sizes.items():
        check_type(name, str, "sizes, a name")
        check_type(content, dict, f"sizes.{name}")
        check_keys(content, {key: kind for key, kind in KEYS.items() if key != "sizes"}, f"sizes.{name}.")
    if size is None and sizes:
        raise InputError(f"the study has sizes; add --size {' or --size '.join(sizes)}")
    if size is None:
        return dict(given)
    if size not in sizes:
        raise InputError(f"no size '{size}'; {did_you_mean(size, sizes) if sizes else 'it has no sizes'}")
    common = {**given.get("common", {}), **sizes[size].get("common", {})}
    chosen = {**given, **sizes[size], "common": common}
    known = {str(entry.get("name")): entry for entry in given.get("rows", []) if isinstance(entry, dict)}
    if any(isinstance(entry, str) for entry in chosen.get("rows", [])):
        for name in chosen["rows"]:
            if name not in known:
                raise InputError(f"sizes.{size}.rows: no row '{name}'; {did_you_mean(str(name), known)}")
        chosen["rows"] = [known[name] for name in chosen["rows"]]
    return chosen


def read_rows(
    given: Mapping[str, Any], folder: Path, overrides: Sequence[str], say: Callable[[str], None]
) -> Iterator[Row]:
    """Yields the rows of a study. An entry with a grid gives a row for each combination of the grid's values.

    Args:
        given: The content of the file for one size.
        folder: Folder of the study file.
        overrides: Settings of the command line.
        say: Called with a line for each part of a recipe that a row replaces.

    Raises:
        InputError: If a row or its recipe is wrong.
    """
    for number, entry in enumerate(given["rows"], start=1):
        where = f"row {number}"
        check_type(entry, dict, where)
        check_keys(entry, ROW_KEYS, f"{where}: ")
        grid = entry.get("grid", {})
        for key, values in grid.items():
            check_type(values, list, f"{where}: grid.{key}")
            if not values:
                raise InputError(f"{where}: grid.{key}: found an empty list, expected values")
        for combination in itertools.product(*grid.values()):
            values = dict(zip(grid, combination, strict=True))
            marks = [f"{key.rpartition('.')[2]}={as_text(value)}" for key, value in values.items()]
            name = " ".join([*([entry["name"]] if "name" in entry else []), *marks])
            if not re.search(r"\w", name):
                raise InputError(f"{where}: found no name and no grid; give the row a name")
            # The reference of an entry has the same grid as the entry. The reference of the study is one row.
            own = " ".join([entry["reference"], *marks]) if "reference" in entry else None
            try:
                yield read_row(name, own, {**given, **entry}, values, folder, overrides, say)
            except InputError as error:
                raise InputError(f"row '{name}': {error}") from error


def read_row(
    name: str,
    reference: str | None,
    given: Mapping[str, Any],
    values: Mapping[str, Any],
    folder: Path,
    overrides: Sequence[str],
    say: Callable[[str], None],
) -> Row:
    """Returns a row with its configuration and space.

    Args:
        name: Name of the row.
        reference: Name of the row that it is compared with. ``None`` takes the reference of the study.
        given: The keys of the study, replaced by those of the row's entry.
        values: The grid's values for this row.
        folder: Folder of the study file.
        overrides: Settings of the command line.
        say: Called with a line for each part of the recipe that the row replaces.

    Raises:
        InputError: If a key is missing, or the row's recipe is wrong.
    """
    for key in ("recipe", "seeds", *(["reference"] if reference is None else [])):
        if key not in given:
            raise InputError(f"'{key}' is missing")
    fixed = {**given.get("set", {}), **values}
    arguments = (
        *("--config", str(row_recipe(given, folder))),
        *settings_arguments(given.get("common", {})),
        *overrides,
        *settings_arguments(fixed),
    )
    seeds = read_seeds(given["seeds"])
    config = read_config([*arguments, "--seed", str(seeds[0])], say=say)
    space = read_space(given.get("space", {}), "space")
    if "tune" in given:
        common = read_space(given["tune"].get("space", {}), "tune.space")
        space = {key: values for key, values in common.items() if key not in fixed} | space
    elif space:
        raise InputError(
            "space: the study does not tune; add 'tune' with a number of trials, or remove space"
        )
    for end in (0, -1) if space else ():  # checks that a run accepts both ends of every range
        ends = settings_arguments({key: r.values[end] for key, r in space.items()})
        read_config([*arguments, *ends], say=say)
    return Row(name, config, seeds, reference or given["reference"], arguments, space)


def row_recipe(given: Mapping[str, Any], folder: Path) -> Path:
    """Returns the file of a row's recipe: in the study's folder of recipes, beside the study, or a shipped recipe.

    Args:
        given: The keys of the study, replaced by those of the row's entry.
        folder: Folder of the study file.

    Raises:
        InputError: If there is no such recipe.
    """
    name = given["recipe"]
    if "recipes" not in given:
        beside = folder / name
        return beside if beside.is_file() else find_recipe(name)
    recipes = folder / given["recipes"]
    if not recipes.is_dir():
        raise InputError(f"recipes: {recipes} is not a folder")
    known = {path.stem: path for path in recipes.glob("*.yaml")}
    if name not in known:
        raise InputError(f"{recipes} has no recipe '{name}'; {did_you_mean(name, known)}")
    return known[name]


def settings_arguments(settings: Mapping[str, Any]) -> list[str]:
    """Returns dotted settings as a command line.

    Args:
        settings: Values by dotted key.

    Raises:
        InputError: If the study decides a key itself, or a value is not plain.
    """
    refuse_own(settings)
    return [f"--{key}={as_text(value)}" for key, value in settings.items()]


def refuse_own(keys: Iterable[str]) -> None:
    """Raises an error for a key of a recipe that the study decides.

    Raises:
        InputError: If there is such a key.
    """
    for key in keys:
        if key in OWN_KEYS:
            raise InputError(f"'{key}' cannot be set here; a study sets it by recipe, seeds and --runs")


def as_text(value: Any) -> str:
    """Returns a value as text on a command line.

    Raises:
        InputError: If the value is not plain.
    """
    try:
        return value if isinstance(value, str) else json.dumps(value)
    except TypeError:
        raise InputError(f"found {value!r}; put it in quotes if it is text") from None


def read_seeds(given: list[Any] | int) -> tuple[int, ...]:
    """Returns the listed seeds, or for a number n the seeds 0 to n - 1.

    Raises:
        InputError: If there is no seed, or the seeds are not different whole numbers from 0.
    """
    seeds = given if isinstance(given, list) else list(range(given))
    whole = all(type(seed) is int and seed >= 0 for seed in seeds)
    if not seeds or not whole or len(set(seeds)) < len(seeds):
        raise InputError(
            f"seeds: expected a number of seeds, or a list of different whole numbers from 0, found {given}"
        )
    return tuple(seeds)


def check_rows(rows: Sequence[Row]) -> None:
    """Raises an error unless every row has its own name and folder, and a reference with a common seed.

    Raises:
        InputError: If one of this is not so. It names the rows.
    """
    folders: dict[str, str] = {}
    known = {row.name: row for row in rows}
    for row in rows:
        slug = row.slug.lower()  # some file systems do not distinguish capital letters
        if folders.get(slug) == row.name:
            raise InputError(f"two rows are named '{row.name}'; rename one")
        if slug in folders:
            raise InputError(f"rows '{folders[slug]}' and '{row.name}' would share a folder; rename one")
        folders[slug] = row.name
    for row in rows:
        if row.reference not in known:
            raise InputError(
                f"reference '{row.reference}' is not a row; {did_you_mean(row.reference, known)}"
            )
        theirs = known[row.reference].seeds
        if not set(row.seeds) & set(theirs):
            raise InputError(
                f"row '{row.name}' has the seeds {list(row.seeds)}, and its reference '{row.reference}' has "
                f"{list(theirs)}; expected at least one common seed"
            )


def check_keys(given: Mapping[str, Any], kinds: Mapping[str, Kind], where: str) -> None:
    """Raises an error unless all keys are known and their values have the right type."""
    for key, value in given.items():
        if key not in kinds:
            raise InputError(f"unknown key '{where}{key}'; {did_you_mean(str(key), kinds)}")
        check_type(value, kinds[key], f"{where}{key}")


def check_type(value: Any, kind: Kind, where: str) -> None:
    """Raises an error unless a value of a study file has the right type."""
    if not isinstance(value, kind) or isinstance(value, bool):
        words = {str: "text", list: "a list", dict: "a mapping", int: "a number"}
        expected = " or ".join(words[one] for one in (kind if isinstance(kind, tuple) else (kind,)))
        raise InputError(f"{where}: expected {expected}, found {value!r}")
