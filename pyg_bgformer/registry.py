"""Named parts that a recipe can choose, and the options that their signatures offer."""

import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

import docstring_parser

from pyg_bgformer.errors import InputError, did_you_mean

T = TypeVar("T")

REQUIRED: Any = inspect.Parameter.empty
"""Stands for the default of an option that must be set."""


class Option(NamedTuple):
    """One setting of a part.

    Attributes:
        type: What a recipe may write; ranges of numbers are notes in it, see :mod:`pyg_bgformer.ranges`.
        default: The value where a recipe does not set it, or :data:`REQUIRED`.
        help: What it decides, from the docstring of the part.
    """

    type: Any
    default: Any
    help: str = ""


class Registry(Generic[T]):
    """Parts of one kind by name.

    >>> shapes = Registry("shape")
    >>> @shapes.register("circle")
    ... class Circle: ...
    >>> shapes.find("circle") is Circle
    True

    Args:
        kind: What messages call a part, for example ``"method"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.parts: dict[str, T] = {}

    def __contains__(self, name: object) -> bool:
        return name in self.parts

    def __iter__(self) -> Iterator[str]:
        return iter(self.parts)

    def __len__(self) -> int:
        return len(self.parts)

    def register(self, name: str) -> Callable[[T], T]:
        """Returns a decorator that adds a part under ``name``.

        Raises:
            InputError: If another part already has this name.
        """

        def add(part: T) -> T:
            if name in self.parts:
                raise InputError(f"the {self.kind} '{name}' exists already; choose another name")
            self.parts[name] = part
            return part

        return add

    def find(self, name: str) -> T:
        """Returns the part of that name.

        Raises:
            InputError: If there is none; the line names the nearest one.
        """
        if name not in self.parts:
            raise InputError(f"unknown {self.kind} '{name}'; {did_you_mean(name, self.parts)}")
        return self.parts[name]


def signature_options(builder: Callable[..., Any], given: Collection[str] = ()) -> dict[str, Option]:
    """Returns the options of a class or function: its keyword-only arguments, with types, defaults and help.

    Args:
        builder: A class, whose constructor is read, or a function.
        given: Keyword-only arguments that the program supplies itself.
    """
    function = builder.__init__ if inspect.isclass(builder) else builder
    types = get_type_hints(function, include_extras=True)
    texts = {
        name: parameter.description or ""
        for parameter in docstring_parser.parse(inspect.getdoc(builder) or "").params
        for name in parameter.arg_name.split(", ")
    }
    return {
        name: Option(types[name], parameter.default, texts.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in given
    }
