"""Errors whose message is one line for the user, and checks that raise such errors."""

import difflib
import math
from collections.abc import Iterable


class InputError(ValueError):
    """Raised when something that the user gave is wrong: a recipe, a folder, a file or an argument.

    The message is one line. It says what was found, what was expected, where, and how to fix it. The command line
    prints it and exits with code 2.
    """


class RunError(RuntimeError):
    """Raised when a run cannot continue or its result cannot be trusted, through no fault of the user.

    The message is one line. The command line prints it and exits with code 1.
    """


class Interrupted(Exception):
    """Raised when the program was asked to stop and has saved its state. The message says how to resume."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns a hint for a message: the nearest known name, or a list of known names if none is near.

    >>> did_you_mean("epoch", ["epochs", "lr"])
    "did you mean 'epochs'?"
    >>> did_you_mean("x", ["epochs", "lr"])
    'choose one of: epochs, lr'

    Args:
        name: The name that was not found.
        known: The names that exist.
    """
    names = sorted(known)
    if nearest := difflib.get_close_matches(name, names, n=1, cutoff=0.5):
        return f"did you mean '{nearest[0]}'?"
    if len(names) <= 12:
        return f"choose one of: {', '.join(names)}" if names else "there are none"
    some = difflib.get_close_matches(name, names, n=3, cutoff=0)
    return f"the nearest of the {len(names)} known names: {', '.join(some)}"


def check_choice(name: str, value: object, choices: Iterable[object]) -> None:
    """Raises an error unless a value is one of the choices.

    Args:
        name: What the message calls the value.
        value: The value.
        choices: The allowed values.

    Raises:
        InputError: If the value is not one of the choices.
    """
    choices = list(choices)
    if value not in choices:
        raise InputError(f"{name} must be one of {', '.join(map(str, choices))}; found {value!r}")


def check_range(
    name: str,
    value: float,
    *,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Raises an error unless a number is finite and within its range.

    >>> check_range("dropout", 1.0, at_least=0, below=1)
    Traceback (most recent call last):
    pyg_bgformer.errors.InputError: dropout must be at least 0 and below 1, found 1.0

    Args:
        name: What the message calls the number.
        value: The number.
        at_least: Smallest allowed value.
        above: Bound that the number must exceed.
        at_most: Largest allowed value.
        below: Bound that the number must stay under.

    Raises:
        InputError: If the number is outside the range, infinite or NaN.
    """
    if at_least <= value <= at_most and above < value < below:
        return
    bounds = {"at least": at_least, "above": above, "at most": at_most, "below": below}
    told = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound))
    raise InputError(f"{name} must be {told or 'finite'}, found {value}")


def one_line(error: object) -> str:
    """Returns the message of an error on one line, even if the error has several lines."""
    return " ".join(str(error).split())
