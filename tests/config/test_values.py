import math
from typing import Annotated, Any, Literal

import pytest

from pyg_bgformer.config.values import fit, words
from pyg_bgformer.errors import InputError
from pyg_bgformer.ranges import PositiveFloat, PositiveInt, Range, Share


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ("3", PositiveInt, 3),
        (3, float, 3.0),
        (3, int | float, 3),
        ("1e-3", float, 0.001),
        ("null", str | None, None),
        ("007", str, "007"),
        ([5, 10], tuple[PositiveInt, ...], (5, 10)),
        ("[0.2, 1]", tuple[Share, Share], (0.2, 1.0)),
        ("a", Literal["a", "b"], "a"),
        ({"a": {"b": [1]}}, Any, {"a": {"b": [1]}}),
    ],
)
def test_values_become_their_type(value, kind, expected):
    found = fit("key", value, kind)
    assert (found, type(found)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("value", "kind", "line"),
    [
        (0, PositiveInt, "key: expected a whole number of at least 1, found 0"),
        (2.5, PositiveInt, "key: expected a whole number of at least 1, found 2.5"),
        (True, int, "key: expected a whole number, found true"),
        (None, int, "key: expected a whole number, found null"),
        (-1.0, PositiveFloat | None, "key: expected a number above 0 or null, found -1.0"),
        (math.nan, float, "key: expected a number, found nan"),
        ("1e400", float, "key: expected a number, found inf"),
        ({"a": [math.inf]}, Any, "key: expected any value, found {'a': [inf]}"),
        (10**4000, float, "key: expected a number, found 100000000000000000...0000000000000000000"),
        (
            10**400,
            PositiveInt,
            "key: expected a whole number of at least 1, found 100000000000000000...0000000000000000000",
        ),
        ("a\0b", str | None, r"key: expected text or null, found 'a\x00b'"),
        (["a\0b"], tuple[str, ...], r"key: expected a list, each text, found ['a\x00b']"),
        ([0.5], tuple[Share, Share], "key: expected a list of 2, each a number from 0 to 1, found [0.5]"),
        (
            [1, 0],
            tuple[PositiveInt, ...],
            "key: expected a list, each a whole number of at least 1, found [1, 0]",
        ),
        ("adm", Literal["adam", "sgd"], "key: expected adam or sgd, found 'adm'; did you mean 'adam'?"),
        (3, str | None, "key: expected text or null, found 3"),
    ],
)
def test_a_value_that_does_not_fit_is_one_line(value, kind, line):
    with pytest.raises(InputError) as error:
        fit("key", value, kind)
    assert str(error.value) == line


def test_types_in_words():
    assert words(Annotated[float, Range(above=0, most=1)]) == "a number above 0, at most 1"
    assert words(bool | dict[str, int]) == "true or false or a mapping"
