"""Checks values that were read from a file against the types that they should have."""

from dataclasses import MISSING, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from pyg_bgformer.errors import InputError

WORDS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
    NoneType: "nothing",
}


def checked(value: Any, kind: Any, where: str) -> Any:
    """Returns a value of the given type. A mapping becomes a dataclass where the type is one.

    >>> checked({"a": [1, 2]}, dict[str, list[int]], "example")
    {'a': [1, 2]}

    Args:
        value: What was read: a number, text, list, mapping or tensor.
        kind: A class, a dataclass, ``Any``, ``Literal``, or ``list``, ``dict`` and unions of these. An integer is a
            ``float`` too; ``True`` is not an ``int``.
        where: Name of the value in messages.

    Raises:
        InputError: If the value or a part of it has another type. The message says which part.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Literal:
        if value not in arguments:
            raise InputError(f"{where}: expected {' or '.join(map(repr, arguments))}, found {value!r:.60}")
        return value
    if origin in (Union, UnionType):
        return _as_one_of(value, arguments, where)
    if is_dataclass(kind) and isinstance(kind, type):
        return _as_dataclass(value, kind, where)
    expected = origin or kind
    if not _is_a(value, expected):
        raise InputError(f"{where}: expected {_word(expected)}, found {_word(type(value))}")
    if expected is list and arguments:
        return [checked(item, arguments[0], f"{where}, item {i}") for i, item in enumerate(value, start=1)]
    if expected is dict and arguments:
        return {
            checked(key, arguments[0], f"{where}, a key"): checked(item, arguments[1], f"{where}, {key}")
            for key, item in value.items()
        }
    return value


def _as_one_of(value: Any, kinds: tuple[Any, ...], where: str) -> Any:
    errors = []
    for kind in kinds:
        try:
            return checked(value, kind, where)
        except InputError as error:
            errors.append(error)
    raise errors[0]


def _as_dataclass(value: Any, kind: Any, where: str) -> Any:
    mapping = checked(value, dict[str, Any], where)
    types = get_type_hints(kind)
    needed = [f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING]
    if missing := [name for name in needed if name not in mapping]:
        raise InputError(f"{where}: {', '.join(missing)} is missing")
    if unknown := [name for name in mapping if name not in types]:
        raise InputError(f"{where}: {', '.join(unknown)} is unknown")
    return kind(**{name: checked(item, types[name], f"{where}, {name}") for name, item in mapping.items()})


def _is_a(value: Any, kind: type) -> bool:
    if kind in (int, float) and isinstance(value, bool):
        return False
    return isinstance(value, (int, float)) if kind is float else isinstance(value, kind)


def _word(kind: type) -> str:
    return WORDS.get(kind, f"a {kind.__name__}")
