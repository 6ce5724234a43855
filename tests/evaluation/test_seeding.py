import pytest
import torch
from torch import Tensor

from pyg_bgformer.evaluation.seeding import (
    greedy_seeds,
    nearest_points,
    seeds_by_distances,
    seeds_by_neighbours,
)


def clumps(count: int, each: int) -> tuple[Tensor, Tensor]:
    """Tight clumps of points, far from each other."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(count).repeat(each)
    points = torch.randn(count, 12, generator=generator)[labels]
    points = points + 0.01 * torch.randn(points.shape, generator=generator)
    return points - points.mean(dim=0), labels


def seeds(points: Tensor, count: int, seed: int = 0) -> Tensor:
    return greedy_seeds(points, count, torch.Generator().manual_seed(seed))


def test_every_clump_gets_a_centre():
    for count in (10, 300):
        points, labels = clumps(count, 5)
        assert len(labels[seeds(points, count)].unique()) == count


def test_equal_generators_give_equal_rows():
    points, _ = clumps(200, 3)
    assert torch.equal(seeds(points, 200), seeds(points, 200))
    assert not torch.equal(seeds(points, 200), seeds(points, 200, seed=1))


def test_as_many_centres_as_points_are_all_points():
    points, _ = clumps(30, 5)
    assert seeds(points, 150).sort().values.tolist() == list(range(150))


def test_fewer_distinct_points_than_centres():
    rows = seeds(torch.zeros(9, 4), 7)
    assert rows.shape == (7,)
    assert int(rows.max()) < 9


@pytest.mark.parametrize("choose", [seeds_by_distances, seeds_by_neighbours])
def test_both_ways_put_a_centre_into_every_clump_of_very_different_sizes(choose):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(60).repeat_interleave(torch.tensor([200] + [40] * 9 + [3] * 50))
    points = torch.randn(60, 12, generator=generator)[labels]
    points = points + 0.01 * torch.randn(points.shape, generator=generator)
    rows = choose(points - points.mean(dim=0), 60, 6, generator)
    assert len(labels[rows].unique()) == 60


def test_nearest_points_are_those_of_all_distances():
    points, _ = clumps(30, 5)
    rows, distances = nearest_points(points, 4)
    expected = torch.cdist(points.double(), points.double()).square().topk(4, largest=False)
    assert (rows[:, 0] == torch.arange(150).numpy()).all()
    assert torch.equal(torch.from_numpy(rows).sort().values, expected.indices.sort().values)
    assert torch.allclose(torch.from_numpy(distances).double(), expected.values, atol=1e-5)
