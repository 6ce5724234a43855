"""Which path runs, and the edge set as a matrix."""

import pytest
import torch

from pyg_bgformer.nn.backend import (
    DENSE_FROM_SHARE,
    DENSE_UP_TO,
    check_backend,
    edge_counts,
    edge_mask,
    pick_backend,
    same_graph,
)
from tests.nn.oracles import GRAPHS


@pytest.mark.parametrize("name", GRAPHS)
def test_counts_and_mask_equal_loops(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    expected = torch.zeros(num_nodes, num_nodes)
    for sender, receiver in edge_index.t().tolist():
        expected[receiver, sender] += 1
    assert torch.equal(edge_counts(edge_index, num_nodes), expected)
    torch.testing.assert_close(edge_mask(edge_index, num_nodes), expected.log())


def test_auto_is_dense_for_small_or_full_graphs_only() -> None:
    def edges(count: int) -> torch.Tensor:
        return torch.zeros(2, count, dtype=torch.long)

    many = 4 * DENSE_UP_TO
    enough = int(DENSE_FROM_SHARE * many**2) + 1
    assert pick_backend("auto", edges(5), DENSE_UP_TO) == "dense"
    assert pick_backend("auto", edges(5), DENSE_UP_TO + 1) == "sparse"
    assert pick_backend("auto", edges(enough), many) == "dense"
    assert pick_backend("auto", edges(enough // 2), many) == "sparse"
    assert pick_backend("auto", edges(0), 0) == "dense"


@pytest.mark.parametrize("name", ["message", "sparse", "dense"])
def test_a_named_backend_stays(name: str) -> None:
    assert pick_backend(name, torch.zeros(2, 5, dtype=torch.long), 10_000) == name


def test_unknown_name_is_refused() -> None:
    check_backend("auto")
    with pytest.raises(ValueError, match="'fast'"):
        check_backend("fast")


def test_same_graph() -> None:
    cpu = torch.device("cpu")
    assert same_graph(None, 3, cpu).all()
    assert same_graph(torch.tensor([0, 0, 1]), 3, cpu).int().tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
