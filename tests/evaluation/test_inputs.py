import numpy as np
import pytest
import torch

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation.inputs import checked_embeddings, checked_labels, checked_pair, unit_rows


@pytest.mark.parametrize(
    "labels",
    [
        torch.tensor([3, 1, 2]),
        [3, 1, 2],
        (3, 1, 2),
        np.array([3, 1, 2], dtype=np.uint16),
        np.array([3, 1, 2], dtype=">i4"),
        np.array([2, 1, 3])[::-1],
    ],
)
def test_labels_of_many_kinds(labels):
    found = checked_labels(labels, 3)
    assert (found.dtype, found.tolist()) == (torch.int64, [3, 1, 2])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog", "cat"], r"labels: found strings, expected \(3,\) whole numbers.*numpy\.unique"),
        (np.array(["cat", "dog", None], dtype=object), "labels: found objects such as 'cat'"),
        ([[1], [2, 3], [4]], "labels: found rows of different lengths"),
        ([0.5, 1.0, 1.0], r"labels: found shape \(3,\) of torch.float64"),
        ([0, 1], r"labels: found shape \(2,\)"),
    ],
)
def test_labels_that_are_not_whole_numbers(labels, message):
    with pytest.raises(InputError, match=message) as error:
        checked_labels(labels, 3)
    assert "\n" not in str(error.value)


def test_embeddings_may_be_arrays_and_lists():
    expected = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    for given in ([[1.0, 2.0], [3.0, 4.0]], np.array([[1, 2], [3, 4]], dtype=np.float16), expected.double()):
        assert torch.equal(checked_embeddings(given), expected)


def test_broken_rows_are_counted():
    points = torch.zeros(6, 2)
    points[1, 0], points[4, 1], points[5, 0] = torch.nan, torch.inf, -torch.inf
    with pytest.raises(InputError, match="embeddings: 3 of 6 rows hold NaN or infinity"):
        checked_embeddings(points)


@pytest.mark.parametrize("shape", [(3,), (0, 2), (2, 0), (1, 2, 3)])
def test_embeddings_of_another_shape(shape):
    with pytest.raises(InputError, match="embeddings: found shape"):
        checked_embeddings(torch.zeros(shape))


def test_whole_numbers_are_no_embeddings():
    with pytest.raises(InputError, match="expected a non-empty"):
        checked_embeddings(torch.zeros(3, 2, dtype=torch.long))


def test_one_set_is_checked_once_and_two_sets_must_fit():
    points = torch.randn(4, 3)
    queries, gallery = checked_pair(points, points)
    assert queries is gallery
    with pytest.raises(InputError, match="gallery: found 2 dimensions, expected 3"):
        checked_pair(points, points[:, :2])


def test_unit_rows_of_any_scale():
    points = torch.tensor([[3.0, -4.0], [0.0, 0.0]])
    for scale in (1e-30, 1.0, 1e30):
        torch.testing.assert_close(unit_rows(points * scale), torch.tensor([[0.6, -0.8], [0.0, 0.0]]))
