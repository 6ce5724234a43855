import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import RetrievalResult, retrieval, search


def integers(rows: int, columns: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """Small whole numbers: dot products are exact and ties plenty."""
    generator = torch.Generator().manual_seed(seed)
    points = torch.randint(-2, 3, (rows, columns), generator=generator).float()
    return points, torch.randint(classes, (rows,), generator=generator)


def dot(queries: Tensor, gallery: Tensor) -> Tensor:
    return queries @ gallery.T


def ranks_of_positives(sims: list[float], positive: list[bool]) -> list[int]:
    """Ranks by sorting every item, of equally similar ones the negatives first."""
    ranked = sorted(zip(sims, positive, strict=True), key=lambda item: (-item[0], item[1]))
    return [rank for rank, (_, is_positive) in enumerate(ranked, start=1) if is_positive]


def oracle(
    queries: Tensor, labels: Tensor, gallery: Tensor | None = None, gallery_labels: Tensor | None = None
) -> list[tuple[float, float, float]]:
    """First rank, AP@R, R-precision of every query by plain loops."""
    items, item_labels = (queries, labels) if gallery is None else (gallery, gallery_labels)
    similarity = (queries.double() @ items.double().T).tolist()
    classes, item_classes = labels.tolist(), item_labels.tolist()
    scores = []
    for q in range(len(queries)):
        others = [g for g in range(len(items)) if gallery is not None or g != q]
        same = [item_classes[g] == classes[q] for g in others]
        ranks = ranks_of_positives([similarity[q][g] for g in others], same)
        total = len(ranks)
        if not total:
            scores.append((math.nan, math.nan, math.nan))
            continue
        early = [rank for rank in ranks if rank <= total]
        average = sum(i / rank for i, rank in enumerate(early, start=1)) / total
        scores.append((ranks[0], average, len(early) / total))
    return scores


def assert_scores(result: RetrievalResult, expected: list[tuple[float, float, float]]) -> None:
    first, average, precision = (np.array(column) for column in zip(*expected, strict=True))
    np.testing.assert_array_equal(result.first_rank, first)
    np.testing.assert_allclose(result.average_precision, average, rtol=1e-12)
    np.testing.assert_allclose(result.precision_at_r, precision, rtol=1e-12)
    defined = ~np.isnan(first)
    np.testing.assert_array_equal(result.defined, defined)
    assert result.undefined == (~defined).sum()
    if not defined.any():
        assert all(
            math.isnan(score) for score in (result.map_at_r, result.r_precision, *result.recall.values())
        )
        return
    assert result.map_at_r == pytest.approx(average[defined].mean())
    assert result.r_precision == pytest.approx(precision[defined].mean())
    for k, value in result.recall.items():
        assert value == pytest.approx((first[defined] <= k).mean())


BLOCKS = st.sampled_from([None, 1, 7])


@given(rows=st.integers(1, 90), classes=st.integers(1, 60), block=BLOCKS, seed=st.integers(0, 99))
def test_self_retrieval_equals_plain_loops_with_many_ties(rows, classes, block, seed):
    points, labels = integers(rows, 3, classes, seed=seed)
    result = retrieval(points, labels, ks=(1, 3, 1000), similarity=dot, block=block)
    assert_scores(result, oracle(points, labels))


@given(queries=st.integers(1, 30), gallery=st.integers(1, 150), classes=st.integers(1, 70), block=BLOCKS)
def test_query_and_gallery_equal_plain_loops(queries, gallery, classes, block):
    points, labels = integers(queries, 3, classes, seed=queries)
    items, item_labels = integers(gallery, 3, classes, seed=gallery)
    result = retrieval(points, labels, gallery=items, gallery_labels=item_labels, similarity=dot, block=block)
    assert_scores(result, oracle(points, labels, items, item_labels))
    assert (result.queries, result.gallery) == (queries, gallery)


def test_uneven_classes_equal_plain_loops():
    points, _ = integers(400, 5, 1, seed=3)
    labels = torch.cat([torch.zeros(150), torch.ones(90), torch.arange(2, 42).repeat(4)]).long()
    assert_scores(retrieval(points, labels, similarity=dot, block=64), oracle(points, labels))


def test_default_similarity_is_the_cosine():
    points = torch.randn(120, 16, generator=torch.Generator().manual_seed(4))
    labels = torch.arange(120) % 10
    units = torch.nn.functional.normalize(points.double())
    assert_scores(retrieval(points * 1e-25, labels), oracle(units, labels))
    assert_scores(retrieval(points * 1e30, labels), oracle(units, labels))


def noisy_classes(rows: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    centres = torch.randn(classes, 16, generator=generator)
    return centres[labels] + torch.randn(rows, 16, generator=generator), labels


def accuracy_calculator() -> AccuracyCalculator:
    names = ("precision_at_1", "mean_average_precision_at_r", "r_precision")
    return AccuracyCalculator(include=names, k="max_bin_count", knn_func=CustomKNN(CosineSimilarity()))


def assert_like_accuracy_calculator(result: RetrievalResult, reference: dict[str, float]) -> None:
    assert result.recall[1] == pytest.approx(reference["precision_at_1"])
    assert result.map_at_r == pytest.approx(reference["mean_average_precision_at_r"])
    assert result.r_precision == pytest.approx(reference["r_precision"])


def test_agrees_with_accuracy_calculator_on_self_retrieval():
    points, labels = noisy_classes(400, 70, seed=0)
    reference = accuracy_calculator().get_accuracy(points, labels)
    assert_like_accuracy_calculator(retrieval(points, labels), reference)


def test_agrees_with_accuracy_calculator_on_query_and_gallery():
    points, labels = noisy_classes(300, 20, seed=1)
    queries, gallery = (points[:100], labels[:100]), (points[100:], labels[100:])
    reference = accuracy_calculator().get_accuracy(*queries, *gallery)
    result = retrieval(*queries, gallery=gallery[0], gallery_labels=gallery[1])
    assert_like_accuracy_calculator(result, reference)


@pytest.mark.parametrize(("rows", "block"), [(4, 1), (62, None), (64, 3), (500, None), (500, 1)])
def test_a_collapsed_embedding_scores_zero(rows, block):
    points = torch.randn(1, 100, generator=torch.Generator().manual_seed(rows)).expand(rows, 100)
    labels = torch.arange(rows) // 2
    result = retrieval(points, labels, ks=(1,), block=block)
    assert result.recall[1] == result.map_at_r == result.r_precision == 0
    assert (result.first_rank == rows - 1).all()


def test_a_perfect_embedding_scores_one_though_its_rows_are_duplicates():
    labels = torch.arange(60) % 7
    result = retrieval(torch.eye(7)[labels], labels, ks=(1, 100))
    assert result.recall == {1: 1.0, 100: 1.0}
    assert result.map_at_r == result.r_precision == 1


@given(rows=st.integers(2, 120), classes=st.integers(1, 40), seed=st.integers(0, 99))
def test_neither_the_order_of_rows_nor_the_names_of_classes_matter(rows, classes, seed):
    points, labels = integers(rows, 3, classes, seed)
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    names = torch.randperm(classes, generator=torch.Generator().manual_seed(seed)) - 5
    plain, permuted = retrieval(points, labels), retrieval(points[order], names[labels][order])
    assert plain.as_dict() == pytest.approx(permuted.as_dict(), nan_ok=True)
    np.testing.assert_array_equal(plain.first_rank[order], permuted.first_rank)
    np.testing.assert_array_equal(plain.average_precision[order], permuted.average_precision)


def test_exact_duplicates_of_a_query_tie():
    points = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    assert retrieval(points, [0, 0, 1, 1]).first_rank.tolist() == [2, 2, 3, 3]


def test_a_k_beyond_the_gallery_counts_every_defined_query():
    points, labels = integers(20, 3, 3, seed=6)
    result = retrieval(points, labels, ks=(19, 20, 10**6))
    assert result.recall == {19: 1.0, 20: 1.0, 10**6: 1.0}


def test_one_class_is_perfect_and_one_image_is_undefined():
    points, _ = integers(9, 3, 1, seed=7)
    assert retrieval(points, torch.zeros(9, dtype=torch.long)).map_at_r == 1
    alone = retrieval(points[:1], [0])
    assert (alone.queries, alone.undefined, alone.classes) == (1, 1, 1)
    assert math.isnan(alone.recall[1])
    assert math.isnan(alone.map_at_r)
    assert math.isnan(alone.r_precision)


def test_queries_without_positives_are_left_out_and_counted():
    points = torch.tensor([[1.0, 0], [0.9, 0.1], [0, 1]])
    result = retrieval(points, [0, 0, 5])
    assert (result.recall[1], result.undefined) == (1.0, 1)
    assert result.defined.tolist() == [True, True, False]
    assert np.isnan(result.precision_at_r).tolist() == [False, False, True]


def test_query_and_gallery_exclude_nothing():
    points, labels = integers(30, 8, 4, seed=8)
    result = retrieval(
        points, labels, gallery=points, gallery_labels=labels, similarity=lambda q, g: -torch.cdist(q, g)
    )
    distinct = len(points.unique(dim=0)) == 30
    assert distinct
    assert result.recall[1] == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_is_computed_in_float32(dtype):
    points, labels = noisy_classes(100, 10, seed=2)
    points = points.to(dtype)
    assert retrieval(points, labels).as_dict() == retrieval(points.float(), labels).as_dict()


def test_autocast_does_not_reach_the_product():
    points, labels = noisy_classes(100, 10, seed=3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = retrieval(points, labels)
    assert inside.as_dict() == retrieval(points, labels).as_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_equals_cpu():
    points, labels = integers(300, 4, 60, seed=9)
    on_device = retrieval(points.cuda(), labels.cuda(), similarity=dot)
    assert on_device.as_dict() == retrieval(points, labels, similarity=dot).as_dict()


class LargestTensor(TorchDispatchMode):
    """Remembers the entries of the largest tensor that any operation gives."""

    entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, tuple) else (output,):
            if isinstance(tensor, Tensor):
                self.entries = max(self.entries, tensor.untyped_storage().nbytes() // tensor.element_size())
        return output


@pytest.mark.parametrize("classes", [1, 50])
def test_no_tensor_is_larger_than_the_block_or_the_gallery(monkeypatch, classes):
    monkeypatch.setattr(search, "BLOCK_ENTRIES", 20_000)
    points, labels = noisy_classes(600, classes, seed=4)
    with LargestTensor() as largest:
        retrieval(points, labels)
    assert largest.entries <= max(20_000, points.numel())


def test_inputs_are_left_alone():
    points, labels = noisy_classes(50, 5, seed=5)
    before = points.clone()
    retrieval(points, labels)
    assert torch.equal(points, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings": torch.full((3, 2), torch.nan)}, "3 of 3 rows hold NaN"),
        ({"labels": ["a", "b", "a"]}, "labels: found strings"),
        ({"ks": (0, 1)}, "ks: found"),
        ({"block": 0}, "block: found 0"),
        ({"gallery": torch.ones(2, 2)}, "gallery_labels is missing"),
        ({"gallery_labels": [0]}, "gallery is missing"),
        ({"gallery": torch.ones(2, 2), "gallery_labels": [0]}, r"gallery_labels: found shape \(1,\)"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    arguments = {"embeddings": torch.eye(3)[:, :2], "labels": [0, 0, 1]} | arguments
    with pytest.raises(InputError, match=message) as error:
        retrieval(**arguments)
    assert "\n" not in str(error.value)
