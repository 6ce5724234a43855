"""Classes of pytorch-metric-learning by name, and the options their constructors take."""

import inspect
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from pytorch_metric_learning import distances, losses, miners, reducers, regularizers
from torch import nn

from pyg_bgformer.errors import InputError, did_you_mean

REQUIRED = inspect.Parameter.empty
"""Stands for the default of an option that has none."""

# Options that are objects of the library themselves: a recipe gives their name, or a mapping with a name.
COMPONENTS: dict[str, ModuleType] = {
    "distance": distances,
    "reducer": reducers,
    "embedding_regularizer": regularizers,
    "weight_regularizer": regularizers,
    "loss": losses,
}
_SUFFIXES = {losses: "Loss", miners: "Miner", reducers: "Reducer", regularizers: "Regularizer", distances: ""}
_PARTS = re.compile(r"^Base|Mixin$|^BatchedDistance$|^MultipleReducers$|^EmbeddingsAlready")
# Names of the literature that are not the class's own; with the options that the name stands for.
_ALIASES: dict[str, tuple[str, dict[str, Any]]] = {
    "triplet": ("TripletMarginLoss", {}),
    "info_nce": ("NTXentLoss", {}),
    # The temperature 1/9 of "ProxyNCA++" (arXiv 2004.01113, section 3.3); the library's class already has
    # its softmax over all proxies.
    "proxy_nca_pp": ("ProxyNCALoss", {"softmax_scale": 9}),
}


def find_class(room: ModuleType, name: str) -> tuple[type[nn.Module], dict[str, Any]]:
    """A class of one of the library's modules by name, and the options that the name stands for.

    Upper and lower case, underscores, the ending (``Loss``, ``Miner``) and British spelling make no
    difference: ``ArcFaceLoss``, ``arc_face`` and ``arcface`` are one.

    Raises:
        InputError: there is no such class.
    """
    aliases = _ALIASES if room is losses else {}
    for alias, (class_name, options) in aliases.items():
        if _key(name, "Loss") == _key(alias, "Loss"):
            return getattr(room, class_name), dict(options)
    known = {_key(class_name, _SUFFIXES[room]): class_name for class_name in class_names(room)}
    found = known.get(_key(name, _SUFFIXES[room]))
    if found is None:
        kind = room.__name__.rpartition(".")[2]
        names = [snake_name(class_name, _SUFFIXES[room]) for class_name in known.values()]
        hint = did_you_mean(name, [*names, *aliases])
        raise InputError(f"pytorch-metric-learning has no '{name}' among its {kind}: {hint}")
    return getattr(room, found), {}


def class_names(room: ModuleType) -> list[str]:
    """The names of the classes that one of the library's modules offers, less its base classes and mixins."""
    return [name for name, _ in inspect.getmembers(room, inspect.isclass) if not _PARTS.search(name)]


def snake_name(class_name: str, suffix: str = "Loss") -> str:
    """The name that a recipe uses for a class.

    >>> snake_name("MultiSimilarityLoss")
    'multi_similarity'
    >>> snake_name("NTXentLoss")
    'nt_xent'
    """
    bare = class_name.removesuffix(suffix)
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z0-9])(?=[A-Z][a-z])", "_", bare).lower()


def constructor_options(owner: type) -> dict[str, Any]:
    """The keyword arguments that a class takes, with their defaults (or :data:`REQUIRED`).

    The library passes ``**kwargs`` up its inheritance, so the constructors of the bases are read as well,
    up to the first that takes no ``**kwargs``.
    """
    options: dict[str, Any] = {}
    for base in owner.__mro__:
        if base is nn.Module:
            break
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(vars(base)["__init__"]).parameters.values())[1:]
        options = {p.name: p.default for p in parameters if p.kind in _NAMED} | options
        if all(p.kind is not inspect.Parameter.VAR_KEYWORD for p in parameters):
            break
    return {key: default for key, default in options.items() if key not in _NOT_OPTIONS}


def create(
    owner: type[nn.Module], options: Mapping[str, Any], *, filled: Mapping[str, Any], what: str
) -> Any:
    """Make an object of the library from a recipe's options.

    Args:
        owner: its class.
        options: what the recipe sets; components (a distance, a reducer, ...) by name.
        filled: what the package sets, for the arguments of these names that the class takes.
        what: how to name the object in a message.

    Raises:
        InputError: an option is unknown, missing or of the wrong type, or the class refuses a value.
    """
    known = {key: default for key, default in constructor_options(owner).items() if key not in filled}
    for key, value in options.items():
        if key not in known:
            hint = did_you_mean(key, known) if known else "it has none"
            raise InputError(f"{what} has no option '{key}': {hint}")
        _check_type(key, value, known[key], what)
    missing = [key for key, default in known.items() if default is REQUIRED and key not in options]
    if missing:
        raise InputError(f"{what} needs {', '.join(missing)}: give them as options")
    values = {key: _component(key, value, what) for key, value in options.items()}
    try:
        return owner(**filled, **values)
    except Exception as error:  # whatever a constructor of the library raises is about the values given
        raise InputError(f"{what} refuses its options: {' '.join(str(error).split())}") from error


# Set by the subclasses themselves; and a switch for the library's own records.
_NOT_OPTIONS = ("mat_based_loss", "collect_stats")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _component(key: str, value: Any, what: str) -> Any:
    if key not in COMPONENTS or not isinstance(value, str | Mapping):
        return value
    given = {"name": value} if isinstance(value, str) else dict(value)
    if not isinstance(given.get("name"), str):
        raise InputError(f"{what}: option '{key}' must be a name, or a mapping with a name; got {value}")
    owner, implied = find_class(COMPONENTS[key], given.pop("name"))
    return create(owner, implied | given, filled={}, what=f"{key} '{owner.__name__}' of {what}")


def _check_type(key: str, value: Any, default: Any, what: str) -> None:
    """Numbers for numbers and truth values for truth values: the library itself looks at neither."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{what}: option '{key}' must be true or false, got {value!r}")
    elif isinstance(default, int | float) and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise InputError(f"{what}: option '{key}' must be a number, got {value!r}")


def _key(name: str, suffix: str) -> str:
    bare = re.sub(r"[^a-z0-9+]", "", name.lower()).replace("normalised", "normalized").replace("++", "pp")
    return bare.removesuffix(suffix.lower())
