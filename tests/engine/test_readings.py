import pytest
import torch

from pyg_bgformer.engine.readings import NORM, Readings
from pyg_bgformer.errors import RunError


def readings_of(*updates):
    """Of updates whose scalars are all logged, unless their names start with "_"."""
    readings = Readings(epoch=2, batch=4)
    for scalars in updates:
        tensors = {name.lstrip("_"): torch.tensor(value) for name, value in scalars.items()}
        readings.add(tensors, {name for name in scalars if not name.startswith("_")})
    return readings


def test_what_is_logged_is_returned_and_nothing_else():
    readings = readings_of({"loss": 3.0, "plain": 1.0}, {f"_{NORM}": 2.0}, {"_loss": 7.0, "refined": 5.0})
    assert readings.values() == {"loss": 3.0, "plain": 1.0, "refined": 5.0}
    assert readings.batch == 5


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_term_itself_is_blamed_before_the_sum(value):
    with pytest.raises(RunError, match=rf"^loss term 'refined' is {value} in epoch 3, batch 5; a smaller"):
        readings_of({"loss": value, "plain": 1.0, "refined": value}).values()


def test_a_gradient_that_is_not_finite_is_named():
    with pytest.raises(RunError, match=r"^the gradient is not finite in epoch 3, batch 5$"):
        readings_of({"loss": 1.0}, {NORM: float("nan")}).values()


def test_the_loss_that_is_not_finite_is_blamed_before_its_gradient():
    with pytest.raises(RunError, match="loss"):
        readings_of({"loss": float("nan")}, {NORM: float("nan")}).values()
