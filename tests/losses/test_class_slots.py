import pytest
import torch

from pyg_bgformer.losses.class_slots import class_slots


def test_positions_keep_the_order_within_classes_and_of_the_classes_first_samples() -> None:
    labels = torch.tensor([7, 2, 2, 5, 7, 5])
    assert class_slots(labels, "x").tolist() == [[0, 1, 3], [4, 2, 5]]


@pytest.mark.parametrize(
    ("labels", "found"),
    [
        ([0, 1], "2 classes with 1 to 1"),
        ([0, 0, 1, 1, 1], "2 classes with 2 to 3"),
        ([], "0 classes with 0 to 0"),
    ],
)
def test_classes_of_uneven_size_are_refused(labels: list[int], found: str) -> None:
    with pytest.raises(ValueError, match=rf"^the mill needs the same number of samples, at least 2.*{found}"):
        class_slots(torch.tensor(labels, dtype=torch.long), "the mill")
