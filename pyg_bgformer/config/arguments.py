"""Parsers of command lines, and the arguments that the keys of a recipe become."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pyg_bgformer.config.values import shown, words
from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import REQUIRED, Option


class Parser(argparse.ArgumentParser):
    """The parser of one command. It reports mistakes as the rest of the program does.

    Args:
        command: Name of the command.
        description: What the command does.
        epilog: Examples.
        **settings: See :class:`argparse.ArgumentParser`.
    """

    def __init__(
        self, command: str, description: str | None = None, epilog: str | None = None, **settings: Any
    ) -> None:
        super().__init__(
            prog=f"pyg-bgformer {command}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **settings,
        )

    def error(self, message: str) -> NoReturn:
        """Raises :class:`InputError`."""
        raise InputError(f"{message}; see {self.prog} --help")


def add_keys(parser: argparse._ActionsContainer, options: Mapping[str, Option]) -> None:
    """Adds an argument ``--train.epochs`` for each key of a recipe. Its text is kept as it is given.

    Args:
        parser: A parser, or a group of one.
        options: Options by key.
    """
    for key, option in options.items():
        default = "required" if option.default is REQUIRED else f"default: {shown(option.default)}"
        parser.add_argument(
            f"--{key}",
            metavar=key.rpartition(".")[2].upper(),
            help=f"{help_text(option)} ({words(option.type)}; {default})".strip().replace("%", "%%"),
        )


def help_text(option: Option) -> str:
    """Returns what an option decides in one line, without the marks of its docstring."""
    return (
        re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join(option.help.split())).replace("`", "").replace("\\", "")
    )


def split_keys(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns a command's own arguments, and the keys of a recipe with their values.

    A parser that does not know a key would take its value for a folder.

    >>> split_keys(["--train.lr", "0.1", "photos", "--seed=1", "--verbose"])
    (['photos', '--verbose'], ['--train.lr', '0.1', '--seed=1'])

    Args:
        arguments: The command line.
    """
    own: list[str] = []
    keys: list[str] = []
    waiting = False  # for the value of a key
    for argument in arguments:
        if not argument.startswith("--"):
            (keys if waiting else own).append(argument)
            waiting = False
            continue
        name, equals, _ = argument.removeprefix("--").partition("=")
        is_key = "." in name or name in ("seed", "runs", "plugins")
        (keys if is_key else own).append(argument)
        waiting = is_key and not equals
    return own, keys
