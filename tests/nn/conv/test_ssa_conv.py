"""SSAConv against loops, against torch's attention, and its paths against each other."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from pyg_bgformer import SSAConv, batch_graph
from tests.nn.oracles import BACKENDS, GRAPHS, features, gradients, naive_attention

DIM = 12
COMPLETE = torch.cartesian_prod(torch.arange(10), torch.arange(10)).t()


def make(heads: int = 3, **options: object) -> SSAConv:
    torch.manual_seed(0)
    return SSAConv(DIM, heads, **options)


@pytest.mark.parametrize("backend", [*BACKENDS, "auto"])
@pytest.mark.parametrize("name", GRAPHS)
def test_equals_loops(name: str, backend: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    conv, x = make(backend=backend), features(num_nodes, DIM)
    torch.testing.assert_close(
        conv(x, edge_index).double(), naive_attention(conv, x, edge_index), atol=1e-6, rtol=1e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 4, 9, 10, 30, None])
def test_scores_equal_loops(k: int | None, backend: str) -> None:
    conv, x = make(neighbours="scores", k=k, backend=backend), features(10, DIM)
    torch.testing.assert_close(conv(x).double(), naive_attention(conv, x), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("heads", [1, 2, 12])
@pytest.mark.parametrize("name", GRAPHS)
def test_backends_agree(name: str, heads: int) -> None:
    num_nodes, edge_index = GRAPHS[name]
    x = 2 * features(num_nodes, DIM)
    by_message, sparse, dense = (gradients(make(heads, backend=b), x, edge_index) for b in BACKENDS)
    torch.testing.assert_close(sparse, by_message, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dense, by_message, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("k", [1, 3, None])
@pytest.mark.parametrize("batched", [False, True])
def test_backends_agree_on_scores(k: int | None, batched: bool) -> None:
    x = 2 * features(14, DIM)
    batch = torch.tensor([0] * 6 + [1] + [2] * 7) if batched else None
    layers = (make(neighbours="scores", k=k, backend=b) for b in BACKENDS)
    by_message, sparse, dense = (gradients(layer, x, None, batch) for layer in layers)
    torch.testing.assert_close(sparse, by_message, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(dense, by_message, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_finite_differences(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["duplicated edges"]
    conv = make(backend=backend).double()
    x = features(num_nodes, DIM, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv(x, edge_index), (x,), fast_mode=True)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_all_edges_equal_multihead_attention(heads: int, bias: bool, backend: str) -> None:
    conv, x = make(heads, bias=bias, backend=backend), features(10, DIM)
    theirs = nn.MultiheadAttention(DIM, heads, bias=bias)
    names = {"in_proj_weight": "qkv.weight", "out_proj.weight": "proj.weight"}
    names |= {"in_proj_bias": "qkv.bias", "out_proj.bias": "proj.bias"} if bias else {}
    theirs.load_state_dict({name: conv.state_dict()[ours] for name, ours in names.items()})
    torch.testing.assert_close(conv(x, COMPLETE), theirs(x, x, x)[0], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_of_all_nodes_equal_all_edges(backend: str) -> None:
    x = features(10, DIM)
    expected = make(backend=backend)(x, COMPLETE)
    for k in (None, 10, 99):
        out = make(neighbours="scores", k=k, backend=backend)(x)
        torch.testing.assert_close(out, expected, atol=1e-6, rtol=1e-5)


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
@pytest.mark.parametrize("neighbours", ["graph", "scores"])
def test_order_of_nodes_does_not_matter(neighbours: str, backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, order = features(num_nodes, DIM), torch.randperm(num_nodes, generator=torch.Generator().manual_seed(1))
    conv = make(neighbours=neighbours, k=4 if neighbours == "scores" else None, backend=backend)
    inputs = (edge_index, order.argsort()[edge_index]) if neighbours == "graph" else (None, None)
    torch.testing.assert_close(conv(x[order], inputs[1]), conv(x, inputs[0])[order], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [None, 3, 50])
@pytest.mark.parametrize("neighbours", ["graph", "scores"])
def test_batch_of_graphs_equals_one_by_one(neighbours: str, k: int | None, backend: str) -> None:
    graphs = [batch_graph(features(n, DIM, seed=n), k=3) for n in (6, 1, 9)]
    batch = Batch.from_data_list(graphs)
    if neighbours == "graph":
        conv = make(backend=backend)
        together = conv(batch.x, batch.visual_edge_index)
        alone = [conv(graph.x, graph.visual_edge_index) for graph in graphs]
    else:
        conv = make(neighbours="scores", k=k, backend=backend)
        together = conv(batch.x, batch=batch.batch)
        alone = [conv(graph.x) for graph in graphs]
    torch.testing.assert_close(together, torch.cat(alone), atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_in_training_only(backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x = features(num_nodes, DIM)
    conv, without = make(dropout=0.5, backend=backend), make(backend=backend)
    assert not torch.allclose(conv(x, edge_index), without(x, edge_index))
    assert torch.equal(conv.eval()(x, edge_index), without(x, edge_index))


@pytest.mark.parametrize("backend", BACKENDS)
def test_dropout_keeps_the_mean(backend: str) -> None:
    x, conv = features(4, DIM), make(dropout=0.5, backend=backend)
    copies = torch.cartesian_prod(torch.arange(4), torch.arange(4)).t()
    many = torch.cat([copies + 4 * i for i in range(400)], dim=1)  # the same graph 400 times
    out = conv(x.repeat(400, 1), many).view(400, 4, DIM)
    error = (out.mean(dim=0) - conv.eval()(x, copies)).abs()
    assert (error < 5 * out.std(dim=0) / 20).all()


def attended(conv: SSAConv, x: Tensor, edge_index: Tensor, alpha: Tensor) -> Tensor:
    """The output that these weights make."""
    value = conv.qkv(x).view(len(x), 3, conv.heads, -1)[:, 2]
    summed = torch.zeros_like(value).index_add(0, edge_index[1], alpha[:, :, None] * value[edge_index[0]])
    return conv.proj(summed.flatten(1))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", GRAPHS)
def test_attention_weights_make_the_output(name: str, backend: str) -> None:
    num_nodes, edge_index = GRAPHS[name]
    conv, x = make(backend=backend), features(num_nodes, DIM)
    out, (edges, alpha) = conv(x, edge_index, return_attention_weights=True)
    assert torch.equal(edges, edge_index)
    assert alpha.shape == (edges.size(1), 3)
    assert not alpha.requires_grad
    assert torch.equal(out, conv(x, edge_index))
    torch.testing.assert_close(attended(conv, x, edges, alpha), out, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [1, 3, None])
@pytest.mark.parametrize("batched", [False, True])
def test_attention_weights_of_the_best_scores_make_the_output(
    batched: bool, k: int | None, backend: str
) -> None:
    batch = torch.tensor([0] * 6 + [1] + [2] * 7) if batched else None
    conv, x = make(neighbours="scores", k=k, backend=backend, bias=False), 2 * features(14, DIM)
    out, (edges, alpha) = conv(x, None, batch, return_attention_weights=True)
    torch.testing.assert_close(attended(conv, x, edges, alpha), out, atol=1e-6, rtol=1e-5)
    assert (alpha.max(dim=1).values > 0).all()
    if k is not None:
        kept = torch.zeros(14, 3).index_add(0, edges[1], (alpha > 0).float())
        assert (kept <= k).all()


def test_attention_weights_are_before_dropout() -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x, conv = features(num_nodes, DIM), make(dropout=0.5)
    _, (_, weights) = conv(x, edge_index, return_attention_weights=True)
    _, (_, expected) = conv.eval()(x, edge_index, return_attention_weights=True)
    assert torch.equal(weights, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("neighbours", ["graph", "scores"])
def test_autocast_is_finite_and_near_float32(neighbours: str, backend: str) -> None:
    num_nodes, edge_index = GRAPHS["larger"]
    x = features(num_nodes, DIM)
    conv = make(neighbours=neighbours, backend=backend)
    inputs = [edge_index] if neighbours == "graph" else []
    exact = gradients(conv, x, *inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(x, *inputs).dtype == torch.bfloat16
        cast = gradients(conv, x, *inputs)
    for ours, theirs in zip(cast, exact, strict=True):
        assert ours.isfinite().all()
        assert (ours.float() - theirs).norm() < 0.03 * theirs.norm()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights(dtype: torch.dtype, backend: str) -> None:
    num_nodes, edge_index = GRAPHS["isolated nodes"]
    x, conv = features(num_nodes, DIM), make(backend=backend)
    exact = conv(x, edge_index)
    half = conv.to(dtype)(x.to(dtype), edge_index)
    assert half.dtype == dtype
    torch.testing.assert_close(half.float(), exact, atol=0.03, rtol=0.03)


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
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize(("neighbours", "edge_index"), [("graph", None), ("scores", COMPLETE)])
def test_missing_or_unused_edges_are_refused(neighbours: str, edge_index: Tensor | None) -> None:
    with pytest.raises(ValueError, match="edge_index"):
        make(neighbours=neighbours)(features(10, DIM), edge_index)
