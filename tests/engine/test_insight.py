"""Shares of weight and edges within a class, against loops and PyG's homophily; measured without a trace."""

import pytest
import torch
from torch import Tensor
from torch_geometric.utils import homophily, remove_self_loops

from pyg_bgformer.engine.insight import (
    collapsed,
    edge_homophily,
    feature_spread,
    graph_insight,
    same_class_mass,
)
from tests.nn.oracles import GRAPHS
from tests.training import Training


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


def test_measuring_leaves_no_trace(tiny, tmp_path) -> None:
    """Not in modes, not in statistics of BatchNorm, not in random numbers; and it computes no gradient."""
    method = Training(tiny, tmp_path).state.method.train()
    method.encoder.head.eval()
    features = torch.randn(20, method.encoder.feature_dim, requires_grad=True)
    modes = [part.training for part in method.modules()]
    before = {name: value.clone() for name, value in method.state_dict().items()}
    random = torch.get_rng_state()
    insight = graph_insight(method, features, torch.arange(5).repeat_interleave(4))
    assert set(insight) == {"same_class_attention", "edge_homophily"}
    assert [part.training for part in method.modules()] == modes
    assert all(torch.equal(before[name], value) for name, value in method.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert features.grad is None


def test_the_first_batch_of_each_epoch_is_measured(tiny, tmp_path) -> None:
    first, second = Training(tiny, tmp_path).fit().history
    assert first["feature_scale"] == 1
    for row in (first, second):
        assert 0 < row["same_class_attention"] < 1
        assert 0 < row["edge_homophily"] < 1
        assert 0 < row["feature_scale"] < 10


def test_a_collapse_is_reported_once() -> None:
    features = torch.randn(20, 8)
    assert feature_spread(0.05 * features) == pytest.approx(0.05 * feature_spread(features))
    history = [{"feature_scale": value} for value in (1.0, 0.5, 0.04, 0.01)]
    assert [collapsed(history[:n]) for n in (1, 2, 3, 4)] == [False, False, True, False]
