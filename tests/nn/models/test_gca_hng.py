"""GCA-HNG's network against loops, and its paths against each other."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.nn import GCANetwork
from pyg_bgformer.nn.models.gca_hng import correlations
from tests.nn.oracles import close, features, linear, naive_norm

BACKENDS = ("message", "dense")
DIM = 8
LABELS = torch.tensor([4, 1, 0, 4, 0, 1, 1, 4, 0])


def make(num_layers: int = 2, **options: Any) -> GCANetwork:
    """With no term at its trivial initial value."""
    torch.manual_seed(0)
    network = GCANetwork(DIM, num_classes=5, num_layers=num_layers, heads=2, **options)
    for parameter in network.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.3 * torch.randn_like(parameter)
    return network.double()


def with_gradients(network: GCANetwork, z: Tensor, labels: Tensor) -> tuple[Tensor, ...]:
    """Outputs, and the gradients of the input and all trainable parameters."""
    z = z.clone().requires_grad_()
    logits, weights = network(z, labels)
    loss = logits.square().mean() + weights.square().mean()
    parameters = [p for p in network.parameters() if p.requires_grad]
    return logits.detach(), weights.detach(), *torch.autograd.grad(loss, [z, *parameters])


@torch.no_grad()
def naive_forward(network: GCANetwork, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The network in eval mode, pair by pair in float64."""
    num_nodes, z = len(z), z.double()
    centred = z - z.mean(dim=1, keepdim=True)
    unit = centred / centred.norm(dim=1, keepdim=True)
    x, edges = linear(network.lin, z), {}
    for r in range(num_nodes):
        for c in range(num_nodes):
            edges[r, c] = unit[r] * unit[c]
    for layer in network.layers:
        x = naive_nodes(layer, x, edges, labels)
        edges = {(r, c): naive_edge(layer, edge, x[r], x[c]) for (r, c), edge in edges.items()}
    weights = torch.stack([edges[r, c] for r in range(num_nodes) for c in range(num_nodes)])
    weights = linear(network.weigher, naive_batch_norm(network.edge_neck, weights)).sigmoid()
    logits = linear(network.classifier, naive_batch_norm(network.node_neck, x))
    return logits, weights.view(num_nodes, num_nodes, -1)


def naive_nodes(layer: nn.Module, x: Tensor, edges: dict, labels: Tensor) -> Tensor:
    conv, norm = layer.attention, layer.node_norm[1]
    query, key, value = (linear(part, x) for part in (conv.query, conv.key, conv.value))
    size = x.size(1) // conv.heads
    attended, heard = torch.zeros_like(x), torch.zeros_like(x)
    for i in range(len(x)):
        for head in range(conv.heads):
            part = slice(head * size, (head + 1) * size)
            others = [j for j in range(len(x)) if labels[j] != labels[i]]
            terms = [math.exp(float(query[i, part] @ key[j, part]) / math.sqrt(size)) for j in others]
            for j, term in zip(others, terms, strict=True):
                attended[i, part] += term / (1 + sum(terms)) * value[j, part]
        for c in range(len(x)):
            heard[i] += gelu(linear(layer.edge_to_node.lin, edges[i, c]))
    x = naive_norm(norm, gelu(x + linear(conv.proj, attended)))
    x = naive_norm(norm, gelu(x + heard))
    hidden = gelu(linear(layer.node_mlp[0], x))
    return naive_norm(norm, gelu(x + linear(layer.node_mlp[2], hidden)))


def naive_edge(layer: nn.Module, edge: Tensor, first: Tensor, second: Tensor) -> Tensor:
    conv, norm = layer.edge_attention, layer.edge_norm[1]
    nodes = [gelu(linear(conv.lin_node, node)) for node in (first, second)]
    query = linear(conv.lin_query, edge)
    terms = [math.exp(float(query @ linear(conv.lin_key, node)) / math.sqrt(len(edge))) for node in nodes]
    heard = sum(
        term / sum(terms) * linear(conv.lin_value, node) for term, node in zip(terms, nodes, strict=True)
    )
    edge = naive_norm(norm, gelu(heard + edge)[None])[0]
    hidden = naive_norm(layer.edge_mlp[2], gelu(linear(layer.edge_mlp[0], edge))[None])[0]
    return naive_norm(norm, gelu(edge + linear(layer.edge_mlp[3], hidden))[None])[0]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def naive_batch_norm(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    return (x - norm.running_mean.double()) * scale + norm.bias.double()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("labels", [LABELS, torch.zeros(9, dtype=torch.long), torch.arange(9)])
def test_equals_loops(labels: Tensor, backend: str) -> None:
    network, z = make(backend=backend), features(9, DIM)
    network(3 * z, labels)  # the necks' statistics move away from 0 and 1
    expected = naive_forward(network.eval(), z, labels)
    for ours, theirs in zip(network(z, labels), expected, strict=True):
        close(ours, theirs, 1e-9)


@pytest.mark.parametrize(
    ("labels", "dropout"),
    [(LABELS, 0.0), (LABELS, 0.4), (torch.zeros(9, dtype=torch.long), 0.0), (torch.arange(9), 0.4)],
)
def test_backends_have_the_same_gradients(labels: Tensor, dropout: float) -> None:
    outputs = []
    for backend in BACKENDS:
        network = make(backend=backend, dropout=dropout)
        torch.manual_seed(1)  # both draw one number per weight, in the same order
        outputs.append(with_gradients(network, features(9, DIM), labels))
    close(*outputs, 1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_of_samples_and_names_of_classes_do_not_matter(backend: str) -> None:
    network, z = make(backend=backend).eval(), features(9, DIM)
    logits, weights = network(z, LABELS)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    moved_logits, moved_weights = network(z[order], 7 - LABELS[order])
    close(moved_logits, logits[order], 1e-9)
    close(moved_weights, weights[order][:, order], 1e-9)


def test_pairs_are_symmetric_but_for_dropout() -> None:
    network, z = make(dropout=0.3), features(9, DIM)
    weights = network(z, LABELS)[1]
    assert not torch.allclose(weights, weights.transpose(0, 1))
    weights = network.eval()(z, LABELS)[1]
    close(weights, weights.transpose(0, 1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_nodes_attend_to_other_classes_only(backend: str) -> None:
    attention, z = make(backend=backend).layers[0].attention, features(9, DIM)
    edge_index = (LABELS[:, None] != LABELS[None, :]).nonzero().t()
    grad = torch.autograd.functional.jacobian(lambda z: attention(z, edge_index).sum(dim=1), z)
    touched = grad.abs().sum(dim=-1) > 0
    others = LABELS[:, None] != LABELS[None, :]
    assert torch.equal(touched | torch.eye(9, dtype=torch.bool), others | torch.eye(9, dtype=torch.bool))


@pytest.mark.parametrize("backend", BACKENDS)
def test_edges_are_those_of_each_layers_attention(backend: str) -> None:
    network, z = make(backend=backend).eval(), features(9, DIM)
    (logits, weights), edges = network(z, LABELS, return_attention_weights=True)
    assert torch.equal(logits, network(z, LABELS)[0])
    assert torch.equal(weights, network(z, LABELS)[1])
    assert list(edges) == ["layers.0.attention", "layers.1.attention"]
    between = (LABELS[:, None] != LABELS[None, :]).nonzero().t().flip(0)
    (first, alpha) = network.layers[0].attention(network.lin(z), between, return_attention_weights=True)[1]
    assert torch.equal(edges["layers.0.attention"][0], first)
    assert torch.equal(edges["layers.0.attention"][1], alpha)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_edges_weights_on_its_two_nodes_make_the_output(backend: str) -> None:
    conv, z = make(backend=backend, dropout=0.0).layers[0].edge_attention, features(5, DIM)
    edge_attr = correlations(z)
    out, ((first, second), weight) = conv(z, edge_attr, return_attention_weights=True)
    value = conv.lin_value(gelu(conv.lin_node(z)))
    made = weight[:, :1] * value[first] + weight[:, 1:] * value[second]
    close(made, out.flatten(0, 1))
    close(weight.sum(dim=1), torch.ones_like(first, dtype=weight.dtype))
    assert torch.equal(first * 5 + second, torch.arange(25))


def test_a_constant_sample_has_finite_gradients() -> None:
    z = features(9, DIM)
    z[3] = 0.5
    assert all(part.isfinite().all() for part in with_gradients(make(), z, LABELS))


@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_is_finite_and_near_float32(backend: str) -> None:
    network, z = make(backend=backend, dropout=0.0).float(), features(9, DIM, dtype=torch.float32)
    exact = network(z, LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = with_gradients(network, z, LABELS)
    assert all(part.isfinite().all() for part in outputs)
    for ours, theirs in zip(outputs, exact, strict=False):
        assert (ours.float() - theirs).norm() < 0.05 * theirs.norm()


def test_necks_have_a_bias_that_stays_zero() -> None:
    network = GCANetwork(DIM, 5)
    for neck in (network.node_neck, network.edge_neck):
        assert not neck.bias.requires_grad
        assert neck.bias.eq(0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_layers": 0}, "num_layers"), ({"dropout": 1.0}, "dropout"), ({"backend": "sparse"}, "'sparse'")],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(InputError, match="3 heads"):
        GCANetwork(DIM, 5, heads=3)
