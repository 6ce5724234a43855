import math

import numpy as np
import pytest
import torch
from torch import Tensor

from pyg_bgformer.evaluation import RetrievalResult, retrieval


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
    scores = []
    for q in range(len(queries)):
        others = [g for g in range(len(items)) if gallery is not None or g != q]
        sims = [float(queries[q] @ items[g]) for g in others]
        ranks = ranks_of_positives(sims, [int(item_labels[g]) == int(labels[q]) for g in others])
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
    assert result.map_at_r == pytest.approx(average[defined].mean())
    assert result.r_precision == pytest.approx(precision[defined].mean())
    for k, value in result.recall.items():
        assert value == pytest.approx((first[defined] <= k).mean())


@pytest.mark.parametrize(("rows", "columns", "classes"), [(40, 3, 6), (90, 2, 40), (300, 4, 60), (25, 3, 2)])
@pytest.mark.parametrize("block", [None, 1, 7])
def test_self_retrieval_equals_plain_loops_with_many_ties(rows, columns, classes, block):
    points, labels = integers(rows, columns, classes, seed=rows)
    result = retrieval(points, labels, ks=(1, 3, 1000), similarity=dot, block=block)
    assert_scores(result, oracle(points, labels))


@pytest.mark.parametrize(("queries", "gallery", "classes"), [(30, 50, 8), (20, 400, 70), (50, 3, 5)])
@pytest.mark.parametrize("block", [None, 3])
def test_query_and_gallery_equal_plain_loops(queries, gallery, classes, block):
    points, labels = integers(queries, 3, classes, seed=1)
    items, item_labels = integers(gallery, 3, classes, seed=2)
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
