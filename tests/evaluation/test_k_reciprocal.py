import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import k_reciprocal_batches, search


def points(rows: int, columns: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def whole_numbers(rows: int, seed: int = 0) -> Tensor:
    """Few enough for many duplicates; distances are exact."""
    return torch.randint(-1, 2, (rows, 3), generator=torch.Generator().manual_seed(seed)).float()


def order(x: Tensor, items: Tensor, itself: int | None) -> list[int]:
    distance = (items.double() - x.double()).square().sum(dim=1).tolist()
    return sorted(range(len(items)), key=lambda j: (j != itself, distance[j], j))


def naive(x: Tensor, k: int, batch: int, gallery: Tensor | None = None) -> list[list[int]]:
    items = x if gallery is None else gallery
    near = [order(row, items, i if gallery is None else None) for i, row in enumerate(x)]
    back = near if gallery is None else [order(row, x, None) for row in items]
    inner = [set(order(row, items, j)[: round(k / 2) + 1]) for j, row in enumerate(items)]
    batches = []
    for i in range(len(x)):
        mutual = {j for j in near[i][: k + 1] if i in back[j][: k + 1]}
        members = set(mutual)
        for c in mutual:
            theirs = {j for j in inner[c] if c in inner[j]}
            if 3 * len(theirs & mutual) > 2 * len(theirs):
                members |= theirs
        ranked = sorted(members, key=near[i].index) + [j for j in near[i] if j not in members]
        batches.append(ranked[: batch if gallery is None else batch - 1])
    return batches


def test_equals_the_original(intra_batch_parity):
    case = torch.load(intra_batch_parity, weights_only=True)["k_reciprocal"]
    ours = k_reciprocal_batches(case["feats"], case["k1"], case["bs"])
    assert torch.equal(ours, case["batches"].long())


@pytest.mark.parametrize(
    ("make", "k", "batch"),
    [(points, 30, 7), (whole_numbers, 10, 11), (points, 1, 2), (whole_numbers, 59, 20), (points, 200, 60)],
)
def test_equals_loops(make, k, batch):
    x = make(60)
    assert k_reciprocal_batches(x, k, batch).tolist() == naive(x, k, batch)


@pytest.mark.parametrize(
    ("make", "k", "batch"), [(points, 30, 4), (whole_numbers, 6, 7), (whole_numbers, 1, 2), (points, 100, 30)]
)
def test_with_a_gallery_equals_loops(make, k, batch):
    queries, gallery = make(25, seed=1), make(50, seed=2)
    ours = k_reciprocal_batches(queries, k, batch, gallery=gallery)
    assert ours.tolist() == naive(queries, k, batch, gallery)


@pytest.mark.parametrize("block", [1, 5000])
def test_blocks_make_no_difference(monkeypatch, block):
    x = points(70, 8)
    expected = k_reciprocal_batches(x, 10, 5)
    monkeypatch.setattr(search, "BLOCK_ENTRIES", block)
    assert torch.equal(k_reciprocal_batches(x, 10, 5), expected)


def test_an_image_comes_first_even_among_its_duplicates():
    batches = k_reciprocal_batches(torch.ones(40, 5), 10, 4)
    assert batches[:, 0].tolist() == list(range(40))
    assert all(len(set(batch)) == 4 for batch in batches.tolist())


class LargestTensor(TorchDispatchMode):
    """Remembers the entries of the largest tensor that any operation gives."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // tensor.element_size())
        return output


@pytest.mark.parametrize("with_gallery", [False, True])
def test_no_tensor_is_of_the_order_of_all_pairs(monkeypatch, with_gallery):
    monkeypatch.setattr(search, "BLOCK_ENTRIES", 20_000)
    x = points(900)
    with LargestTensor() as largest:
        k_reciprocal_batches(x, 10, 5, gallery=points(900, seed=1) if with_gallery else None)
    assert largest.entries <= 21_000 < 900 * 900 / 30


@pytest.mark.parametrize(
    ("k", "batch", "message"),
    [(0, 2, "k: found 0"), (5, 7, "expected 2 to 6"), (30, 21, "2 to 20"), (5, 1, "found 1")],
)
def test_sizes_that_do_not_fit_are_refused(k, batch, message):
    with pytest.raises(InputError, match=message):
        k_reciprocal_batches(points(20), k, batch)


def test_a_gallery_of_other_dimensions_is_refused():
    with pytest.raises(InputError, match="gallery: found 3 dimensions"):
        k_reciprocal_batches(points(20), gallery=points(20, 3))
