"""Shares of weight and edges within a class, against loops and PyG's homophily."""

import pytest
import torch
from torch import Tensor
from torch_geometric.utils import homophily, remove_self_loops

from pyg_bgformer.nn.insight import edge_homophily, same_class_mass
from tests.nn.oracles import GRAPHS


def naive_share(edge_index: Tensor, weight: Tensor, labels: Tensor) -> float:
    same = total = 0.0
    for (sender, receiver), value in zip(edge_index.t().tolist(), weight.tolist(), strict=True):
        if sender != receiver:
            total += value
            same += value * bool(labels[sender] == labels[receiver])
    return same / total if total else 0.0


@pytest.mark.parametrize("name", GRAPHS)
def test_equals_loops(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    labels = torch.arange(num_nodes) % 3
    weight = torch.rand(edge_index.size(1), 2, generator=torch.Generator().manual_seed(0))
    for ours, by_edge in ((weight, weight.sum(dim=1)), (weight[:, 0], weight[:, 0])):
        share = same_class_mass(edge_index, ours, labels).item()
        assert share == pytest.approx(naive_share(edge_index, by_edge, labels), abs=1e-6)


@pytest.mark.parametrize("name", ["unsorted", "duplicated edges", "complete", "larger"])
def test_homophily_equals_pyg(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    labels = torch.arange(num_nodes) % 3
    expected = homophily(remove_self_loops(edge_index)[0], labels, method="edge")
    assert edge_homophily(edge_index, labels).item() == pytest.approx(expected)


@pytest.mark.parametrize("name", ["no edges", "one node", "only self loops"])
def test_is_zero_where_nothing_joins_two_samples(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    labels = torch.zeros(num_nodes, dtype=torch.long)
    assert edge_homophily(edge_index, labels) == 0
    assert same_class_mass(edge_index, torch.ones(edge_index.size(1), 4), labels) == 0


def test_one_class_holds_everything_and_classes_of_one_nothing() -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    weight = torch.rand(edge_index.size(1), 3)
    assert same_class_mass(edge_index, weight, torch.zeros(num_nodes)) == 1
    assert same_class_mass(edge_index, weight, torch.arange(num_nodes)) == 0


def test_has_no_gradient_and_takes_half_precision() -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    weight = torch.rand(edge_index.size(1), requires_grad=True)
    labels = torch.arange(num_nodes) % 3
    share = same_class_mass(edge_index, weight, labels)
    assert not share.requires_grad
    assert same_class_mass(edge_index, weight.bfloat16(), labels).item() == pytest.approx(
        share.item(), abs=0.01
    )
