import pytest
import torch

from pyg_bgformer.graph import batch_graph
from pyg_bgformer.nn import BGFormerLayer
from pyg_bgformer.nn.models.bgformer import spread

X = torch.randn(12, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = torch.arange(12) // 4


def refined(x, norm):
    torch.manual_seed(0)
    layer = BGFormerLayer(8, heads=2, norm=norm).double()
    graph = batch_graph(x, Y, k=4)
    return layer(x, graph.visual_edge_index, graph.semantic_edge_index)


def test_spread_is_that_of_plain_loops():
    batch = torch.tensor([0] * 5 + [1] * 7)
    for rows in (slice(0, 5), slice(5, 12)):
        expected = X[rows].std(dim=0, correction=0).square().mean().sqrt()
        assert torch.allclose(spread(X, batch)[rows], expected.expand(X[rows].size(0), 1))
    assert torch.allclose(spread(X), X.std(dim=0, correction=0).square().mean().sqrt().expand(12, 1))


@pytest.mark.parametrize("size", [10.0, 0.1])
def test_what_the_block_adds_shrinks_with_the_features(size):
    small = size * X
    added = (refined(small, "spread") - small) / size
    assert torch.allclose(added, refined(X, "spread") - X, rtol=0.02, atol=1e-3)


def test_with_graph_norm_alone_it_does_not():
    small = 1e-2 * X
    assert (refined(small, "graph") - small).norm() > 50 * 1e-2 * (refined(X, "graph") - X).norm()


def test_a_large_common_direction_does_not_let_labels_in():
    alike = X * 1e-3 + 100
    added = (refined(alike, "spread") - alike).norm()
    assert added < 3e-3 * (refined(X, "spread") - X).norm() / spread(X)[0]


def test_equal_nodes_have_a_gradient():
    x = torch.ones(12, 8, dtype=torch.float64, requires_grad=True)
    refined(x, "spread").sum().backward()
    assert x.grad.isfinite().all()
