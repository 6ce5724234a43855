from typing import Literal

import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.typed import checked


def test_choices_are_checked():
    kind = Literal["average", "max"]
    assert checked("max", kind, "pooling") == "max"
    with pytest.raises(InputError, match="pooling: expected 'average' or 'max', found 'sum'"):
        checked("sum", kind, "pooling")
    with pytest.raises(InputError, match="found \\["):
        checked([], kind, "pooling")
