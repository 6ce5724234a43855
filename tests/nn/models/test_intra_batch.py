"""IntraBatchNetwork against the original's numbers, and what holds for every option."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from pyg_bgformer.nn import IntraBatchLayer, IntraBatchNetwork, intra_batch_graph
from pyg_bgformer.nn.models.intra_batch import _our_key
from tests.nn.oracles import features, gradients

BACKENDS = ("message", "dense")
CASES = ("cub", "cars_train")
QUIET = {"attention_dropout": 0.0, "dropout": 0.0, "mlp_dropout": 0.0}
EXACT = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture
def parity(intra_batch_parity: Path) -> dict[str, Any]:
    return torch.load(intra_batch_parity, weights_only=True)


def original(case: dict[str, Any], backend: str, **options: Any) -> IntraBatchNetwork:
    heads = case["params"]["gnn"]["num_heads"]
    return IntraBatchNetwork.from_original(case["state_dict"], heads=heads, backend=backend, **options)


def make(num_layers: int = 2, **options: Any) -> IntraBatchNetwork:
    torch.manual_seed(0)
    return IntraBatchNetwork(12, 5, num_layers, 3, **(QUIET | options))


@pytest.mark.parametrize("with_edges", [True, False])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_parity_in_evaluation(parity: dict, name: str, backend: str, with_edges: bool) -> None:
    case, x = parity["cases"][name], parity["x"]
    expected, edges = case["eval"], case["edge_index"].t() if with_edges else None
    model = original(case, backend).eval()
    out = model(x, edges)
    torch.testing.assert_close(out.logits, expected["norm"]["logits"], **EXACT)
    torch.testing.assert_close(out.features, expected["norm"]["feats"], **EXACT)
    torch.testing.assert_close(
        [F.normalize(f, dim=1) for f in out.features], expected["plain"]["feats"], **EXACT
    )
    torch.testing.assert_close(out.necked, expected["neck"]["feats"], **EXACT)
    hidden = [model.lin(x)]
    for layer in model.layers:
        hidden.append(layer(hidden[-1], edges))
    torch.testing.assert_close(hidden[1:], expected["layers"], **EXACT)
    torch.testing.assert_close(model.layers[0].attention(hidden[0], edges), expected["att0"], **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_parity_of_a_training_step(parity: dict, name: str, backend: str) -> None:
    case, y = parity["cases"][name], parity["y"]
    expected, x = case["train"], parity["x"].clone().requires_grad_()
    model = original(case, backend, **QUIET).train()
    out = model(x)
    torch.testing.assert_close(out.logits, expected["logits"], **EXACT)
    torch.testing.assert_close([F.normalize(f, dim=1) for f in out.features], expected["feats"], **EXACT)
    losses = [F.cross_entropy(z / expected["temperature"], y, label_smoothing=0.1) for z in out.logits]
    torch.testing.assert_close(losses, expected["loss"], **EXACT)
    sum(losses, torch.zeros(())).backward()
    torch.testing.assert_close(x.grad, expected["grad_x"], **EXACT)
    grads = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert grads.keys() == {_our_key(key) for key in expected["grads"]}
    for key, grad in expected["grads"].items():
        if grad is None:
            assert grads[_our_key(key)] is None
        else:
            torch.testing.assert_close(grads[_our_key(key)], grad, **EXACT)
    buffers = dict(model.named_buffers())
    for key, value in expected["buffers_after"].items():
        torch.testing.assert_close(buffers[_our_key(key)], value, **EXACT)


@pytest.mark.parametrize("name", CASES)
def test_parity_of_the_graph(parity: dict, name: str) -> None:
    edge_index, edge_weight = intra_batch_graph(parity["x"])
    assert torch.equal(edge_index, parity["cases"][name]["edge_index"].t())
    torch.testing.assert_close(edge_weight, parity["cases"][name]["edge_attr"], **EXACT)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda s: s.pop("fc.0.weight"), "missing fc.0.weight"),
        (lambda s: s.pop("gnn_model.node_model.layers.0.linear1.bias"), "unexpected layers.0.mlp.0.bias"),
        (lambda s: s.update({"backbone.conv1": torch.ones(1)}), "unexpected backbone.conv1"),
        (lambda s: s.update({"dim_red.bias": torch.ones(3)}), "wrong shape of lin.bias"),
    ],
)
def test_a_state_of_something_else_is_refused(spoil: Any, message: str) -> None:
    state = {their_key(key): value for key, value in make(1).state_dict().items()}
    IntraBatchNetwork.from_original(state, heads=3)
    spoil(state)
    with pytest.raises(ValueError, match=message):
        IntraBatchNetwork.from_original(state, heads=3)


def their_key(key: str) -> str:
    for ours, theirs in (
        ("classifiers.0.norm", "bottleneck.0"),
        ("classifiers.0.lin", "fc.0"),
        ("layers.", "gnn_model.node_model.layers."),
        ("attention.proj", "att.out"),
        ("attention.query", "att.q_linear"),
        ("attention.key", "att.k_linear"),
        ("attention.value", "att.v_linear"),
        ("mlp.0", "linear1"),
        ("mlp.3", "linear2"),
    ):
        key = key.replace(ours, theirs)
    return f"dim_red.{key.removeprefix('lin.')}" if key.startswith("lin.") else key


@pytest.mark.parametrize("options", [{"every": True}, {"cat": True}, {"neck": False}, {}], ids=str)
def test_originals_of_every_form_are_read(options: dict) -> None:
    model = make(2, reduction=2, **options)
    state = {their_key(key): value for key, value in model.state_dict().items()}
    if options.get("every"):
        state = {key.replace("classifiers.1.norm", "bottleneck.1"): value for key, value in state.items()}
        state = {key.replace("classifiers.1.lin", "fc.1"): value for key, value in state.items()}
    again = IntraBatchNetwork.from_original(state, heads=3, **QUIET)
    x = features(7, 12)
    torch.testing.assert_close(again(x).logits, model(x).logits)


@pytest.mark.parametrize(
    ("options", "outputs", "width"),
    [
        ({}, 1, 12),
        ({"cat": True}, 1, 24),
        ({"every": True}, 2, 12),
        ({"neck": False}, 1, 12),
        ({"reduction": 4, "cat": True}, 1, 6),
        ({"res1": False, "norm1": False}, 1, 12),
        ({"res2": False, "norm2": False}, 1, 12),
        ({"mlp": False}, 1, 12),
        ({"margin": False, "aggr": "max"}, 1, 12),
    ],
    ids=str,
)
def test_every_option_gives_its_outputs_and_gradients_to_all(options: dict, outputs: int, width: int) -> None:
    model, x = make(2, **options), features(8, 12)
    out = model(x)
    assert [z.shape for z in out.logits] == [(8, 5)] * outputs
    assert [f.shape for f in out.features] == [(8, width)] * outputs
    sum(z.square().sum() for z in out.logits).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_with_every_the_layers_outputs_and_with_cat_the_same_side_by_side() -> None:
    x = features(8, 12)
    outputs = make(3).layer_outputs(x)
    torch.testing.assert_close(make(3, every=True)(x).features, outputs)
    torch.testing.assert_close(make(3, cat=True)(x).features, [torch.cat(outputs, dim=1)])
    torch.testing.assert_close(make(3)(x).features, outputs[-1:])


def test_the_neck_centres_and_its_bias_stays() -> None:
    model = make(1)
    assert not model.classifiers[0].norm.bias.requires_grad
    assert model.classifiers[0].lin.bias is None
    assert 0.0005 < model.classifiers[0].lin.weight.std() < 0.0015
    necked = model(features(50, 12)).necked[0]
    torch.testing.assert_close(necked.mean(dim=0), torch.zeros(12), atol=1e-5, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("aggr", ["add", "mean", "max"])
def test_order_of_nodes_does_not_matter(aggr: str, backend: str) -> None:
    model, x = make(aggr=aggr, backend=backend), features(9, 12)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x[order]).logits[0], model(x).logits[0][order], **EXACT)


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_node_and_several_graphs_in_evaluation(backend: str) -> None:
    model, x = make(backend=backend).eval(), features(6, 12)
    together = model(x.view(6, 1, 12))
    assert together.logits[0].shape == (6, 1, 5)
    for i in range(6):
        torch.testing.assert_close(together.logits[0][i], model(x[i : i + 1]).logits[0], **EXACT)


@pytest.mark.parametrize("similarity", ["correlation", "cosine"])
@pytest.mark.parametrize("threshold", [None, 0.0, 0.3, 0.9])
def test_backends_agree_on_weighted_and_thresholded_graphs(similarity: str, threshold: float | None) -> None:
    x = F.normalize(features(12, 12), dim=1)
    edge_index, edge_weight = intra_batch_graph(x, similarity, threshold)
    layers = [IntraBatchLayer(12, 3, backend=backend, **QUIET) for backend in BACKENDS]
    layers[1].load_state_dict(layers[0].state_dict())
    by_message, dense = (gradients(layer, x, edge_index, edge_weight) for layer in layers)
    torch.testing.assert_close(dense, by_message, **EXACT)


def test_the_graph_equals_loops() -> None:
    x = F.normalize(features(7, 5), dim=1).double()
    for similarity, threshold, negatives in (
        ("correlation", 0.2, "clip"),
        ("cosine", 0.2, "clip"),
        ("correlation", 0.5, "shift"),
        ("cosine", None, "shift"),
    ):
        w = torch.zeros(7, 7, dtype=torch.float64)
        for i in range(7):
            for j in range(7):
                pair = torch.stack([x[i], x[j]])
                w[i, j] = torch.corrcoef(pair)[0, 1] if similarity == "correlation" else pair[0] @ pair[1]
        w = w.clamp(min=0) if negatives == "clip" else (w - w.min()).fill_diagonal_(0)
        kept = [(i, j) for i in range(7) for j in range(7) if threshold is None or w[i, j] > threshold]
        edge_index, edge_weight = intra_batch_graph(x, similarity, threshold, negatives)
        assert edge_index.t().tolist() == [list(pair) for pair in kept]
        torch.testing.assert_close(edge_weight, torch.stack([w[i, j] for i, j in kept]))


@pytest.mark.parametrize("negatives", ["clip", "shift"])
def test_several_batches_are_one_graph_with_no_edges_between_them(negatives: str) -> None:
    x = features(15, 6).view(3, 5, 6)
    edge_index, edge_weight = intra_batch_graph(x, threshold=0.2, negatives=negatives)
    alone = [intra_batch_graph(batch, threshold=0.2, negatives=negatives) for batch in x]
    assert torch.equal(edge_index, torch.cat([edges + 5 * i for i, (edges, _) in enumerate(alone)], dim=1))
    torch.testing.assert_close(edge_weight, torch.cat([weights for _, weights in alone]))


def test_shifted_negatives_can_leave_nodes_alone() -> None:
    edge_index, edge_weight = intra_batch_graph(torch.eye(6), "cosine", 0.0, "shift")
    assert edge_index.shape == (2, 0)
    model = make(1)
    for backend in BACKENDS:
        model.layers[0].attention.backend = backend
        assert model(torch.eye(6, 12), edge_index, edge_weight).logits[0].isfinite().all()


def test_a_sample_without_variation_has_no_correlation_but_finite_gradients() -> None:
    x = torch.cat([torch.ones(1, 8), features(3, 8)]).requires_grad_()
    _, edge_weight = intra_batch_graph(x)
    assert not edge_weight[:4].any()
    assert torch.autograd.grad(edge_weight.sum(), x)[0].isfinite().all()


def test_dropout_in_training_only() -> None:
    x = features(9, 12)
    model = make(**dict.fromkeys(QUIET, 0.3)).train()
    assert not torch.equal(model(x).features[0], model(x).features[0])
    torch.testing.assert_close(model.eval()(x).features[0], make().eval()(x).features[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_layers": 0}, "num_layers"),
        ({"reduction": 5}, "reduction"),
        ({"cat": True, "every": True}, "choose one"),
        ({"mlp_dropout": 1.0}, "mlp_dropout"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("options", [{"similarity": "dot"}, {"negatives": "hard"}])
def test_wrong_options_of_the_graph_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="must be"):
        intra_batch_graph(features(3, 4), **options)


def test_edges_are_those_of_each_layer() -> None:
    model, x = make(2), features(9, 12)
    out, edges = model(x, return_attention_weights=True)
    assert torch.equal(out.logits[0], make(2)(x).logits[0])
    x = model.lin(x)
    for i, layer in enumerate(model.layers):
        x, (edge_index, alpha) = layer(x, return_attention_weights=True)
        assert torch.equal(edges[f"layers.{i}.attention"][0], edge_index)
        assert torch.equal(edges[f"layers.{i}.attention"][1], alpha)
    assert len(edges) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_is_finite(backend: str) -> None:
    model, x = make(backend=backend), features(9, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).logits[0].isfinite().all()
