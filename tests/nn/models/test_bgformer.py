"""BGFormer: its blocks against loops, in every form."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_bgformer import BGFormer, BGFormerLayer, LabelConv, SSAConv, batch_graph
from pyg_bgformer.errors import InputError
from pyg_bgformer.nn.models.bgformer import spread
from tests.nn.oracles import (
    BACKENDS,
    close,
    features,
    gradients,
    linear,
    naive_affinity,
    naive_attention,
    naive_label_propagation,
    naive_norm,
)

DIM = 8
FORMS: list[dict] = [
    {},
    {"visual": "affinity"},
    {"semantic": "attention"},
    {"neighbours": "scores", "k": 3},
    {"neighbours": "scores", "k": 3, "visual": "affinity"},
    {"branches": "visual"},
    {"branches": "visual", "visual": "affinity"},
    {"branches": "visual", "neighbours": "scores", "k": 3},
    {"branches": "semantic"},
    {"branches": "semantic", "semantic": "attention"},
    {"branches": "full"},
]


def make(**options: object) -> BGFormerLayer:
    """A layer none of whose parameters is at a value that hides its use."""
    torch.manual_seed(0)
    layer = BGFormerLayer(DIM, heads=2, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return layer.double()


def make_graph(num_nodes: int, seed: int = 0) -> Data:
    return batch_graph(features(num_nodes, DIM, seed), torch.arange(num_nodes) % 3, k=4)


def run(layer: nn.Module, data: Data) -> Tensor:
    return layer(data.x, data.get("visual_edge_index"), data.get("semantic_edge_index"), data.batch)


def naive_branch(layer: BGFormerLayer, conv: nn.Module, x: Tensor, edge_index: Tensor | None) -> Tensor:
    edges = edge_index if getattr(conv, "neighbours", "graph") == "graph" else None
    if isinstance(conv, SSAConv):
        return naive_attention(conv, x, edges)
    out = (
        naive_label_propagation(conv, x, edges)
        if isinstance(conv, LabelConv)
        else naive_affinity(conv, x, edges)
    )
    return linear(layer.proj, out)


@torch.no_grad()
def naive_layer(layer: BGFormerLayer, data: Data) -> Tensor:
    x = data.x.double()
    normed, lam = naive_norm(layer.norm1, x), layer.lam if layer.branches == "dual" else 1.0
    if layer.visual is not None:
        x = x + lam * naive_branch(layer, layer.visual, normed, data.get("visual_edge_index"))
    if layer.semantic is not None:
        share = 1 - lam if layer.visual is not None else 1.0
        x = x + share * naive_branch(layer, layer.semantic, normed, data.semantic_edge_index)
    hidden = nn.functional.gelu(linear(layer.mlp[0], naive_norm(layer.norm2, x)))
    return x + linear(layer.mlp[2], hidden)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_layer_equals_loops(form: dict) -> None:
    for norm in ("graph", "layer"):
        layer, data = make(lam=0.3, norm=norm, **form), make_graph(11)
        close(run(layer, data), naive_layer(layer, data), 1e-9)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_backends_have_the_same_gradients(form: dict) -> None:
    data = make_graph(11)
    inputs = (data.x, data.visual_edge_index, data.semantic_edge_index)
    by_message, sparse, dense = (gradients(make(backend=b, **form), *inputs) for b in BACKENDS)
    close(sparse, by_message, 1e-9)
    close(dense, by_message, 1e-9)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_order_of_nodes_does_not_matter_and_a_batch_of_graphs_equals_one_by_one(form: dict) -> None:
    graphs = [make_graph(num_nodes, seed=num_nodes) for num_nodes in (7, 1, 9)]
    for norm in ("graph", "spread", "layer"):
        layer, data = make(norm=norm, **form), make_graph(11)
        order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
        new = order.argsort()
        out = layer(data.x[order], new[data.visual_edge_index], new[data.semantic_edge_index])
        close(out, run(layer, data)[order], 1e-9)
        alone = torch.cat([run(layer, graph) for graph in graphs])
        close(run(layer, Batch.from_data_list(graphs)), alone, 1e-9)


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_every_parameter_gets_a_gradient(form: dict) -> None:
    layer, data = make(**form), make_graph(11)
    (run(layer, data) * features(11, DIM, seed=5)).sum().backward()
    without = [name for name, value in layer.named_parameters() if value.grad is None or not value.grad.any()]
    assert not without


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_autocast_is_finite_and_near_float32(form: dict) -> None:
    layer, data = make(**form).float(), make_graph(11)
    data.x = data.x.float()
    exact = run(layer, data)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(layer, data)
    cast.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    # Neighbours that another rounding chooses are as good: only given ones can be compared.
    if form.get("neighbours") != "scores":
        assert (cast.float() - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_edges_are_those_of_each_blocks_branches(form: dict) -> None:
    data = Batch.from_data_list([make_graph(7), make_graph(9, seed=1)])
    model = BGFormer(DIM, 2, heads=2, **form).double()
    inputs = (data.x, data.visual_edge_index, data.semantic_edge_index, data.batch)
    out, edges = model(*inputs, return_attention_weights=True)
    assert torch.equal(out, model(*inputs))
    normed, expected = model.layers[0].norm1(data.x, data.batch), {}
    if (visual := model.layers[0].visual) is not None:
        given = data.visual_edge_index if visual.neighbours == "graph" else None
        expected["layers.0.visual"] = visual(normed, given, data.batch, True)[1]
    if (semantic := model.layers[0].semantic) is not None:
        weighted = semantic(normed, data.semantic_edge_index, return_attention_weights=True)[1]
        expected["layers.0.semantic"] = weighted
    assert list(edges) == [*expected, *(name.replace("0", "1") for name in expected)]
    for name, (edge_index, weight) in expected.items():
        assert torch.equal(edges[name][0], edge_index)
        assert torch.equal(edges[name][1], weight)
        assert isinstance(model.get_submodule(name), nn.Module)
    for (source, target), weight in edges.values():
        assert not weight.requires_grad
        assert (data.batch[source] == data.batch[target]).all()


@pytest.mark.parametrize(("lam", "branch"), [(1.0, "visual"), (0.0, "semantic")])
def test_lam_at_its_ends_leaves_one_branch(lam: float, branch: str) -> None:
    data, dual = make_graph(11), make(lam=lam)
    single = make(branches=branch)
    single.load_state_dict(dual.state_dict(), strict=False)
    close(run(dual, data), run(single, data))


def test_learned_lam_starts_at_lam_and_moves() -> None:
    data, fixed = make_graph(11), make(lam=0.3)
    learned = BGFormerLayer(DIM, heads=2, lam=0.3, learn_lam=True).double()
    assert learned.load_state_dict(fixed.state_dict(), strict=False).missing_keys == ["lam_logit"]
    torch.testing.assert_close(run(learned, data), run(fixed, data), atol=1e-7, rtol=0)

    weights = features(11, DIM, seed=5)
    (grad,) = torch.autograd.grad((run(learned, data) * weights).sum(), learned.lam_logit)
    less, more = (make(lam=lam) for lam in (0.299, 0.301))
    slope = ((run(more, data) - run(less, data)) * weights).sum() / 0.002
    torch.testing.assert_close(grad, slope * 0.3 * 0.7, atol=0, rtol=1e-2)


def test_dropout_in_training_only() -> None:
    data, layer, without = make_graph(11), make(dropout=0.5), make()
    assert not torch.allclose(run(layer, data), run(without, data))
    assert torch.equal(run(layer.eval(), data), run(without, data))


def test_layers_follow_one_another() -> None:
    data, model = make_graph(11), BGFormer(DIM, num_layers=3, heads=2).double()
    x = data.x
    for layer in model.layers:
        x = layer(x, data.visual_edge_index, data.semantic_edge_index)
    assert len(model.layers) == 3
    assert torch.equal(run(model, data), x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": 1.5}, "lam"),
        ({"lam": 1.0, "learn_lam": True}, "inside"),
        ({"branches": "both"}, "dual, visual"),
        ({"visual": "conv"}, "attention, affinity"),
        ({"semantic": "affinity"}, "propagation, attention"),
        ({"norm": "batch"}, "graph, spread, layer"),
        ({"k": 3}, "neighbours='scores'"),
        ({"dropout": -0.1}, "dropout"),
        ({"heads": 3}, "3 heads"),
        ({"backend": "fast"}, "'fast'"),
        ({"num_layers": 0}, "num_layers"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        BGFormer(DIM, **options)


@pytest.mark.parametrize("missing", ["visual_edge_index", "semantic_edge_index"])
def test_missing_edges_are_named(missing: str) -> None:
    data = make_graph(5)
    del data[missing]
    with pytest.raises(InputError, match=missing):
        run(make(), data)


# ----------------------------------------------------------------------------------------- norm="spread"

X = features(12, DIM)


def refined(x: Tensor, norm: str) -> Tensor:
    torch.manual_seed(0)
    layer = BGFormerLayer(DIM, heads=2, norm=norm).double()
    return run(layer, batch_graph(x, torch.arange(12) // 4, k=4))


def test_spread_is_that_of_plain_loops() -> None:
    batch = torch.tensor([0] * 5 + [1] * 7)
    for rows in (slice(0, 5), slice(5, 12)):
        expected = X[rows].std(dim=0, correction=0).square().mean().sqrt()
        assert torch.allclose(spread(X, batch)[rows], expected.expand(X[rows].size(0), 1))
    assert torch.allclose(spread(X), X.std(dim=0, correction=0).square().mean().sqrt().expand(12, 1))


@pytest.mark.parametrize("size", [10.0, 0.1])
def test_what_the_block_adds_shrinks_with_the_features(size: float) -> None:
    small = size * X
    added = (refined(small, "spread") - small) / size
    assert torch.allclose(added, refined(X, "spread") - X, rtol=0.02, atol=1e-3)


def test_with_graph_norm_alone_it_does_not() -> None:
    small = 1e-2 * X
    assert (refined(small, "graph") - small).norm() > 50 * 1e-2 * (refined(X, "graph") - X).norm()


def test_a_large_common_direction_does_not_let_labels_in() -> None:
    alike = X * 1e-3 + 100
    added = (refined(alike, "spread") - alike).norm()
    assert added < 3e-3 * (refined(X, "spread") - X).norm() / spread(X)[0]


def test_equal_nodes_have_a_gradient() -> None:
    x = torch.ones(12, DIM, dtype=torch.float64, requires_grad=True)
    refined(x, "spread").sum().backward()
    assert x.grad.isfinite().all()
