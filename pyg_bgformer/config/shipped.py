"""The recipes of the package, by short names such as ``cub200/bgformer``."""

from pathlib import Path

from pyg_bgformer.errors import InputError, did_you_mean


def recipes_folder() -> Path:
    """Returns the folder of the shipped recipes, in the installed package or in a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "recipes"
    return installed if installed.is_dir() else package.parent / "experiments" / "recipes"


def find_recipe(given: str | Path) -> Path:
    """Returns the file of a recipe.

    Args:
        given: A path, or the short name of a shipped recipe, with or without ``.yaml``.

    Raises:
        InputError: If there is neither a file nor a shipped recipe with that name.
    """
    path, name = Path(given), str(given).removesuffix(".yaml")
    try:
        if path.exists():
            return path
    except OSError as error:
        raise InputError(f"recipe {name[:100]!r} cannot be read: {error.strerror}") from error
    folder = recipes_folder()
    shipped = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.glob("*/*.yaml")}
    if name not in shipped:
        raise InputError(
            f"recipe {str(given)!r} is neither a file nor one of the shipped recipes; {did_you_mean(name, shipped)}"
        )
    return shipped[name]
