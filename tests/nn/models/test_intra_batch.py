"""IntraBatchNetwork: what holds for every option."""

from typing import Any

import pytest
import torch

from pyg_bgformer.errors import InputError
from pyg_bgformer.graph import intra_batch_graph
from pyg_bgformer.nn import IntraBatchLayer, IntraBatchNetwork
from tests.nn.oracles import close, features, gradients

BACKENDS = ("message", "dense")
QUIET = {"attention_dropout": 0.0, "dropout": 0.0, "mlp_dropout": 0.0}


def make(num_layers: int = 2, **options: Any) -> IntraBatchNetwork:
    torch.manual_seed(0)
    return IntraBatchNetwork(12, 5, num_layers, 3, **(QUIET | options)).double()


@pytest.mark.parametrize(
    ("options", "width"), [({}, 12), ({"cat": True}, 24), ({"margin": False}, 12)], ids=str
)
def test_every_option_gives_its_output_and_gradients_to_all(options: dict, width: int) -> None:
    model, x = make(2, **options), features(8, 12)
    out = model(x)
    assert out.logits.shape == (8, 5)
    assert out.features.shape == (8, width)
    out.logits.square().sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_the_features_are_the_last_layers_and_with_cat_all_layers() -> None:
    x, model = features(8, 12), make(3)
    out, hidden = model(x), [model.lin(x)]
    for layer in model.layers:
        hidden.append(layer(hidden[-1]))
    close(out.hidden, hidden[1:])
    close(out.features, hidden[-1])
    close(make(3, cat=True)(x).features, torch.cat(hidden[1:], dim=1))


def test_the_neck_centres_and_its_bias_stays() -> None:
    model = make(1)
    assert not model.neck.bias.requires_grad
    assert model.classifier.bias is None
    assert 0.0005 < model.classifier.weight.std() < 0.0015
    necked = model.neck(model(features(50, 12)).features)
    close(necked.mean(dim=0), torch.zeros(12, dtype=necked.dtype))


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_nodes_does_not_matter(backend: str) -> None:
    model, x = make(backend=backend), features(9, 12)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    close(model(x[order]).logits, model(x).logits[order])


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_node_and_several_graphs_in_evaluation(backend: str) -> None:
    model, x = make(backend=backend).eval(), features(6, 12)
    together = model(x.view(6, 1, 12)).logits
    assert together.shape == (6, 1, 5)
    close(together[:, 0], torch.cat([model(x[i : i + 1]).logits for i in range(6)]))


@pytest.mark.parametrize("threshold", [None, 0.0, 0.3, 0.9])
def test_backends_agree_on_weighted_and_thresholded_graphs(threshold: float | None) -> None:
    x = features(12, 12)
    edge_index, edge_weight = intra_batch_graph(x, threshold=threshold)
    layers = [IntraBatchLayer(12, 3, backend=backend, **QUIET).double() for backend in BACKENDS]
    layers[1].load_state_dict(layers[0].state_dict())
    by_message, dense = (gradients(layer, x, edge_index, edge_weight) for layer in layers)
    close(dense, by_message)


def test_dropout_in_training_only() -> None:
    x = features(9, 12)
    model = make(**dict.fromkeys(QUIET, 0.3)).train()
    assert not torch.equal(model(x).features, model(x).features)
    close(model.eval()(x).features, make().eval()(x).features)


def test_edges_are_those_of_each_layer() -> None:
    model, x = make(2), features(9, 12)
    out, edges = model(x, return_attention_weights=True)
    assert torch.equal(out.logits, make(2)(x).logits)
    x = model.lin(x)
    for i, layer in enumerate(model.layers):
        x, (edge_index, alpha) = layer(x, return_attention_weights=True)
        assert torch.equal(edges[f"layers.{i}.attention"][0], edge_index)
        assert torch.equal(edges[f"layers.{i}.attention"][1], alpha)
    assert len(edges) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_half_precision_is_finite(backend: str) -> None:
    model, x = make(backend=backend).float(), features(9, 12, dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(x).logits.isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"), [({"num_layers": 0}, "num_layers"), ({"mlp_dropout": 1.0}, "mlp_dropout")]
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)
