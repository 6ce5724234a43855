"""Reads a recipe and a command line into a checked :class:`~pyg_bgformer.config.schema.Config`."""

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pyg_bgformer.config.arguments import Parser, add_keys
from pyg_bgformer.config.plugins import load_plugins
from pyg_bgformer.config.schema import (
    Component,
    Config,
    DataConfig,
    EvaluationConfig,
    ProtocolConfig,
    ReportConfig,
    Section,
    TrainConfig,
)
from pyg_bgformer.config.shipped import find_recipe
from pyg_bgformer.config.values import fit, shown, words
from pyg_bgformer.data.samplers import sampler_options
from pyg_bgformer.encoders import encoder_options
from pyg_bgformer.errors import InputError, did_you_mean
from pyg_bgformer.files import read_mapping
from pyg_bgformer.geometry import geometry_options
from pyg_bgformer.losses import loss_options
from pyg_bgformer.methods import method_options
from pyg_bgformer.ranges import Range
from pyg_bgformer.registry import REQUIRED, Option, signature_options


class Part(NamedTuple):
    """A section of a recipe whose keys depend on the name in it.

    Attributes:
        default: The name that is used if a recipe gives none.
        options: Maps a name to the options of that part.
    """

    default: str
    options: Callable[[str], dict[str, Option]]


PARTS = {
    "sampler": Part("classes", sampler_options),
    "encoder": Part("conv4", encoder_options),
    "geometry": Part("sphere", geometry_options),
    "loss": Part("pairwise_cross_entropy", loss_options),
    "method": Part("plain", method_options),
}

SECTIONS: dict[str, type[Section]] = {
    section.title(): section
    for section in (DataConfig, TrainConfig, EvaluationConfig, ProtocolConfig, ReportConfig)
}

SINGLE = {
    "seed": Option(Annotated[int, Range(least=0, most=2**32 - 1)], 0, "Decides every random choice."),
    "runs": Option(str, "runs", "Folder in which the folder of the run is made."),
    "plugins": Option(tuple[str, ...], (), "Python files that register parts of your own."),
}
"""Keys outside the sections."""


def say_on_stderr(line: str) -> None:
    """Prints a line to standard error, because it is not part of a command's output."""
    print(line, file=sys.stderr)


def read_config(
    arguments: Sequence[str],
    default_recipe: str | Path | None = None,
    *,
    parent: Parser | None = None,
    say: Callable[[str], None] = say_on_stderr,
) -> Config:
    """Returns the configuration of a command line: ``--config RECIPE`` and settings such as ``--train.epochs 5``.

    Settings override the recipe. A setting may choose another part than the recipe (``--loss.name triplet``). The
    recipe's options for the replaced part are then dropped. Plug-in files of the recipe and of the command line are
    imported. Paths in the recipe are relative to the recipe's folder.

    Args:
        arguments: The command line.
        default_recipe: The recipe that is used if the command line names none.
        parent: The parser of a command's own arguments, which ``--help`` shows too.
        say: Called with a line for each replaced part.

    Raises:
        InputError: If the recipe or a plug-in cannot be read, a key or a name is unknown, or a value has the wrong
            type or is out of range.
    """
    first = fixed_arguments()
    given, rest = first.parse_known_args(arguments)
    settings = vars(given)
    path = settings.pop("config", default_recipe)
    file = None if path is None else find_recipe(path)
    recipe = flat({} if file is None else read_mapping(file, "recipe"))
    plugins = [Path(plugin) for plugin in settings.pop("plugins", [])]
    if file is not None:
        named = fit("plugins", recipe.get("plugins", []), SINGLE["plugins"].type)
        plugins = [*(file.parent / Path(plugin).expanduser() for plugin in named), *plugins]
    load_plugins(plugins)
    settings["plugins"] = [str(plugin.resolve()) for plugin in plugins]
    names = replace_parts(recipe, settings, say)
    options = known_options(names)
    own = parent or Parser("run", add_help=False)
    texts = {"usage": own.usage, "description": own.description, "epilog": own.epilog}
    second = Parser("run", parents=[own, first], argument_default=argparse.SUPPRESS, **texts)
    for kind, part in PARTS.items():
        group = second.add_argument_group(f"{kind} {names[kind]}")
        add_keys(group, keys_of(kind, part.options(names[kind])))
    further, unknown = second.parse_known_args(rest)
    for argument in unknown:
        if not argument.startswith("--"):
            raise InputError(f"found '{argument}' where a key was expected, such as --train.epochs")
        raise unknown_key(argument.removeprefix("--").partition("=")[0], options, names)
    settings |= {key: text for key, text in vars(further).items() if key in options}
    return build_config({**recipe, **settings}, options, names)


def fixed_arguments() -> Parser:
    """Returns the parser of all arguments, except the options of parts that are chosen by name."""
    parser = Parser("run", add_help=False, argument_default=argparse.SUPPRESS)
    parser.add_argument(
        "--config", metavar="RECIPE", help="a recipe: a file, or a name such as cub200/bgformer"
    )
    parser.add_argument("--plugins", nargs="+", action="extend", metavar="FILE", help=SINGLE["plugins"].help)
    add_keys(parser, {key: option for key, option in SINGLE.items() if key != "plugins"})
    for name, section in SECTIONS.items():
        add_keys(parser.add_argument_group(name), keys_of(name, signature_options(section)))
    for kind, part in PARTS.items():
        parser.add_argument(f"--{kind}.name", metavar="NAME", help=f"which {kind} (default: {part.default})")
    return parser


def replace_parts(
    recipe: dict[str, Any], settings: Mapping[str, Any], say: Callable[[str], None]
) -> dict[str, str]:
    """Returns the name of the part of each kind, and drops the recipe's options for replaced parts.

    Args:
        recipe: The recipe's values by key. Options for replaced parts are removed from it.
        settings: Values that override the recipe.
        say: Called with a line for each part whose options were dropped.
    """
    names = {}
    for kind, part in PARTS.items():
        written = str(recipe.get(f"{kind}.name", part.default))
        names[kind] = settings.get(f"{kind}.name", written)
        dropped = [key for key in recipe if key.startswith(f"{kind}.") and key != f"{kind}.name"]
        if names[kind] != written and dropped:
            for key in dropped:
                del recipe[key]
            keys = ", ".join(key.removeprefix(f"{kind}.") for key in dropped)
            say(f"{kind}: replaced {written} by {names[kind]}; its options {keys} are dropped")
    return names


def known_options(names: Mapping[str, str]) -> dict[str, Option]:
    """Returns every key that a recipe with these parts may set.

    Args:
        names: The name of the part of each kind.

    Raises:
        InputError: If a name is unknown.
    """
    options = dict(SINGLE)
    for name, section in SECTIONS.items():
        options |= keys_of(name, signature_options(section))
    for kind, part in PARTS.items():
        options[f"{kind}.name"] = Option(str, part.default)
        options |= keys_of(kind, part.options(names[kind]))
    return options


def keys_of(section: str, options: Mapping[str, Option]) -> dict[str, Option]:
    """Returns the options by their keys in the whole recipe: ``train.epochs`` for ``epochs``."""
    return {f"{section}.{key}": option for key, option in options.items()}


def build_config(
    settings: Mapping[str, Any], options: Mapping[str, Option], names: Mapping[str, str]
) -> Config:
    """Returns the configuration of flat settings.

    Args:
        settings: Values by key (``train.epochs``). Text is read as YAML if the key's type is not text.
        options: All keys, see :func:`known_options`.
        names: The name of the part of each kind.

    Raises:
        InputError: If a key is unknown or missing, or a value has the wrong type or is out of range.
    """
    values: dict[str, dict[str, Any]] = {}
    for key in settings:
        if key not in options:
            raise unknown_key(key, options, names)
    for key, option in options.items():
        if key not in settings and option.default is REQUIRED:
            raise InputError(f"{key} is missing: expected {words(option.type)}")
        value = fit(key, settings[key], option.type) if key in settings else option.default
        place, _, name = key.rpartition(".")
        values.setdefault(place, {})[name] = value
    sections: dict[str, Any] = values.pop("")
    for kind in PARTS:
        sections[kind] = Component(values[kind].pop("name"), values[kind])
    for name, section in SECTIONS.items():
        sections[name] = section(**values[name])
    return Config(**sections)


def flat(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the values of a recipe by their keys in the whole recipe, such as ``train.epochs``.

    Raises:
        InputError: If a section is not a mapping.
    """
    settings: dict[str, Any] = {}
    for section, values in recipe.items():
        if isinstance(values, dict):
            settings |= {f"{section}.{key}": value for key, value in values.items()}
        elif section in PARTS or section in SECTIONS:
            example = f"{{name: {values}}}" if isinstance(values, str) else "{KEY: VALUE}"
            raise InputError(f"{section}: expected a mapping such as {example}, found {shown(values)}")
        else:
            settings[str(section)] = values
    return settings


def unknown_key(key: str, options: Mapping[str, Option], names: Mapping[str, str]) -> InputError:
    """Returns the error for an unknown key. It names the nearest known key."""
    section, _, last = key.rpartition(".")
    of = f" of the {section} '{names[section]}'" if section in names else ""
    elsewhere = [known for known in options if known.rpartition(".")[2] == last]
    nearest = difflib.get_close_matches(key, elsewhere, n=1, cutoff=0)
    hint = f"did you mean '{nearest[0]}'?" if nearest else did_you_mean(key, options)
    return InputError(f"unknown key '{key}'{of}; {hint}")
