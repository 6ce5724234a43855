"""LabelConv against loops, against PyG's GCNConv, and its paths against each other."""

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.nn import GCNConv
from torch_geometric.utils import remove_self_loops

from pyg_bgformer import LabelConv, batch_graph
from tests.nn.oracles import BACKENDS, GRAPHS, features, gradients, naive_label_propagation

DIM = 6
LABELS = torch.tensor([0, 2, 1, 0, 0, 1, 3])


def make(**options: object) -> LabelConv:
    torch.manual_seed(0)
    return LabelConv(DIM, **options)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("self_weight", [1.0, 2.0])
@pytest.mark.parametrize("name", GRAPHS)
def test_equals_loops(name: str, self_weight: float, backend: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    conv, x = make(self_weight=self_weight, backend=backend), features(num_nodes, DIM)
    expected = naive_label_propagation(conv, x, edge_index)
    torch.testing.assert_close(conv(x, edge_index).double(), expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_double_precision_is_kept(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["duplicated edges"]
    conv, x = make(backend=backend).double(), features(num_nodes, DIM, dtype=torch.float64)
    expected = naive_label_propagation(conv, x, edge_index)
    torch.testing.assert_close(conv(x, edge_index), expected, atol=1e-13, rtol=1e-13)


@pytest.mark.parametrize("name", GRAPHS)
def test_backends_agree(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    x = 2 * features(num_nodes, DIM)
    by_message, sparse, dense = (gradients(make(backend=b), x, edge_index) for b in BACKENDS)
    torch.testing.assert_close(sparse, by_message, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dense, by_message, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_label_graph_equals_improved_gcn(backend: str) -> None:
    x = features(len(LABELS), DIM)
    edge_index = batch_graph(x, LABELS).semantic_edge_index
    conv, gcn = make(backend=backend), GCNConv(DIM, DIM, improved=True)
    gcn.load_state_dict({"lin.weight": conv.lin.weight, "bias": conv.lin.bias})
    others, _ = remove_self_loops(edge_index)
    # Without weights GCNConv ignores `improved`.
    theirs = gcn(x, others, torch.ones(others.size(1)))
    torch.testing.assert_close(conv(x, edge_index), theirs, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_within_a_class_all_lean_to_their_mean(backend: str) -> None:
    x = features(len(LABELS), DIM)
    conv = make(bias=False, backend=backend)
    torch.nn.init.eye_(conv.lin.weight)
    out = conv(x, batch_graph(x, LABELS).semantic_edge_index)
    torch.testing.assert_close(out[3], (x[0] + 2 * x[3] + x[4]) / 4)
    torch.testing.assert_close(out[6], x[6])


def test_self_loops_need_not_be_given() -> None:
    x = features(len(LABELS), DIM)
    edge_index = batch_graph(x, LABELS).semantic_edge_index
    for backend in BACKENDS:
        conv = make(backend=backend)
        without = conv(x, remove_self_loops(edge_index)[0])
        torch.testing.assert_close(conv(x, edge_index), without, atol=1e-7, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_nodes_does_not_matter(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, order = features(num_nodes, DIM), torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    conv = make(backend=backend)
    out = conv(x[order], order.argsort()[edge_index])
    torch.testing.assert_close(out, conv(x, edge_index)[order], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_of_graphs_equals_one_by_one(backend: str) -> None:
    graphs = [batch_graph(features(n, DIM, seed=n), torch.arange(n) % 3) for n in (6, 1, 9)]
    batch, conv = Batch.from_data_list(graphs), make(backend=backend)
    alone = torch.cat([conv(graph.x, graph.semantic_edge_index) for graph in graphs])
    torch.testing.assert_close(conv(batch.x, batch.semantic_edge_index), alone, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_is_finite_and_near_float32(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, conv = features(num_nodes, DIM), make(backend=backend)
    exact = gradients(conv, x, edge_index)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(x, edge_index).dtype == torch.bfloat16
        cast = gradients(conv, x, edge_index)
    for ours, theirs in zip(cast, exact, strict=True):
        assert ours.isfinite().all()
        assert (ours.float() - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.parametrize("name", ["duplicated edges", "isolated nodes", "complete"])
def test_attention_weights_make_the_output(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    conv, x = make().double(), features(num_nodes, DIM, dtype=torch.float64)
    out, ((source, target), weight) = conv(x, edge_index, return_attention_weights=True)
    summed = torch.zeros_like(x).index_add(0, target, weight[:, None] * conv.lin(x)[source])
    torch.testing.assert_close(summed, out)
    assert torch.equal(out, conv(x, edge_index))
    assert (source == target).sum() == num_nodes


def test_reset_parameters_draws_anew() -> None:
    conv = make()
    before = conv.lin.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.lin.weight)


def test_str_and_wrong_options() -> None:
    assert str(make()) == "LabelConv(6, self_weight=2.0)"
    with pytest.raises(ValueError, match="self_weight"):
        make(self_weight=0.0)
    with pytest.raises(ValueError, match="'fast'"):
        make(backend="fast")
