"""Parsers of command lines. Each key of a recipe becomes an argument."""

import argparse
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from pyg_bgformer.config.values import shown, words
from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import REQUIRED, Option


class Parser(argparse.ArgumentParser):
    """The parser of one command. It raises :class:`~pyg_bgformer.errors.InputError` for a wrong command line.

    Args:
        command: Name of the command.
        description: Text of ``--help`` before the arguments.
        epilog: Text of ``--help`` after the arguments.
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
        """Raises :class:`InputError` instead of ending the process.

        Raises:
            InputError: Always.
        """
        raise InputError(f"{message}; see {self.prog} --help")


def add_keys(parser: argparse._ActionsContainer, options: Mapping[str, Option]) -> None:
    """Adds an argument such as ``--train.epochs`` for each key of a recipe. Its value stays text.

    Args:
        parser: A parser, or a group of a parser.
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
    r"""Returns the description of an option in one line of plain text, without markup and default.

    >>> help_text(Option(float, 0.2, r"Temperature :math:`\tau`, > 0. (default: ``0.2``)"))
    'Temperature tau, > 0.'
    """
    plain = re.sub(r":\w+:`~?([^`]*)`", r"\1", " ".join(option.help.split())).translate({92: None, 96: None})
    return re.sub(r"\s*\(default: [^)]*\)", "", plain)


def split_keys(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Returns a command's own arguments, and the keys of a recipe with their values.

    A parser that does not know a key would take the key's value for a positional argument.

    >>> split_keys(["--train.lr", "0.1", "photos", "--seed=1", "--verbose"])
    (['photos', '--verbose'], ['--train.lr', '0.1', '--seed=1'])

    Args:
        arguments: The command line.
    """
    own: list[str] = []
    keys: list[str] = []
    waiting = False  # whether the next argument is the value of a key
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
