import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from pyg_bgformer.evaluation import search
from pyg_bgformer.evaluation.k_means import k_means, means, nearest_centres


def cloud(points: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(points, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("points", "clusters", "dim"), [(400, 5, 2), (600, 150, 16), (300, 290, 8), (50, 1, 3)]
)
def test_same_clusters_as_scikit_learns_lloyd(points: int, clusters: int, dim: int):
    x = cloud(points, dim)
    found = k_means(x, x[:clusters])
    start = x[:clusters].double().numpy()
    theirs = KMeans(clusters, init=start, n_init=1, tol=0, algorithm="lloyd").fit(x.double().numpy())
    assert found.assignment.tolist() == theirs.labels_.tolist()
    assert np.allclose(found.centres.numpy(), theirs.cluster_centers_, atol=1e-5)


def test_every_point_is_with_its_nearest_centre_and_every_centre_is_a_mean():
    x = cloud(500, 3)
    found = k_means(x, x[:40])
    assert torch.equal(found.assignment, torch.cdist(x.double(), found.centres.double()).argmin(dim=1))
    for number, centre in enumerate(found.centres):
        assert torch.allclose(centre, x[found.assignment == number].mean(dim=0), atol=1e-6)


def test_a_cluster_without_points_keeps_its_centre():
    x = torch.tensor([[0.0], [1.0], [10.0]])
    found = k_means(x, torch.tensor([[0.0], [10.0], [100.0]]))
    assert found.assignment.tolist() == [0, 0, 1]
    assert found.centres.tolist() == [[0.5], [10.0], [100.0]]
    assert torch.equal(means(x, torch.tensor([1, 1, 1]), x), torch.tensor([[0.0], [11 / 3], [10.0]]))


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch):
    x = cloud(300, 4)
    whole = k_means(x, x[:30])
    monkeypatch.setattr(search, "BLOCK_ENTRIES", 1000)
    assert torch.equal(k_means(x, x[:30]).assignment, whole.assignment)


def test_closeness_is_the_distance_turned_round():
    x, centres = cloud(20, 5), cloud(7, 5, seed=1)
    closeness, numbers = nearest_centres(x, centres)
    distances = torch.cdist(x, centres).square()
    assert torch.allclose(x.square().sum(dim=1) - closeness, distances.amin(dim=1), atol=1e-5)
    assert torch.equal(numbers, distances.argmin(dim=1))
    assert nearest_centres(x, centres[:0])[0].tolist() == [-torch.inf] * 20
