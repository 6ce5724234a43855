"""DyBGR's blocks: what is around their propagation."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_bgformer import batch_graph
from pyg_bgformer.errors import InputError
from pyg_bgformer.nn import DyBGRLayer, DyBGRNetwork
from tests.nn.conv.test_dynamic_graph_conv import naive
from tests.nn.oracles import close, features, gradients, linear, naive_norm

DIM = 6


def make(num_layers: int = 1, **options: object) -> DyBGRNetwork:
    """Blocks none of whose parameters is at a value that hides its use."""
    torch.manual_seed(0)
    model = DyBGRNetwork(DIM, num_layers, **({"k": 3} | options))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return model.double()


def make_graph(num_nodes: int, seed: int = 0) -> Data:
    return batch_graph(features(num_nodes, DIM, seed), torch.arange(num_nodes) % 3)


def run(model: nn.Module, data: Data) -> Tensor:
    return model(data.x, data.semantic_edge_index, data.batch)


class Naive(nn.Module):
    """The blocks' definition, on their parameters."""

    def __init__(self, model: DyBGRNetwork) -> None:
        super().__init__()
        self.layers = model.layers

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        for layer in self.layers:
            x = x + naive(layer.propagation, naive_norm(layer.norm1, x), labels)
            hidden = nn.functional.gelu(linear(layer.mlp[0], naive_norm(layer.norm2, x)))
            x = x + linear(layer.mlp[2], hidden)
        return x


@pytest.mark.parametrize("num_layers", [1, 2])
def test_equals_loops_with_gradients(num_layers: int) -> None:
    model, data = make(num_layers), make_graph(9)
    ours = gradients(model, data.x, data.semantic_edge_index)
    theirs = gradients(Naive(model), data.x, data.y)
    close(ours, theirs, 1e-8)


def test_the_defaults_are_the_authors() -> None:
    layer = DyBGRNetwork(DIM).layers[1]
    conv = layer.propagation
    assert (conv.k, conv.beta, conv.lam, conv.eps, conv.num_iterations) == (30, 0.5, 0.3, 0.5, 3)
    assert layer.mlp[0].out_features == 4 * DIM


def test_edges_and_weights_are_those_of_each_block() -> None:
    model, data = make(2), make_graph(9)
    out, edges = model(data.x, data.semantic_edge_index, return_attention_weights=True)
    assert torch.equal(out, run(model, data))
    x = data.x
    for i, layer in enumerate(model.layers):
        x, (edge_index, weight) = layer(x, data.semantic_edge_index, return_attention_weights=True)
        assert torch.equal(edges[f"layers.{i}.propagation"][0], edge_index)
        assert torch.equal(edges[f"layers.{i}.propagation"][1], weight)
    assert len(edges) == 2


def test_batch_of_graphs_equals_one_by_one() -> None:
    graphs = [make_graph(num_nodes, seed=num_nodes) for num_nodes in (7, 1, 9)]
    model = make(2)
    together = run(model, Batch.from_data_list(graphs))
    close(together, torch.cat([run(model, graph) for graph in graphs]), 1e-9)


def test_order_of_nodes_does_not_matter() -> None:
    model, data = make(2), make_graph(11)
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    out = model(data.x[order], order.argsort()[data.semantic_edge_index])
    close(out, run(model, data)[order], 1e-9)


@pytest.mark.parametrize("num_nodes", [1, 2, 3])
def test_small_batches_have_finite_gradients(num_nodes: int) -> None:
    data = make_graph(num_nodes)
    assert all(value.isfinite().all() for value in gradients(make(2), data.x, data.semantic_edge_index))


def test_autocast_is_finite() -> None:
    model, data = make(2).float(), make_graph(11)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(data.x.float(), data.semantic_edge_index)
    out.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_layers": 0}, "num_layers"), ({"k": 0}, "k must")],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DyBGRNetwork(DIM, **options)


def test_a_layer_stands_alone() -> None:
    data = make_graph(9)
    assert DyBGRLayer(DIM, 3, beta=1.0).double()(data.x, data.semantic_edge_index).shape == (9, DIM)
