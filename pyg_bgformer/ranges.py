"""Ranges of numbers, written into the types of options."""

import sys
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """A range of finite numbers, written into a type as ``Annotated[float, Range(above=0)]``.

    >>> 3.0 in Range(above=0), float("nan") in Range(above=0)
    (True, False)

    Args:
        least: The smallest allowed number, or ``None``.
        above: A bound that every number exceeds, or ``None``.
        most: The largest allowed number, or ``None``.
        below: A bound that every number stays under, or ``None``.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None
    below: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            # This refuses infinity, NaN, and integers that are too large for a float.
            abs(number) <= sys.float_info.max
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
            and (self.below is None or number < self.below)
        )

    def __str__(self) -> str:
        if self.above is not None:
            return f"above {self.above}" if self.most is None else f"above {self.above}, at most {self.most}"
        if self.below is not None:
            return f"of at least {self.least} and below {self.below}"
        return f"of at least {self.least}" if self.most is None else f"from {self.least} to {self.most}"


PositiveInt = Annotated[int, Range(least=1)]
NonNegativeInt = Annotated[int, Range(least=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
Probability = Annotated[float, Range(least=0, below=1)]
"""Of dropping a number: with 1, nothing would be left."""
