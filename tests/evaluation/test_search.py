import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import search, top_k
from pyg_bgformer.evaluation.search import RUN, first_largest, padded_width


def whole_numbers(rows: int, seed: int = 0) -> Tensor:
    """Few enough for many duplicates; dot products are exact."""
    return torch.randint(-2, 3, (rows, 3), generator=torch.Generator().manual_seed(seed)).float()


def dot(queries: Tensor, gallery: Tensor) -> Tensor:
    return queries @ gallery.T


def sorted_by_hand(queries: Tensor, gallery: Tensor, k: int, exclude: list[int] | None) -> list[list[int]]:
    similarities = (queries.double() @ gallery.double().T).tolist()
    return [
        sorted(
            (i for i in range(len(gallery)) if exclude is None or i != exclude[q]),
            key=lambda i: (-similarities[q][i], i),
        )[:k]
        for q in range(len(queries))
    ]


@given(
    queries=st.integers(1, 30),
    gallery=st.integers(2, 300),
    k=st.integers(1, 320),
    block=st.sampled_from([None, 1, 7]),
    leave_out=st.booleans(),
    seed=st.integers(0, 9),
)
def test_equals_sorting_with_many_ties(queries, gallery, k, block, leave_out, seed):
    rows, items = whole_numbers(queries, seed), whole_numbers(gallery, seed + 10)
    exclude = [(7 * q + seed) % gallery for q in range(queries)] if leave_out else None
    given = None if exclude is None else torch.tensor(exclude)
    ids, similarities = top_k(rows, items, k, similarity=dot, exclude=given, block=block)
    assert ids.dtype == torch.int64
    assert ids.tolist() == sorted_by_hand(rows, items, k, exclude)
    assert torch.equal(similarities, dot(rows, items).gather(1, ids))


def test_default_similarity_is_the_cosine_for_any_length_of_rows():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    units = torch.nn.functional.normalize(rows.double())
    expected = (units @ units.T).topk(3, dim=1)
    for scale in (1e-30, 1e30):
        found = top_k((rows * scale).numpy(), (rows * scale).numpy(), 3)
        assert torch.equal(found.ids, expected.indices)
        torch.testing.assert_close(found.similarities.double(), expected.values, rtol=0, atol=1e-6)


@given(width=st.integers(1, 30_000), k=st.integers(1, 5), levels=st.integers(1, 50), seed=st.integers(0, 9))
def test_the_first_of_the_largest_columns(width, k, levels, seed):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(levels, (3, width), generator=generator).float()
    expected = values.sort(dim=1, descending=True, stable=True)
    largest, columns = first_largest(values, min(k, width))
    assert torch.equal(largest, expected.values[:, :k])
    assert torch.equal(columns, expected.indices[:, :k])


def test_a_block_always_has_a_spare_column():
    assert [padded_width(n) for n in (1, RUN - 1, RUN, RUN + 1)] == [RUN, RUN, 2 * RUN, 2 * RUN]


class LargestTensor(TorchDispatchMode):
    """Remembers the entries of the largest tensor that any operation gives."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // tensor.element_size())
        return output


def test_memory_is_that_of_a_block_and_the_gallery(monkeypatch):
    monkeypatch.setattr(search, "BLOCK_ENTRIES", 20_000)
    rows = torch.randn(900, 8, generator=torch.Generator().manual_seed(0))
    with LargestTensor() as largest:
        top_k(rows, rows, 5, exclude=torch.arange(900))
    assert largest.entries <= 20_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 0}, "k: found 0"),
        ({"block": 0}, "block: found 0"),
        ({"gallery": torch.ones(4, 5)}, "gallery: found 5 dimensions"),
        ({"gallery": torch.full((4, 2), torch.nan)}, "gallery: 4 of 4 rows hold NaN"),
        ({"exclude": torch.tensor([0, 1])}, r"exclude: found shape \(2,\) of torch.int64, expected \(3,\)"),
        ({"exclude": [0.0, 1.0, 2.0]}, r"exclude: found shape \(3,\) of torch.float64"),
        ({"exclude": torch.tensor([0, 1, 3])}, "exclude: found rows from 0 to 3, expected 0 to 2"),
        ({"similarity": lambda q, g: (q @ g.T) / 0}, "similarity: found NaN"),
        ({"similarity": lambda q, g: q[:, 0]}, "similarity: found shape"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    arguments = {"queries": torch.eye(3)[:, :2], "gallery": torch.eye(3)[:, :2], "k": 1} | arguments
    with pytest.raises(InputError, match=message) as error:
        top_k(**arguments)
    assert "\n" not in str(error.value)
