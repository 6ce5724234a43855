"""DynamicGraphConv against loops that follow the text, with their gradients, and its paths against each other."""

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch

from pyg_bgformer import batch_graph
from pyg_bgformer.errors import InputError
from pyg_bgformer.nn import DynamicGraphConv
from tests.nn.oracles import BACKENDS, close, features, gradients

DIM = 6


def semantic(labels: Tensor) -> Tensor:
    return (labels[:, None] == labels[None, :]).nonzero().t().flip(0)


def naive_min_max(row: list[Tensor]) -> list[Tensor]:
    low, high = min(row), max(row)
    return [(value - low) / (high - low) if high > low else 0 * value for value in row]


def naive_distances(conv: DynamicGraphConv, x: Tensor, labels: Tensor) -> list[list[Tensor]]:
    rows = []
    for i in range(len(x)):
        shared = [float(labels[i] == labels[j]) + float(i == j) for j in range(len(x))]
        alike = naive_min_max([x[i] @ x[j] for j in range(len(x))])
        row = []
        for j in range(len(x)):
            squared = (x[i] - x[j]).square().sum()
            distance = squared.sqrt() if squared > 0 else squared
            row.append(distance - 2 * conv.beta * shared[j] / sum(shared) - 1e-5 * alike[j])
        rows.append([value.clamp(min=0) for value in naive_min_max(row)])
    return rows


def naive(conv: DynamicGraphConv, x: Tensor, labels: Tensor) -> Tensor:
    """Needs more than ``k + 1`` nodes; differentiable."""
    x, num_nodes, k = x.double(), len(x), conv.k
    rows = naive_distances(conv, x, labels)
    orders = [sorted(range(num_nodes), key=lambda j, row=row: row[j].item())[1 : k + 2] for row in rows]
    nearest = [[row[j] for j in order] for row, order in zip(rows, orders, strict=True)]
    gamma = sum(0.5 * (k * d[k] - sum(d[:k])) for d in nearest) / num_nodes
    eta = [(1 + sum(d[:k]) / (2 * gamma + 1e-8)) / k for d in nearest]
    refined = list(x)
    for _ in range(conv.num_iterations):
        new = []
        for i in range(num_nodes):
            alike = naive_min_max([refined[i] @ refined[j] for j in range(num_nodes)])
            total = torch.zeros_like(x[i])
            for j in orders[i][:k]:
                weight = eta[i] - (rows[i][j] - conv.lam * alike[j]) / (2 * gamma + 1e-8)
                total = total + weight.clamp(min=0) * x[j]
            new.append(conv.eps * total + (1 - conv.eps) * x[i])
        refined = new
    return torch.stack(refined)


class Naive(nn.Module):
    def __init__(self, conv: DynamicGraphConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return naive(self.conv, x, labels)


THREE, UNEVEN = torch.arange(9) % 3, torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 3])


@pytest.mark.parametrize(
    ("options", "labels"),
    [
        ({"k": 3}, THREE),
        ({"k": 3}, torch.zeros(9, dtype=torch.long)),
        ({"k": 3}, torch.arange(9)),
        ({"k": 1, "num_iterations": 1}, UNEVEN),
        ({"k": 7, "num_iterations": 4}, THREE),
        ({"k": 4, "beta": 0.0}, UNEVEN),
        ({"k": 4, "beta": 3.0, "lam": 0.0}, THREE),
        ({"k": 4, "lam": 2.0, "eps": 0.9}, UNEVEN),
        ({"k": 4, "eps": 0.0}, THREE),
    ],
)
def test_equals_loops_with_gradients(options: dict, labels: Tensor) -> None:
    conv, x = DynamicGraphConv(**options), features(9, DIM)
    close(gradients(conv, x, semantic(labels)), gradients(Naive(conv), x, labels), 1e-9)


@pytest.mark.parametrize("k", [1, 4, 30])
def test_backends_have_the_same_gradients(k: int) -> None:
    x, edges = features(14, DIM), semantic(torch.arange(14) % 3)
    batch = torch.tensor([0] * 6 + [1] + [2] * 7)
    inside = edges[:, batch[edges[0]] == batch[edges[1]]]
    for inputs in ((edges, None), (inside, batch)):
        by_message, sparse, dense = (gradients(DynamicGraphConv(k, backend=b), x, *inputs) for b in BACKENDS)
        close(sparse, by_message, 1e-9)
        close(dense, by_message, 1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_finite_differences(backend: str) -> None:
    conv, edges = DynamicGraphConv(k=3, backend=backend), semantic(THREE)
    x = features(9, DIM).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv(x, edges), (x,), fast_mode=True)


def test_the_edges_are_the_nearest_others_and_their_weights_make_the_output() -> None:
    x = features(9, DIM)
    conv = DynamicGraphConv(k=3, eps=0.25)
    out, ((source, target), weight) = conv(x.requires_grad_(), semantic(THREE), return_attention_weights=True)
    for i, row in enumerate(naive_distances(conv, x, THREE)):
        assert source[target == i].tolist() == sorted(range(9), key=lambda j, row=row: row[j].item())[1:4]
    summed = torch.zeros_like(x).index_add(0, target, weight[:, None] * x[source])
    close(out, 0.25 * summed + 0.75 * x)
    assert weight.min() >= 0
    assert not weight.requires_grad


def test_labels_bring_nodes_nearer() -> None:
    x, labels = features(40, DIM), torch.arange(40) % 4
    shares = []
    for beta in (0.0, 3.0, 100.0):
        _, ((source, target), _) = DynamicGraphConv(8, beta)(x, semantic(labels), None, True)
        shares.append((labels[source] == labels[target]).double().mean())
    assert shares[0] < shares[1] < shares[2] == 1


@pytest.mark.parametrize(("num_nodes", "k"), [(2, 1), (2, 50), (3, 2), (5, 3), (5, 4), (5, 5)])
def test_with_few_nodes_all_others_are_neighbours(num_nodes: int, k: int) -> None:
    x, edges = features(num_nodes, DIM), semantic(torch.arange(num_nodes) % 2)
    conv = DynamicGraphConv(k)
    out, ((source, target), _) = conv(x, edges, return_attention_weights=True)
    assert out.isfinite().all()
    assert target.bincount().tolist() == [min(k, num_nodes - 1)] * num_nodes
    assert (source != target).all()
    assert conv.k == k
    if k >= num_nodes - 1:
        assert torch.equal(out, DynamicGraphConv(num_nodes - 1)(x, edges))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_node_keeps_its_share_and_two_mix_evenly(backend: str) -> None:
    conv = DynamicGraphConv(eps=0.3, backend=backend)
    x = features(1, DIM)
    out, grad = gradients(conv, x, torch.zeros(2, 1, dtype=torch.long))
    close(out, 0.7 * x)
    assert grad.isfinite().all()
    x = features(2, DIM)
    for labels in ([0, 0], [0, 1]):
        close(conv(x, semantic(torch.tensor(labels))), 0.3 * x.flip(0) + 0.7 * x)


@pytest.mark.parametrize("labels", [[0] * 7, list(range(7)), [0, 0, 0, 1, 1, 2, 2]], ids=str)
def test_equal_features_stay_as_they_are(labels: list[int]) -> None:
    x = features(1, DIM).expand(7, -1)
    for k in (3, 6, 20):
        out, grad = gradients(DynamicGraphConv(k, lam=0.0), x, semantic(torch.tensor(labels)))
        assert grad.isfinite().all()
        if len(set(labels)) != 3:  # all neighbours are equally far, and weigh 1 / K
            close(out, x)


def test_equally_far_nodes_are_taken_by_index_and_repeatably() -> None:
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])
    conv, edges = DynamicGraphConv(k=2), semantic(torch.arange(5))
    out, ((source, _), _) = conv(corners, edges, return_attention_weights=True)
    # The centre is equally far from all corners, and a corner from the two beside it.
    assert source.view(5, 2)[4].tolist() == [0, 1]
    assert source.view(5, 2)[0].tolist() == [4, 1]
    assert all(torch.equal(conv(corners, edges), out) for _ in range(3))


@pytest.mark.parametrize("k", [4, 50])
def test_order_of_nodes_does_not_matter(k: int) -> None:
    x, labels = features(11, DIM), torch.arange(11) % 3
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    conv = DynamicGraphConv(k)
    close(conv(x[order], semantic(labels[order])), conv(x, semantic(labels))[order], 1e-9)


@pytest.mark.parametrize(("k", "backend"), [(3, "message"), (50, "sparse"), (3, "dense")])
def test_batch_of_graphs_equals_one_by_one(k: int, backend: str) -> None:
    graphs = [batch_graph(features(n, DIM, n), torch.arange(n) % 3) for n in (6, 1, 9, 2)]
    batch, conv = Batch.from_data_list(graphs), DynamicGraphConv(k, backend=backend)
    together, (edges, weight) = conv(batch.x, batch.semantic_edge_index, batch.batch, True)
    alone = [conv(graph.x, graph.semantic_edge_index, None, True) for graph in graphs]
    close(together, torch.cat([out for out, _ in alone]), 1e-9)
    shifted = [e + first for (_, (e, _)), first in zip(alone, batch.ptr.tolist(), strict=False)]
    assert torch.equal(edges, torch.cat(shifted, dim=1))
    close(weight, torch.cat([w for _, (_, w) in alone]), 1e-9)

    mixed = torch.randperm(18, generator=torch.Generator().manual_seed(0))
    again = conv(batch.x[mixed], mixed.argsort()[batch.semantic_edge_index], batch.batch[mixed])
    close(again, together[mixed], 1e-9)


def test_half_precision_computes_in_float32_also_under_autocast() -> None:
    x, edges, conv = (
        features(11, DIM, dtype=torch.float32),
        semantic(torch.arange(11) % 3),
        DynamicGraphConv(k=4),
    )
    expected = conv(x, edges)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv(x, edges), expected)
    half = conv(x.bfloat16(), edges)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, conv(x.bfloat16().float(), edges).bfloat16())


def test_a_feature_that_is_not_finite_stays_in_the_output() -> None:
    x = features(5, DIM)
    for value in (float("nan"), float("inf")):
        x[1, 2] = value
        assert not DynamicGraphConv()(x, semantic(torch.arange(5)))[1].isfinite().all()


def test_str() -> None:
    assert str(DynamicGraphConv(7)) == "DynamicGraphConv(k=7, num_iterations=3)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k must"),
        ({"num_iterations": 0}, "num_iterations must"),
        ({"beta": -0.1}, "beta must"),
        ({"lam": float("nan")}, "lam must"),
        ({"eps": 1.1}, "eps must"),
        ({"backend": "fast"}, "'fast'"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        DynamicGraphConv(**options)
