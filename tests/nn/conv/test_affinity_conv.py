"""AffinityConv against loops, and its paths against each other."""

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from pyg_bgformer import batch_graph
from pyg_bgformer.errors import InputError
from pyg_bgformer.nn import AffinityConv
from tests.nn.oracles import BACKENDS, GRAPHS, close, features, gradients, naive_affinity

DIM = 6


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_equals_loops(backend: str) -> None:
    conv = AffinityConv(backend=backend)
    for num_nodes, edge_index in GRAPHS.values():
        x = features(num_nodes, DIM)
        close(conv(x, edge_index), naive_affinity(conv, x, edge_index))


@pytest.mark.parametrize("k", [1, 4, 10, 30, None])
def test_scores_equal_loops(k: int | None) -> None:
    x = features(10, DIM)
    for backend in (*BACKENDS, "auto"):
        conv = AffinityConv("scores", k, backend)
        close(conv(x), naive_affinity(conv, x))


@pytest.mark.parametrize("name", GRAPHS)
def test_backends_have_the_same_gradients(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    x = features(num_nodes, DIM)
    by_message, sparse, dense = (gradients(AffinityConv(backend=b), x, edge_index) for b in BACKENDS)
    close(sparse, by_message)
    close(dense, by_message)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_finite_differences(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["unsorted"]
    conv, x = AffinityConv(backend=backend), features(num_nodes, DIM).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv(x, edge_index), (x,), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_identical_neighbours_all_have_weight_one(backend: str) -> None:
    edge_index = torch.cartesian_prod(torch.arange(7), torch.arange(7)).t()
    for channels in (DIM, 512):  # in float32, where their products differ by rounding
        x = features(1, channels, dtype=torch.float32).repeat(7, 1).requires_grad_()
        out = AffinityConv(backend=backend)(x, edge_index)
        torch.testing.assert_close(out, 7 * x)
        out.sum().backward()
        assert x.grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_nodes_does_not_matter(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, order = features(num_nodes, DIM), torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    conv, by_scores = AffinityConv(backend=backend), AffinityConv("scores", 5, backend)
    close(conv(x[order], order.argsort()[edge_index]), conv(x, edge_index)[order])
    close(by_scores(x[order]), by_scores(x)[order])


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_of_graphs_equals_one_by_one(backend: str) -> None:
    graphs = [batch_graph(features(n, DIM, seed=n), k=3) for n in (6, 1, 9)]
    batch = Batch.from_data_list(graphs)
    conv, by_scores = AffinityConv(backend=backend), AffinityConv("scores", 4, backend)
    alone = torch.cat([conv(graph.x, graph.visual_edge_index) for graph in graphs])
    close(conv(batch.x, batch.visual_edge_index), alone)
    close(by_scores(batch.x, batch=batch.batch), torch.cat([by_scores(graph.x) for graph in graphs]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_computes_in_float32(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x = features(num_nodes, DIM).bfloat16()
    for conv, inputs in (
        (AffinityConv("graph", None, backend), [edge_index]),
        (AffinityConv("scores", 5, backend), []),
    ):
        exact = conv(x.float(), *inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = conv(x, *inputs)
        assert out.dtype == torch.bfloat16
        torch.testing.assert_close(out, exact.bfloat16())


@pytest.mark.parametrize("k", [None, 3, 50])
def test_attention_weights_make_the_output(k: int | None) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x = features(num_nodes, DIM)
    conv = AffinityConv() if k is None else AffinityConv("scores", k)
    given = edge_index if k is None else None
    out, ((source, target), weight) = conv(x.requires_grad_(), given, return_attention_weights=True)
    close(torch.zeros_like(x).index_add(0, target, weight[:, None] * x[source]), out)
    assert torch.equal(out, conv(x, given))
    assert not weight.requires_grad


def test_str() -> None:
    assert str(AffinityConv("scores", 4)) == "AffinityConv(neighbours='scores', k=4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 3}, "neighbours='scores'"),
        ({"k": 0, "neighbours": "scores"}, "at least 1"),
        ({"neighbours": "best"}, "'best'"),
        ({"backend": "fast"}, "'fast'"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        AffinityConv(**options)


@pytest.mark.parametrize(("neighbours", "edge_index"), [("graph", None), ("scores", GRAPHS["complete"][1])])
def test_missing_or_unused_edges_are_refused(neighbours: str, edge_index: Tensor | None) -> None:
    with pytest.raises(InputError, match="edge_index"):
        AffinityConv(neighbours)(features(7, DIM), edge_index)
