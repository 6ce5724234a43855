import math

import pytest

from pyg_bgformer.errors import InputError, check_choice, check_range, did_you_mean


def test_the_nearest_name_or_all_names() -> None:
    assert did_you_mean("epoch", ["epochs", "lr"]) == "did you mean 'epochs'?"
    assert did_you_mean("x", ["epochs", "lr"]) == "choose one of: epochs, lr"


def test_choices() -> None:
    check_choice("norm", "graph", ("graph", "layer"))
    with pytest.raises(InputError, match=r"^norm must be one of graph, layer; found 'batch'$"):
        check_choice("norm", "batch", ("graph", "layer"))


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (1.0, {"at_least": 0, "below": 1}, "p must be at least 0 and below 1, found 1.0"),
        (0, {"above": 0}, "p must be above 0, found 0"),
        (math.nan, {"at_least": 0}, "p must be at least 0, found nan"),
        (math.inf, {"above": 0}, "p must be above 0, found inf"),
        (-math.inf, {}, "p must be finite, found -inf"),
    ],
)
def test_numbers_outside_their_range(value: float, bounds: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        check_range("p", value, **bounds)


def test_numbers_inside_their_range() -> None:
    for value in (0, 0.5, 1):
        check_range("p", value, at_least=0, at_most=1)
