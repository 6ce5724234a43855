"""From a recipe file and a command line to a checked :class:`~pyg_bgformer.config.schema.Config`."""

import re
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from pyg_bgformer.config.schema import (
    Component,
    Config,
    DataConfig,
    EncoderConfig,
    EvaluationConfig,
    GeometryConfig,
    ProtocolConfig,
    SamplerConfig,
    TrainConfig,
)
from pyg_bgformer.errors import InputError, did_you_mean
from pyg_bgformer.files import read_mapping
from pyg_bgformer.losses import loss_options
from pyg_bgformer.methods import method_options
from pyg_bgformer.registry import REQUIRED

SECTIONS = {
    "data": DataConfig,
    "sampler": SamplerConfig,
    "encoder": EncoderConfig,
    "geometry": GeometryConfig,
    "train": TrainConfig,
    "evaluation": EvaluationConfig,
    "protocol": ProtocolConfig,
}


def read_config(arguments: Sequence[str], default_recipe: Path | None = None) -> Config:
    """Reads ``--config RECIPE`` and dotted overrides such as ``--train.epochs 5``.

    Args:
        arguments: The command line; ``--print_config`` prints the result and ends the program.
        default_recipe: The recipe where the command line names none.

    Raises:
        InputError: A recipe that is missing or no YAML, an unknown key (with the nearest known one), a wrong
            type, an unknown loss or method.
    """
    arguments = list(arguments)
    if default_recipe is not None and _given(arguments, "config") is None:
        arguments = ["--config", str(default_recipe), *arguments]
    path = _given(arguments, "config")
    recipe = {} if path is None else read_mapping(Path(path), "recipe")
    parser = recipe_parser(
        _given(arguments, "method.name") or _name(recipe, "method", "plain"),
        _given(arguments, "loss.name") or _name(recipe, "loss", "pairwise_cross_entropy"),
    )
    _check_keys(parser, recipe, arguments)
    try:
        return as_config(parser.instantiate(parser.parse_args(arguments)))
    except (ArgumentError, ValueError, TypeError) as error:
        raise InputError(_one_line(error)) from error


def recipe_parser(method: str, loss: str) -> ArgumentParser:
    """The parser of recipes with this method and loss, whose options are those of their signatures.

    Raises:
        InputError: An unknown method or loss.
    """
    parser = ArgumentParser(exit_on_error=False, description="One run: train, test once, report.")
    parser.add_argument("--config", action="config", help="a recipe, YAML")
    for name, section in SECTIONS.items():
        parser.add_class_arguments(section, name)
    parser.add_argument("--seed", type=int, default=0, help="decides every random choice")
    parser.add_argument("--runs", type=str, default="runs", help="folder in which the run's folder is made")
    for name, chosen, options in (
        ("method", method, method_options(method)),
        ("loss", loss, loss_options(loss)),
    ):
        parser.add_argument(f"--{name}.name", type=str, default=chosen)
        for key, option in options.items():
            needed = {"required": True} if option.default is REQUIRED else {"default": option.default}
            parser.add_argument(f"--{name}.{key}", type=option.type, **needed)
    return parser


def as_config(values: Namespace) -> Config:
    """The configuration of what a :func:`recipe_parser` has read."""
    parts: dict[str, Any] = {name: values[name] for name in SECTIONS}
    for name in ("method", "loss"):
        options = values[name].as_dict()
        parts[name] = Component(options.pop("name"), options)
    return Config(**parts, seed=values.seed, runs=values.runs)


def _given(arguments: Sequence[str], key: str) -> str | None:
    """The last value of ``--key value`` or ``--key=value``."""
    value = None
    for i, argument in enumerate(arguments):
        if argument == f"--{key}" and i + 1 < len(arguments):
            value = arguments[i + 1]
        elif argument.startswith(f"--{key}="):
            value = argument.partition("=")[2]
    return value


def _name(recipe: dict[str, Any], section: str, default: str) -> str:
    value = recipe.get(section) or {}
    if not isinstance(value, dict):
        raise InputError(f"recipe key '{section}': expected a mapping with a name, found {value!r}")
    return str(value.get("name", default))


def _check_keys(parser: ArgumentParser, recipe: dict[str, Any], arguments: Sequence[str]) -> None:
    keys = {action.dest for action in parser._actions}
    sections = {key.partition(".")[0] for key in keys if "." in key}
    leaves = keys - sections
    given = list(_flat(recipe, leaves))
    given += [match[1] for argument in arguments if (match := re.match(r"--([\w.]+)", argument))]
    for key in given:
        inside = any(key.startswith(f"{leaf}.") for leaf in leaves)  # of an option that is itself a mapping
        if key not in leaves and not inside:
            raise InputError(f"unknown key '{key}'; {did_you_mean(key, leaves)}")


def _flat(recipe: dict[str, Any], leaves: set[str], prefix: str = "") -> Iterator[str]:
    for key, value in recipe.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in leaves:
            yield from _flat(value, leaves, f"{name}.")
        else:
            yield name


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
