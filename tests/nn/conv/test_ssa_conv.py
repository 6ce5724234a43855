"""SSAConv against loops, against torch's attention, and its paths against each other."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from pyg_bgformer import SSAConv, batch_graph
from pyg_bgformer.errors import InputError
from tests.nn.oracles import BACKENDS, GRAPHS, close, features, gradients, naive_attention

DIM = 12
COMPLETE = torch.cartesian_prod(torch.arange(10), torch.arange(10)).t()
THREE_GRAPHS = torch.tensor([0] * 6 + [1] + [2] * 7)


def make(heads: int = 3, **options: object) -> SSAConv:
    torch.manual_seed(0)
    return SSAConv(DIM, heads, **options).double()


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
def test_equals_loops(backend: str) -> None:
    conv = make(backend=backend)
    for num_nodes, edge_index in GRAPHS.values():
        x = features(num_nodes, DIM)
        close(conv(x, edge_index), naive_attention(conv, x, edge_index))


@pytest.mark.parametrize("k", [1, 4, 10, 30, None])
def test_scores_equal_loops(k: int | None) -> None:
    x = features(10, DIM)
    for backend in BACKENDS:
        conv = make(neighbours="scores", k=k, backend=backend)
        close(conv(x), naive_attention(conv, x))


@pytest.mark.parametrize("name", GRAPHS)
def test_backends_have_the_same_gradients(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    for heads in (1, 3, 12):
        x = 2 * features(num_nodes, DIM)
        by_message, sparse, dense = (gradients(make(heads, backend=b), x, edge_index) for b in BACKENDS)
        close(sparse, by_message)
        close(dense, by_message)


@pytest.mark.parametrize(("k", "batch"), [(1, None), (3, THREE_GRAPHS), (None, THREE_GRAPHS)])
def test_backends_have_the_same_gradients_with_scores(k: int | None, batch: Tensor | None) -> None:
    x = 2 * features(14, DIM)
    layers = (make(neighbours="scores", k=k, backend=b) for b in BACKENDS)
    by_message, sparse, dense = (gradients(layer, x, None, batch) for layer in layers)
    close(sparse, by_message)
    close(dense, by_message)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_finite_differences(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["duplicated edges"]
    conv, x = make(backend=backend), features(num_nodes, DIM).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv(x, edge_index), (x,), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_edges_equal_multihead_attention(backend: str) -> None:
    conv, x = make(backend=backend), features(10, DIM)
    theirs = nn.MultiheadAttention(DIM, 3).double()
    names = {"in_proj_weight": "qkv.weight", "out_proj.weight": "proj.weight"}
    names |= {"in_proj_bias": "qkv.bias", "out_proj.bias": "proj.bias"}
    theirs.load_state_dict({name: conv.state_dict()[ours] for name, ours in names.items()})
    expected = theirs(x, x, x)[0]
    close(conv(x, COMPLETE), expected)
    for k in (None, 10, 99):
        close(make(neighbours="scores", k=k, backend=backend)(x), expected)


def test_a_small_batch_leaves_k_as_it_was() -> None:
    conv, x = make(neighbours="scores", k=6), features(20, DIM)
    before = conv(x)
    assert conv(x[:4]).shape == (4, DIM)
    assert conv.k == 6
    assert torch.equal(conv(x), before)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_flow_through_kept_scores_only(backend: str) -> None:
    conv, x = make(heads=1, neighbours="scores", k=2, backend=backend), features(8, DIM)
    query, key, _ = conv.qkv(x).chunk(3, dim=1)
    kept = (query @ key.t())[0].topk(2).indices
    grad = torch.autograd.functional.jacobian(lambda x: conv(x)[0].square().sum(), x)
    touched = grad.abs().sum(dim=1).nonzero().flatten().tolist()
    assert touched == sorted({0, *kept.tolist()})


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_nodes_does_not_matter(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, order = features(num_nodes, DIM), torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    conv, by_scores = make(backend=backend), make(neighbours="scores", k=4, backend=backend)
    close(conv(x[order], order.argsort()[edge_index]), conv(x, edge_index)[order])
    close(by_scores(x[order]), by_scores(x)[order])


@pytest.mark.parametrize("backend", BACKENDS)
def test_batch_of_graphs_equals_one_by_one(backend: str) -> None:
    graphs = [batch_graph(features(n, DIM, seed=n), k=3) for n in (6, 1, 9)]
    batch, conv = Batch.from_data_list(graphs), make(backend=backend)
    alone = torch.cat([conv(graph.x, graph.visual_edge_index) for graph in graphs])
    close(conv(batch.x, batch.visual_edge_index), alone)
    for k in (2, None):
        by_scores = make(neighbours="scores", k=k, backend=backend)
        alone = torch.cat([by_scores(graph.x) for graph in graphs])
        close(by_scores(batch.x, batch=batch.batch), alone)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_in_training_only_and_keeps_the_mean(backend: str) -> None:
    x, conv = features(4, DIM), make(dropout=0.5, backend=backend)
    copies = torch.cartesian_prod(torch.arange(4), torch.arange(4)).t()
    many = torch.cat([copies + 4 * i for i in range(400)], dim=1)  # the same graph 400 times
    torch.manual_seed(1)
    out = conv(x.repeat(400, 1), many).view(400, 4, DIM)
    assert not torch.equal(out[0], out[1])
    expected = conv.eval()(x, copies)
    assert torch.equal(expected, make(backend=backend)(x, copies))
    assert ((out.mean(dim=0) - expected).abs() < 5 * out.std(dim=0) / 20).all()


def attended(conv: SSAConv, x: Tensor, edge_index: Tensor, alpha: Tensor) -> Tensor:
    """The output that these weights make."""
    value = conv.qkv(x).view(len(x), 3, conv.heads, -1)[:, 2]
    summed = torch.zeros_like(value).index_add(0, edge_index[1], alpha[:, :, None] * value[edge_index[0]])
    return conv.proj(summed.flatten(1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_attention_weights_make_the_output(backend: str) -> None:
    conv = make(backend=backend, dropout=0.5)  # the weights are those before dropout
    for num_nodes, edge_index in GRAPHS.values():
        x = features(num_nodes, DIM)
        _, (edges, alpha) = conv.train()(x, edge_index, return_attention_weights=True)
        assert torch.equal(edges, edge_index)
        assert alpha.shape == (edges.size(1), 3)
        assert not alpha.requires_grad
        close(attended(conv, x, edges, alpha), conv.eval()(x, edge_index))


@pytest.mark.parametrize(("k", "batch"), [(1, None), (3, THREE_GRAPHS), (None, None)])
def test_attention_weights_of_the_best_scores_make_the_output(k: int | None, batch: Tensor | None) -> None:
    for backend in BACKENDS:
        conv, x = make(neighbours="scores", k=k, backend=backend), 2 * features(14, DIM)
        out, (edges, alpha) = conv(x, None, batch, return_attention_weights=True)
        close(attended(conv, x, edges, alpha), out)
        assert (alpha.max(dim=1).values > 0).all()
        kept = torch.zeros(14, 3).index_add(0, edges[1], (alpha > 0).float())
        assert k is None or (kept <= k).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_is_finite_and_near_float32(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x = features(num_nodes, DIM, dtype=torch.float32)
    for neighbours, inputs in (("graph", [edge_index]), ("scores", [])):
        conv = make(neighbours=neighbours, backend=backend).float()
        exact = gradients(conv, x, *inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert conv(x, *inputs).dtype == torch.bfloat16
            cast = gradients(conv, x, *inputs)
        for ours, theirs in zip(cast, exact, strict=True):
            assert ours.isfinite().all()
            assert (ours.float() - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_weights(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["isolated nodes"]
    x, conv = features(num_nodes, DIM), make(backend=backend)
    exact = conv(x, edge_index)
    half = conv.bfloat16()(x.bfloat16(), edge_index)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.double(), exact, atol=0.03, rtol=0.03)


def test_a_node_without_neighbours_gets_the_bias() -> None:
    num_nodes, edge_index = GRAPHS["isolated nodes"]
    for backend in BACKENDS:
        conv = make(backend=backend)
        assert torch.equal(conv(features(num_nodes, DIM), edge_index)[0], conv.proj.bias)


def test_reset_parameters_draws_anew() -> None:
    conv = make()
    before = [parameter.clone() for parameter in conv.parameters()]
    conv.reset_parameters()
    assert all(not torch.equal(a, b) for a, b in zip(before, conv.parameters(), strict=True))


def test_str() -> None:
    assert str(make(heads=4)) == "SSAConv(12, heads=4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "5 heads"),
        ({"heads": 0}, "0 heads"),
        ({"k": 3}, "neighbours='scores'"),
        ({"k": 0, "neighbours": "scores"}, "at least 1"),
        ({"neighbours": "best"}, "'best'"),
        ({"backend": "fast"}, "'fast'"),
        ({"dropout": 1.5}, "dropout"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)


@pytest.mark.parametrize(("neighbours", "edge_index"), [("graph", None), ("scores", COMPLETE)])
def test_missing_or_unused_edges_are_refused(neighbours: str, edge_index: Tensor | None) -> None:
    with pytest.raises(InputError, match="edge_index"):
        make(neighbours=neighbours)(features(10, DIM), edge_index)
