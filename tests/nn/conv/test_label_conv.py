"""LabelConv against loops, against PyG's GCNConv, and its paths against each other."""

import pytest
import torch
from torch_geometric.data import Batch
from torch_geometric.nn import GCNConv
from torch_geometric.utils import remove_self_loops

from pyg_bgformer import LabelConv, batch_graph
from pyg_bgformer.errors import InputError
from tests.nn.oracles import BACKENDS, GRAPHS, close, features, gradients, naive_label_propagation

DIM = 6
LABELS = torch.tensor([0, 2, 1, 0, 0, 1, 3])


def make(**options: object) -> LabelConv:
    torch.manual_seed(0)
    return LabelConv(DIM, **options).double()


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("self_weight", [1.0, 2.0])
def test_equals_loops(self_weight: float, backend: str) -> None:
    conv = make(self_weight=self_weight, backend=backend)
    for num_nodes, edge_index in GRAPHS.values():
        x = features(num_nodes, DIM)
        close(conv(x, edge_index), naive_label_propagation(conv, x, edge_index))


@pytest.mark.parametrize("name", GRAPHS)
def test_backends_have_the_same_gradients(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    x = 2 * features(num_nodes, DIM)
    by_message, sparse, dense = (gradients(make(backend=b), x, edge_index) for b in BACKENDS)
    close(sparse, by_message)
    close(dense, by_message)


@pytest.mark.parametrize("backend", BACKENDS)
def test_label_graph_equals_improved_gcn(backend: str) -> None:
    x = features(len(LABELS), DIM)
    edge_index = batch_graph(x, LABELS).semantic_edge_index
    conv, gcn = make(backend=backend), GCNConv(DIM, DIM, improved=True).double()
    gcn.load_state_dict({"lin.weight": conv.lin.weight, "bias": conv.lin.bias})
    others, _ = remove_self_loops(edge_index)
    # Without weights GCNConv ignores `improved`.
    close(conv(x, edge_index), gcn(x, others, torch.ones(others.size(1), dtype=x.dtype)))
    close(conv(x, edge_index), conv(x, others))  # self loops need not be given


def test_samples_of_a_class_move_towards_their_mean() -> None:
    x = features(len(LABELS), DIM)
    conv = make()
    torch.nn.init.eye_(conv.lin.weight)
    torch.nn.init.zeros_(conv.lin.bias)
    out = conv(x, batch_graph(x, LABELS).semantic_edge_index)
    close(out[3], (x[0] + 2 * x[3] + x[4]) / 4)
    close(out[6], x[6])


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_nodes_does_not_matter(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, order = features(num_nodes, DIM), torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    conv = make(backend=backend)
    close(conv(x[order], order.argsort()[edge_index]), conv(x, edge_index)[order])


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_of_graphs_equals_one_by_one(backend: str) -> None:
    graphs = [batch_graph(features(n, DIM, seed=n), torch.arange(n) % 3) for n in (6, 1, 9)]
    batch, conv = Batch.from_data_list(graphs), make(backend=backend)
    alone = torch.cat([conv(graph.x, graph.semantic_edge_index) for graph in graphs])
    close(conv(batch.x, batch.semantic_edge_index), alone)


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_is_finite_and_near_float32(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, conv = features(num_nodes, DIM, dtype=torch.float32), make(backend=backend).float()
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
    conv, x = make(), features(num_nodes, DIM)
    out, ((source, target), weight) = conv(x, edge_index, return_attention_weights=True)
    close(torch.zeros_like(x).index_add(0, target, weight[:, None] * conv.lin(x)[source]), out)
    assert torch.equal(out, conv(x, edge_index))
    assert (source == target).sum() == num_nodes


def test_reset_parameters_draws_anew() -> None:
    conv = make()
    before = conv.lin.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.lin.weight)


def test_str_and_wrong_options() -> None:
    assert str(make()) == "LabelConv(6, self_weight=2.0)"
    with pytest.raises(InputError, match="self_weight"):
        make(self_weight=0.0)
    with pytest.raises(InputError, match="'fast'"):
        make(backend="fast")
