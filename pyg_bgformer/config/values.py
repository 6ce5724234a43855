"""Checks the values of a recipe against their types and ranges."""

import difflib
import json
import reprlib
from argparse import ArgumentError
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from jsonargparse import ArgumentParser

from pyg_bgformer import typed
from pyg_bgformer.errors import InputError
from pyg_bgformer.ranges import Range

WORDS: dict[Any, str] = {**typed.WORDS, NoneType: "null", Any: "any value"}


def fit(key: str, value: Any, kind: Any) -> Any:
    """Returns a value of a recipe or of the command line, converted to its type.

    Args:
        key: The value's key, for the error message.
        value: The written value. Text is read as YAML if the type is not text.
        kind: The type. ``Annotated`` types may have a :class:`~pyg_bgformer.ranges.Range`.

    Raises:
        InputError: If the value has the wrong type or is out of range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    try:
        if value is None and NoneType not in alternatives(kind) and Any not in alternatives(kind):
            raise TypeError("null does not fit this type")  # jsonargparse accepts null for every type
        given = (
            parser.parse_args([f"--value={value}"])
            if isinstance(value, str)
            else parser.parse_object({"value": value})
        )
    except (ArgumentError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise misfit(key, value, kind) from error
    check_numbers(key, given.value, kind)
    return given.value


def check_numbers(key: str, value: Any, kind: Any) -> None:
    """Raises an error unless each number in a value is in its type's range, and no text has a NUL character.

    Raises:
        InputError: If a number is out of range, or a text has a NUL character.
    """
    if not in_range(value, kind):
        raise misfit(key, value, kind)


def in_range(value: Any, kind: Any) -> bool:
    """Returns whether each number in a value is in its type's range, and no text has a NUL character.

    No file name can contain a NUL character. The operating system would refuse it later, with unclear errors.
    """
    if isinstance(value, str):
        return "\0" not in value
    if isinstance(value, dict):
        return all(in_range(item, Any) for item in value.values())
    if isinstance(value, list | tuple):
        kinds = [argument for argument in get_args(kind) if argument is not Ellipsis] or [Any]
        return all(in_range(item, kinds[min(i, len(kinds) - 1)]) for i, item in enumerate(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    notes = [note for one in alternatives(kind) for note in getattr(one, "__metadata__", ())]
    ranges = [note for note in notes if isinstance(note, Range)] or [Range()]
    return any(value in allowed for allowed in ranges)


def alternatives(kind: Any) -> tuple[Any, ...]:
    """Returns the types of a union, or the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)


def words(kind: Any) -> str:
    """Returns a type in words, for messages and ``--help``.

    >>> words(Annotated[int, Range(least=1)] | None)
    'a whole number of at least 1, or null'
    """
    names = []
    for one in alternatives(kind):
        origin, arguments = get_origin(one), get_args(one)
        if origin is Literal:
            names += [str(value) for value in arguments]
        elif origin is Annotated:
            names.append(f"{words(arguments[0])} {' and '.join(map(str, one.__metadata__))}")
        elif origin in (list, tuple):
            size = f" of {len(arguments)}" if origin is tuple and Ellipsis not in arguments else ""
            names.append(f"a list{size}, each {words(arguments[0])}")
        else:
            names.append(WORDS.get(origin or one, str(one)))
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"


def misfit(key: str, value: Any, kind: Any) -> InputError:
    """Returns the error for a value that does not fit its type."""
    choices = [choice for one in alternatives(kind) if get_origin(one) is Literal for choice in get_args(one)]
    nearest = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
    return InputError(f"{key}: expected {words(kind)}, found {shown(value)}{hint}")


def shown(value: Any) -> str:
    """Returns a value as YAML writes it, shortened for a message."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return reprlib.repr(list(value) if isinstance(value, tuple) else value)
