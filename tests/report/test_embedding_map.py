import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import PoincareBall
from pyg_bgformer.report.embedding_map import choose_points, embedding_map


def groups(generator, dims=8):
    """Three groups of ten unit vectors, and the group of each."""
    centres = torch.eye(dims)[:3].repeat_interleave(10, dim=0)
    noise = 0.05 * torch.randn(30, dims, generator=generator)
    return F.normalize(centres + noise, dim=1), torch.arange(3).repeat_interleave(10)


@pytest.mark.parametrize("geometry", [None, PoincareBall()])
def test_neighbours_on_the_map_are_neighbours_of_the_embeddings(geometry):
    x, group = groups(torch.Generator().manual_seed(0))
    points = torch.tensor(
        embedding_map(x, similarity=None if geometry is None else geometry.similarity), dtype=torch.float64
    )
    assert points.shape == (30, 2)
    assert points.min() == 0
    assert points.max() == 1
    distance = torch.cdist(points, points).fill_diagonal_(torch.inf)
    assert (group[distance.argmin(dim=1)] == group).all()


def test_a_map_is_repeatable():
    x, _ = groups(torch.Generator().manual_seed(1))
    assert np.array_equal(embedding_map(x, seed=3), embedding_map(x, seed=3))


def test_equal_embeddings_have_a_map():
    assert np.isfinite(embedding_map(torch.ones(6, 4))).all()


def test_too_few_embeddings():
    with pytest.raises(InputError, match="at least 4"):
        embedding_map(torch.ones(3, 4))


def test_umap_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    with pytest.raises(InputError, match="pip install umap-learn"):
        embedding_map(torch.rand(9, 4), method="umap")


def test_a_map_shows_all_items_or_as_many_of_each_class():
    labels = np.repeat(np.arange(10), 7)
    assert choose_points(labels, 70).tolist() == list(range(70))
    some = choose_points(labels, 60)
    assert (np.unique(labels[some], return_counts=True)[1] == 6).all()
    assert (np.diff(some) > 0).all()
    few = choose_points(labels, 23)
    assert len(np.unique(labels[few])) == 4
    assert len(few) == 20
