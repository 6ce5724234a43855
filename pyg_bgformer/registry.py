"""Named parts that a recipe can choose, and the options that their signatures offer."""

import inspect
import re
from collections.abc import Callable, Collection, Iterator
from typing import Any, Generic, NamedTuple, TypeVar, get_type_hints

import docstring_parser

from pyg_bgformer.errors import InputError, did_you_mean

T = TypeVar("T")

DEFAULT_IN_TEXT = re.compile(r"\(default:.*?\)(?=\s*$)", re.DOTALL)
"""A default at the end of an argument's description, as docstrings of layers have it."""

REQUIRED: Any = inspect.Parameter.empty
"""The default of an option that has no default: a recipe must set it."""


class Option(NamedTuple):
    """One setting of a part.

    Attributes:
        type: Type of the value in a recipe. It may carry a range of numbers, see :mod:`pyg_bgformer.ranges`.
        default: The value if a recipe does not set the option, or :data:`REQUIRED`.
        help: What the option decides: the part's docstring, without the default that it names.
    """

    type: Any
    default: Any
    help: str = ""


class Registry(Generic[T]):
    """A mapping from names to parts of one kind.

    >>> shapes = Registry("shape")
    >>> @shapes.register("circle")
    ... class Circle: ...
    >>> shapes.find("circle") is Circle
    True

    Args:
        kind: Word for a part in messages, for example ``"method"``.
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

        Args:
            name: The name that a recipe writes.

        Raises:
            InputError: If a part of this name exists already.
        """

        def add(part: T) -> T:
            if name in self.parts:
                raise InputError(f"the {self.kind} '{name}' exists already; choose another name")
            self.parts[name] = part
            return part

        return add

    def find(self, name: str) -> T:
        """Returns the part of that name.

        Args:
            name: The name that a recipe writes.

        Raises:
            InputError: If there is no part of that name. The message gives the nearest name.
        """
        if name not in self.parts:
            raise InputError(f"unknown {self.kind} '{name}'; {did_you_mean(name, self.parts)}")
        return self.parts[name]


def signature_options(builder: Callable[..., Any], given: Collection[str] = ()) -> dict[str, Option]:
    """Returns the options of a class or function by name: its keyword-only arguments with types, defaults and help.

    Args:
        builder: A function, or a class; of a class, the constructor is read.
        given: Keyword-only arguments that the program itself supplies.
    """
    function = builder.__init__ if inspect.isclass(builder) else builder
    types = get_type_hints(function, include_extras=True)
    texts = {
        name: DEFAULT_IN_TEXT.sub("", parameter.description or "").strip()
        for parameter in docstring_parser.parse(inspect.getdoc(builder) or "").params
        for name in parameter.arg_name.split(", ")
    }
    return {
        name: Option(types[name], parameter.default, texts.get(name, ""))
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in given
    }
