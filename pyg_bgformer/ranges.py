"""Ranges of numbers, written into the types of options."""

import sys
from dataclasses import dataclass
from typing import Annotated


@dataclass(frozen=True)
class Range:
    """Finite numbers within bounds, as a note in a type: ``Annotated[float, Range(above=0)]``.

    >>> 3.0 in Range(above=0), float("nan") in Range(above=0)
    (True, False)

    Args:
        least: The smallest number, if there is one.
        above: What all numbers are larger than, if there is such a bound.
        most: The largest number, if there is one.
    """

    least: float | None = None
    above: float | None = None
    most: float | None = None

    def __contains__(self, number: float) -> bool:
        return (
            abs(number)
            <= sys.float_info.max  # neither infinite, nor not a number, nor larger than all floats
            and (self.least is None or number >= self.least)
            and (self.above is None or number > self.above)
            and (self.most is None or number <= self.most)
        )

    def __str__(self) -> str:
        if self.above is not None:
            return f"above {self.above}" if self.most is None else f"above {self.above}, at most {self.most}"
        return f"of at least {self.least}" if self.most is None else f"from {self.least} to {self.most}"


PositiveInt = Annotated[int, Range(least=1)]
NonNegativeInt = Annotated[int, Range(least=0)]
PositiveFloat = Annotated[float, Range(above=0)]
NonNegativeFloat = Annotated[float, Range(least=0)]
Share = Annotated[float, Range(least=0, most=1)]
