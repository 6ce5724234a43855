"""The choice of a path, edges as matrices, and products along edges against loops."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from pyg_bgformer.errors import InputError
from pyg_bgformer.nn.ops import (
    DENSE_FROM_SHARE,
    DENSE_UP_TO,
    complete_edges,
    compress_edges,
    edge_counts,
    edge_dot,
    edge_mask,
    edge_softmax,
    edge_sum,
    heads_as_nodes,
    pick_backend,
    rescale,
    same_graph,
)
from tests.nn.oracles import GRAPHS, close, features

HEADS = 3


@pytest.mark.parametrize("name", GRAPHS)
def test_counts_and_mask_equal_loops(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    expected = torch.zeros(num_nodes, num_nodes)
    for source, target in edge_index.t().tolist():
        expected[target, source] += 1
    counts = edge_counts(edge_index, num_nodes)
    assert torch.equal(counts, expected)
    torch.testing.assert_close(edge_mask(counts), expected.log())


def test_auto_is_dense_for_small_or_full_graphs_and_other_names_stay() -> None:
    def edges(count: int) -> Tensor:
        return torch.zeros(2, count, dtype=torch.long)

    many = 4 * DENSE_UP_TO
    enough = int(DENSE_FROM_SHARE * many**2) + 1
    assert pick_backend("auto", edges(5), DENSE_UP_TO) == "dense"
    assert pick_backend("auto", edges(5), DENSE_UP_TO + 1) == "sparse"
    assert pick_backend("auto", edges(enough), many) == "dense"
    assert pick_backend("auto", edges(enough // 2), many) == "sparse"
    assert pick_backend("auto", edges(0), 0) == "dense"
    for name in ("message", "sparse", "dense"):
        assert pick_backend(name, edges(5), many) == name


def test_same_graph() -> None:
    cpu = torch.device("cpu")
    assert same_graph(None, 3, cpu).all()
    assert same_graph(torch.tensor([0, 0, 1]), 3, cpu).int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]


def test_complete_edges_are_sorted_by_source_and_stay_within_a_graph() -> None:
    expected = [(j, i) for graph in ((0, 1, 2), (3, 4, 5)) for j in graph for i in graph]
    assert complete_edges(3, 2).t().tolist() == [list(pair) for pair in expected]


def test_rescaled_values_lie_between_0_and_1_and_equal_ones_are_flat() -> None:
    x = torch.tensor([[1.0, 3.0, 2.0], [4.0, 4.0, 4.0 + 1e-15]], dtype=torch.float64)
    low, high = x.aminmax(dim=1, keepdim=True)
    assert rescale(x, low, high, flat=1.0).tolist() == [[0, 1, 0.5], [1, 1, 1]]
    assert rescale(x, low, high, flat=0.0)[1].tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", GRAPHS)
def test_products_equal_loops(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    edges = compress_edges(edge_index, num_nodes, HEADS)
    pairs = sorted(map(tuple, edge_index.t().tolist()), key=lambda edge: edge[1])  # by target, else as given
    left, right = features(HEADS * num_nodes, 4), features(HEADS * num_nodes, 4, seed=1)
    weight = features(HEADS * len(pairs), 1, seed=2).flatten()

    dots = edge_dot(left, right, edges, scale=0.5).view(HEADS, -1)
    sums = edge_sum(weight, right, edges).view(HEADS, -1, 4)
    softmax = edge_softmax(weight, edges).view(HEADS, -1)

    expected = torch.zeros(HEADS, num_nodes, 4, dtype=torch.float64)
    left, right = left.view(HEADS, -1, 4), right.view(HEADS, -1, 4)
    for head, scores in enumerate(weight.view(HEADS, -1)):
        for e, (source, target) in enumerate(pairs):
            expected[head, target] += scores[e] * right[head, source]
            close(dots[head, e], left[head, target] @ right[head, source] / 2)
            total = sum(scores[f].exp() for f, edge in enumerate(pairs) if edge[1] == target)
            close(softmax[head, e], scores[e].exp() / total)
    close(sums, expected)


@pytest.mark.parametrize(
    ("name", "heads"), [(name, 2) for name in GRAPHS if name != "larger"] + [("sorted by target", 1)]
)
def test_gradients_equal_finite_differences(name: str, heads: int) -> None:
    num_nodes, edge_index = GRAPHS[name]
    edges = compress_edges(edge_index, num_nodes, heads)
    left = features(heads * num_nodes, 2).requires_grad_()
    right = features(heads * num_nodes, 2, seed=1).requires_grad_()
    weight = features(heads * edge_index.size(1), 1, seed=2).flatten().requires_grad_()
    assert gradcheck(lambda a, b: edge_dot(a, b, edges, scale=0.5), (left, right), fast_mode=True)
    assert gradcheck(lambda w, a: edge_sum(w, a, edges), (weight, right), fast_mode=True)
    assert gradcheck(lambda w: edge_softmax(w, edges), (weight,), fast_mode=True)


@pytest.mark.parametrize(
    ("targets", "expected"),
    [([0, 0, 1, 2], [0.7310586, 0.2689414, 1, 1]), ([0, 0, 1, 1], [0.7310586, 0.2689414, 0, 1])],
)
def test_softmax_survives_large_scores(targets: list[int], expected: list[float]) -> None:
    edges = compress_edges(torch.tensor([[0, 1, 0, 1], targets]), targets[-1] + 1)
    alpha = edge_softmax(torch.tensor([1000.0, 999.0, -1000.0, 1000.0]), edges)
    torch.testing.assert_close(alpha, torch.tensor(expected))


def test_heads_one_after_another_and_their_gradient() -> None:
    parts = features(5, 24).view(5, 3, 2, 4).permute(1, 2, 0, 3).requires_grad_()  # (P, H, N, d)
    for part, nodes in zip(parts, heads_as_nodes(parts), strict=True):
        assert torch.equal(nodes.view(2, 5, 4), part)
    assert gradcheck(heads_as_nodes, (parts,), fast_mode=True)


def test_node_numbers_beyond_16_bits() -> None:
    edge_index = torch.tensor([[40_000, 7, 32_768], [7, 40_000, 40_000]])
    x = features(40_001, 2)
    sums = edge_sum(torch.ones(3, dtype=torch.float64), x, compress_edges(edge_index, len(x)))
    close(sums[7], x[40_000])
    close(sums[40_000], x[7] + x[32_768])
    assert (sums != 0).any(dim=1).sum() == 2


@pytest.mark.parametrize("edge_index", [[[0], [3]], [[3], [0]]])
def test_an_edge_outside_the_graph_is_refused(edge_index: list[list[int]]) -> None:
    with pytest.raises(InputError, match="there are 3 nodes"):
        compress_edges(torch.tensor(edge_index), 3)
