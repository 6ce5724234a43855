import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN
from sklearn.cluster import KMeans
from sklearn.metrics import (
    adjusted_mutual_info_score,
    adjusted_rand_score,
    normalized_mutual_info_score,
)
from torch import Tensor

from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import clustering


def blobs(classes: int, each: int, noise: float) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(classes)
    labels = torch.arange(classes).repeat(each)
    points = torch.randn(classes, 16, generator=generator)[labels]
    return points + noise * torch.randn(points.shape, generator=generator), labels


def test_scores_are_those_of_scikit_learn_for_the_assignment():
    points, labels = blobs(12, 10, noise=0.8)
    result, truth = clustering(points, labels), labels.numpy()
    assert result.nmi == pytest.approx(normalized_mutual_info_score(truth, result.assignment))
    assert result.ami == pytest.approx(adjusted_mutual_info_score(truth, result.assignment))
    assert result.ari == pytest.approx(adjusted_rand_score(truth, result.assignment))
    assert 0 < result.pair_f1 < 1


def test_agrees_with_accuracy_calculator_for_the_assignment():
    points, labels = blobs(12, 10, noise=0.8)
    result = clustering(points, labels)
    given = AccuracyCalculator(
        include=("NMI", "AMI"),
        knn_func=CustomKNN(CosineSimilarity()),
        kmeans_func=lambda *_: torch.from_numpy(result.assignment),
    )
    reference = given.get_accuracy(points, labels)
    assert (result.nmi, result.ami) == pytest.approx((reference["NMI"], reference["AMI"]))


@pytest.mark.parametrize(("classes", "each", "noise"), [(200, 5, 0.5), (200, 5, 1.0), (25, 40, 0.3)])
def test_clusters_are_as_good_as_those_of_scikit_learns_k_means(classes: int, each: int, noise: float):
    points, labels = blobs(classes, each, noise)
    units, truth = torch.nn.functional.normalize(points).numpy(), labels.numpy()
    theirs = [KMeans(classes, n_init=1, random_state=seed).fit(units).labels_ for seed in range(5)]
    ours = [clustering(points, labels, seed=seed).assignment for seed in range(5)]
    assert within(units, ours) == pytest.approx(within(units, theirs), rel=0.02)
    scores = [[normalized_mutual_info_score(truth, found) for found in side] for side in (ours, theirs)]
    assert np.mean(scores[0]) == pytest.approx(np.mean(scores[1]), abs=0.005)


def within(units: np.ndarray, assignments: list[np.ndarray]) -> float:
    """The mean sum of squared distances to the clusters' means."""
    sums = []
    for assignment in assignments:
        parts = [units[assignment == number] for number in np.unique(assignment)]
        sums.append(sum(((part - part.mean(axis=0)) ** 2).sum() for part in parts))
    return float(np.mean(sums))


def test_separated_classes_are_found_whatever_their_scale():
    points, labels = blobs(20, 6, noise=0.01)
    for scale in (1e-30, 1.0, 1e30):
        for normalize in (True, False):
            assert clustering(points * scale, labels, normalize=normalize).nmi == pytest.approx(1)


def test_normalisation_can_be_skipped():
    angle = torch.tensor([0.0, 0.0, 0.1, 0.1])
    length = torch.tensor([[1.0], [9.0], [1.0], [9.0]])
    points = length * torch.stack([angle.cos(), angle.sin()], dim=1)
    by_length, by_direction = [0, 1, 0, 1], [0, 0, 1, 1]
    assert clustering(points, by_length, normalize=False).ari == 1
    assert clustering(points, by_direction).ari == 1


def test_equal_seeds_give_equal_clusters():
    points, labels = blobs(30, 5, noise=1.0)
    assert (
        clustering(points, labels, seed=3).assignment == clustering(points, labels, seed=3).assignment
    ).all()
    assert (
        clustering(points, labels, seed=3).assignment != clustering(points, labels, seed=4).assignment
    ).any()


def test_one_class_and_one_image_are_defined():
    points, _ = blobs(2, 4, noise=1.0)
    one = clustering(points, torch.zeros(8, dtype=torch.long))
    assert (one.nmi, one.ami, one.ari, one.pair_f1, one.clusters) == (1, 1, 1, 1, 1)
    alone = clustering(points[:1], [3])
    assert (alone.nmi, alone.ami, alone.ari) == (1, 1, 1)
    assert math.isnan(alone.pair_f1)


def test_every_image_its_own_class():
    points, _ = blobs(2, 4, noise=1.0)
    result = clustering(points, torch.arange(8))
    assert (result.found, result.nmi) == (8, pytest.approx(1))
    assert math.isnan(result.pair_f1)


def test_a_collapsed_embedding_finds_one_cluster():
    result = clustering(torch.ones(12, 3), torch.arange(12) % 4)
    assert (result.clusters, result.found, result.nmi) == (4, 1, 0)


def test_half_precision_and_numpy_are_accepted():
    points, labels = blobs(10, 5, noise=0.3)
    half = clustering(points.half(), labels)
    assert half.as_dict() == clustering(points.half().numpy(), labels.numpy()).as_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("classes", [20, 300])
def test_on_a_gpu_clusters_are_as_good_and_repeat(classes: int):
    points, labels = blobs(classes, 6, noise=0.3)
    first, second = (clustering(points.cuda(), labels) for _ in range(2))
    assert (first.assignment == second.assignment).all()
    assert first.nmi == pytest.approx(clustering(points, labels).nmi, abs=0.01)


def test_broken_rows_are_refused():
    with pytest.raises(InputError, match="1 of 3 rows"):
        clustering(torch.tensor([[0.0], [torch.nan], [1]]), [0, 0, 1])
