"""MarginAttentionConv against loops, and its paths against each other."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.nn import MarginAttentionConv
from pyg_bgformer.nn.ops import complete_edges
from tests.nn.oracles import GRAPHS, close, edge_lists, features, gradients, linear

DIM = 12
BACKENDS = ("message", "dense")


def make(heads: int = 3, **options: object) -> MarginAttentionConv:
    torch.manual_seed(0)
    conv = MarginAttentionConv(DIM, heads, **({"dropout": 0.0} | options)).double()
    for lin in (conv.query, conv.key, conv.value, conv.proj):
        nn.init.normal_(lin.bias)
    return conv


def weights_of(edge_index: Tensor) -> Tensor:
    return torch.rand(edge_index.size(1), generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@torch.no_grad()
def naive(
    conv: MarginAttentionConv, x: Tensor, edge_index: Tensor, edge_weight: Tensor | None = None
) -> Tensor:
    num_nodes, size = len(x), DIM // conv.heads
    query, key, value = (linear(lin, x) for lin in (conv.query, conv.key, conv.value))
    sources = edge_lists(edge_index, num_nodes)
    weights: list[list[float]] = [[] for _ in range(num_nodes)]
    for e, target in enumerate(edge_index[1].tolist()):
        weights[target].append(1.0 if edge_weight is None else float(edge_weight[e]))
    out = torch.zeros(num_nodes, DIM, dtype=torch.float64)
    for head, i in itertools.product(range(conv.heads), range(num_nodes)):
        part = slice(head * size, (head + 1) * size)
        powers = [math.exp(float(query[i, part] @ key[j, part]) / math.sqrt(size)) for j in sources[i]]
        total = sum(powers) + (1 if conv.margin else 0)
        for j, power, weight in zip(sources[i], powers, weights[i], strict=True):
            out[i, part] += weight * power / total * value[j, part]
    return linear(conv.proj, out)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("margin", [False, True])
def test_equals_loops(margin: bool, weighted: bool) -> None:
    for num_nodes, edge_index in GRAPHS.values():
        x, weight = 2 * features(num_nodes, DIM), weights_of(edge_index) if weighted else None
        expected = naive(make(margin=margin), x, edge_index, weight)
        for backend in (*BACKENDS, "auto"):
            close(make(margin=margin, backend=backend)(x, edge_index, weight), expected)


@pytest.mark.parametrize("name", GRAPHS)
def test_backends_have_the_same_gradients(name: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    for margin, weight in itertools.product((False, True), (None, weights_of(edge_index))):
        layers = [make(margin=margin, backend=backend) for backend in BACKENDS]
        by_message, dense = (
            gradients(layer, features(num_nodes, DIM), edge_index, weight) for layer in layers
        )
        assert all(value.isfinite().all() for value in dense)
        close(dense, by_message)


def test_gradients_reach_the_edge_weights_alike() -> None:
    num_nodes, edge_index = GRAPHS["duplicated edges"]
    grads = []
    for backend in BACKENDS:
        weight = weights_of(edge_index).requires_grad_()
        out = make(backend=backend)(features(num_nodes, DIM), edge_index, weight)
        grads.append(torch.autograd.grad(out.square().sum(), weight)[0])
    close(*grads)


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_edges_given_means_all_of_several_graphs(backend: str) -> None:
    for margin in (False, True):
        conv, x = make(margin=margin, backend=backend), features(30, DIM).view(2, 3, 5, DIM)
        out, (edges, alpha) = conv(x, return_attention_weights=True)
        assert out.shape == x.shape
        for graph, ours in zip(x.flatten(0, 1), out.flatten(0, 1), strict=True):
            close(ours, conv(graph, complete_edges(5)))
        assert torch.equal(edges, complete_edges(5, 6))  # the nodes are numbered consecutively
        close(attended(conv, x.view(30, DIM), edges, alpha).view_as(out), out)


@pytest.mark.parametrize("backend", BACKENDS)
def test_without_margin_it_is_ordinary_attention(backend: str) -> None:
    conv, x = make(margin=False, backend=backend), features(10, DIM)
    theirs = nn.MultiheadAttention(DIM, 3).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([lin.weight for lin in (conv.query, conv.key, conv.value)]))
        theirs.in_proj_bias.copy_(torch.cat([lin.bias for lin in (conv.query, conv.key, conv.value)]))
    theirs.out_proj.load_state_dict(conv.proj.state_dict())
    close(conv(x), theirs(x, x, x)[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_very_large_scores_stay_finite(backend: str) -> None:
    for scale in (1e3, -1e3):
        conv, x = make(backend=backend), features(6, DIM).abs()
        with torch.no_grad():
            conv.key.weight.copy_(scale * conv.query.weight)
        assert all(value.isfinite().all() for value in gradients(conv, x))


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_nodes_does_not_matter(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, order = features(num_nodes, DIM), torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    conv, weight = make(backend=backend), weights_of(edge_index)
    close(conv(x[order], order.argsort()[edge_index], weight), conv(x, edge_index, weight)[order])


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_node_without_neighbours_gets_the_bias(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["isolated nodes"]
    for margin in (False, True):
        conv = make(margin=margin, backend=backend)
        assert torch.equal(conv(features(num_nodes, DIM), edge_index)[0], conv.proj.bias)


@pytest.mark.parametrize(("backend", "weighted"), [("message", True), ("dense", False), ("dense", True)])
def test_dropout_in_training_only_and_keeps_the_mean(backend: str, weighted: bool) -> None:
    x, edges = features(4, DIM), complete_edges(4)
    many = complete_edges(4, 400)  # the same graph 400 times
    conv = make(dropout=0.5, backend=backend)
    weight = weights_of(edges) if weighted else None
    torch.manual_seed(1)
    out = conv(x.repeat(400, 1), many, None if weight is None else weight.repeat(400)).view(400, 4, DIM)
    assert not torch.equal(out[0], out[1])
    conv.eval()
    expected = conv(x, edges, weight)
    assert torch.equal(expected, make(backend=backend)(x, edges, weight))
    assert ((out.mean(dim=0) - expected).abs() < 5 * out.std(dim=0) / 20).all()


def attended(conv: MarginAttentionConv, x: Tensor, edge_index: Tensor, alpha: Tensor) -> Tensor:
    """The output that these weights make."""
    value = conv.value(x).view(len(x), conv.heads, -1)
    summed = torch.zeros_like(value).index_add(0, edge_index[1], alpha[:, :, None] * value[edge_index[0]])
    return conv.proj(summed.flatten(1))


@pytest.mark.parametrize("name", ["larger", "isolated nodes", "duplicated edges"])
@pytest.mark.parametrize(("margin", "backend"), [(True, "message"), (True, "dense"), (False, "dense")])
def test_attention_weights_make_the_output(name: str, margin: bool, backend: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    conv, x = make(margin=margin, backend=backend, dropout=0.3), features(num_nodes, DIM)
    _, (edges, alpha) = conv(x, edge_index, return_attention_weights=True)
    assert torch.equal(edges, edge_index)
    assert not alpha.requires_grad
    close(attended(conv, x, edges, alpha), conv.eval()(x, edge_index))
    sums = torch.zeros(num_nodes, 3, dtype=alpha.dtype).index_add(0, edges[1], alpha)
    assert (sums < 1 if margin else sums < 1 + 1e-12).all()


@pytest.mark.parametrize(("backend", "weighted"), [("message", True), ("dense", False), ("dense", True)])
def test_half_precision(backend: str, weighted: bool) -> None:
    num_nodes, edge_index = GRAPHS["isolated nodes"]
    x, conv = features(num_nodes, DIM, dtype=torch.float32), make(backend=backend).float()
    weight = weights_of(edge_index).float() if weighted else None
    exact = conv(x, edge_index, weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = conv(x, edge_index, weight)
    half = conv.to(torch.bfloat16)(x.bfloat16(), edge_index, weight)
    for out in (cast, half):
        assert out.dtype == torch.bfloat16
        assert (out.float() - exact).norm() < 0.03 * exact.norm()


def test_reset_parameters_draws_anew() -> None:
    conv = make()
    before = conv.query.weight.clone()
    conv.reset_parameters()
    assert not torch.equal(before, conv.query.weight)
    assert not conv.query.bias.any()


def test_str() -> None:
    assert str(make(heads=4)) == "MarginAttentionConv(12, heads=4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"heads": 5}, "5 heads"), ({"backend": "sparse"}, "'sparse'"), ({"dropout": 1.0}, "dropout")],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)


def test_inputs_that_do_not_fit_are_refused() -> None:
    conv, edges = make(), complete_edges(4)
    with pytest.raises(InputError, match="edge_weight"):
        conv(features(4, DIM), None, torch.ones(16))
    with pytest.raises(InputError, match="one graph"):
        conv(features(8, DIM).view(2, 4, DIM), edges)
