"""Products along edges against loops, and their gradients against finite differences."""

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck

from pyg_bgformer.nn.ops import compress_edges, edge_dot, edge_softmax, edge_sum
from tests.nn.oracles import GRAPHS, features

HEADS = 3
SMALL = [name for name in GRAPHS if name != "larger"]


def sorted_edges(edge_index: Tensor) -> list[tuple[int, int]]:
    """(sender, receiver) in the order of the products: by receiver, else as given."""
    return sorted(map(tuple, edge_index.t().tolist()), key=lambda edge: edge[1])


def heads_of(x: Tensor) -> Tensor:
    return x.view(HEADS, -1, x.size(-1))


def double(rows: int, *columns: int, seed: int = 0) -> Tensor:
    return (
        features(rows, columns[0] if columns else 1, seed, torch.float64)
        .view(rows, *columns)
        .requires_grad_()
    )


@pytest.mark.parametrize("name", GRAPHS)
def test_products_equal_loops(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    edges = compress_edges(edge_index, num_nodes, HEADS)
    pairs = sorted_edges(edge_index)
    left, right = double(HEADS * num_nodes, 4).detach(), double(HEADS * num_nodes, 4, seed=1).detach()
    weight = double(HEADS * len(pairs), seed=2).detach().flatten()

    dots = edge_dot(left, right, edges).view(HEADS, -1)
    sums = heads_of(edge_sum(weight, right, edges))
    softmax = edge_softmax(weight, edges).view(HEADS, -1)

    expected = torch.zeros(HEADS, num_nodes, 4, dtype=torch.float64)
    for head in range(HEADS):
        scores = weight.view(HEADS, -1)[head]
        for e, (sender, receiver) in enumerate(pairs):
            expected[head, receiver] += scores[e] * heads_of(right)[head, sender]
            product = heads_of(left)[head, receiver] @ heads_of(right)[head, sender]
            torch.testing.assert_close(dots[head, e], product)
            total = sum(scores[f].exp() for f, edge in enumerate(pairs) if edge[1] == receiver)
            torch.testing.assert_close(softmax[head, e], scores[e].exp() / total)
    torch.testing.assert_close(sums, expected)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("heads", [1, 2])
def test_gradients(name: str, heads: int) -> None:
    num_nodes, edge_index = GRAPHS[name]
    edges = compress_edges(edge_index, num_nodes, heads)
    left, right = double(heads * num_nodes, 2), double(heads * num_nodes, 2, seed=1)
    weight = double(heads * edge_index.size(1), seed=2).detach().flatten().requires_grad_()
    assert gradcheck(lambda a, b: edge_dot(a, b, edges), (left, right), fast_mode=True)
    assert gradcheck(lambda w, a: edge_sum(w, a, edges), (weight, right), fast_mode=True)
    assert gradcheck(lambda w: edge_softmax(w, edges), (weight,), fast_mode=True)


def test_softmax_survives_large_scores() -> None:
    edges = compress_edges(torch.tensor([[0, 1, 2], [0, 0, 1]]), 3)
    alpha = edge_softmax(torch.tensor([1000.0, 999.0, -1000.0]), edges)
    torch.testing.assert_close(alpha, torch.tensor([0.7310586, 0.2689414, 1.0]))


@pytest.mark.parametrize("edge_index", [[[0], [3]], [[3], [0]], [[9, 0], [0, 1]]])
def test_a_node_that_does_not_exist_is_refused(edge_index: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="there are 3 nodes"):
        compress_edges(torch.tensor(edge_index), 3)
