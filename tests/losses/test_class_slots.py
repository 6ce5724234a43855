import pytest
import torch

from pyg_bgformer.losses.class_slots import class_slots


def test_positions_are_ordered_within_classes_and_classes_by_their_first_sample():
    labels = torch.tensor([7, 2, 2, 5, 7, 5])
    assert class_slots(labels, "x").tolist() == [[0, 1, 3], [4, 2, 5]]


@pytest.mark.parametrize("labels", [[0, 1], [0, 0, 1], []])
def test_uneven_classes_are_refused_in_the_name_of_who_asks(labels):
    with pytest.raises(ValueError, match=r"^the mill needs the same number of samples, at least 2"):
        class_slots(torch.tensor(labels, dtype=torch.long), "the mill")
