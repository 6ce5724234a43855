"""DynamicGraphConv against loops that follow the text, with their gradients, and its paths against each other."""

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch

from pyg_bgformer import batch_graph
from pyg_bgformer.nn.conv.dynamic_graph_conv import DynamicGraphConv
from tests.nn.oracles import BACKENDS, features, gradients

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


LABELS = {
    "three classes": torch.arange(9) % 3,
    "uneven": torch.tensor([0, 0, 0, 0, 0, 1, 1, 2, 3]),
    "one class": torch.zeros(9, dtype=torch.long),
    "all different": torch.arange(9),
}
OPTIONS: list[dict] = [
    {"k": 3},
    {"k": 1, "num_iterations": 1},
    {"k": 7, "num_iterations": 4},
    {"k": 4, "beta": 0.0},
    {"k": 4, "beta": 3.0, "lam": 0.0},
    {"k": 4, "lam": 2.0, "eps": 0.9},
    {"k": 4, "eps": 0.0},
]


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_equals_loops_with_gradients(options: dict, labels: Tensor) -> None:
    conv, x = DynamicGraphConv(**options), features(9, DIM, dtype=torch.float64)
    ours = gradients(conv, x, semantic(labels))
    theirs = gradients(_Naive(conv), x, labels)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_single_precision_is_near(labels: Tensor) -> None:
    conv, x = DynamicGraphConv(k=4), features(9, DIM)
    torch.testing.assert_close(
        conv(x, semantic(labels)).double(), naive(conv, x, labels), atol=1e-4, rtol=1e-4
    )


class _Naive(torch.nn.Module):
    def __init__(self, conv: DynamicGraphConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        return naive(self.conv, x, labels)


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("k", [1, 4, 30])
def test_backends_agree(k: int, batched: bool) -> None:
    x, edges = features(14, DIM, dtype=torch.float64), semantic(torch.arange(14) % 3)
    batch = torch.tensor([0] * 6 + [1] + [2] * 7) if batched else None
    if batched:
        edges = edges[:, batch[edges[0]] == batch[edges[1]]]
    by_message, sparse, dense = (gradients(DynamicGraphConv(k, backend=b), x, edges, batch) for b in BACKENDS)
    torch.testing.assert_close(sparse, by_message, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(dense, by_message, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_equal_finite_differences(backend: str) -> None:
    conv, edges = DynamicGraphConv(k=3, backend=backend), semantic(torch.arange(9) % 3)
    x = features(9, DIM, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: conv(x, edges), (x,), fast_mode=True)


def test_the_edges_are_the_nearest_others_and_their_weights_make_the_output() -> None:
    labels, x = torch.arange(9) % 3, features(9, DIM, dtype=torch.float64)
    conv = DynamicGraphConv(k=3, eps=0.25)
    out, ((sender, receiver), weight) = conv(x, semantic(labels), return_attention_weights=True)
    for i, row in enumerate(naive_distances(conv, x, labels)):
        assert sender[receiver == i].tolist() == sorted(range(9), key=lambda j, row=row: row[j].item())[1:4]
    summed = torch.zeros_like(x).index_add(0, receiver, weight[:, None] * x[sender])
    torch.testing.assert_close(out, 0.25 * summed + 0.75 * x)
    assert weight.min() >= 0


def test_labels_bring_nodes_nearer() -> None:
    x = features(40, DIM)
    labels = torch.arange(40) % 4
    shares = []
    for beta in (0.0, 3.0, 100.0):
        _, ((sender, receiver), _) = DynamicGraphConv(8, beta)(x, semantic(labels), None, True)
        shares.append((labels[sender] == labels[receiver]).float().mean())
    assert shares[0] < shares[1] < shares[2] == 1


@pytest.mark.parametrize("num_nodes", [2, 3, 5])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 5, 50])
def test_with_few_nodes_all_others_are_neighbours(k: int, num_nodes: int) -> None:
    x, edges = features(num_nodes, DIM), semantic(torch.arange(num_nodes) % 2)
    conv = DynamicGraphConv(k)
    out, ((sender, receiver), _) = conv(x, edges, return_attention_weights=True)
    assert out.isfinite().all()
    assert receiver.bincount().tolist() == [min(k, num_nodes - 1)] * num_nodes
    assert (sender != receiver).all()
    assert conv.k == k
    if k >= num_nodes - 1:
        assert torch.equal(out, DynamicGraphConv(num_nodes - 1)(x, edges))


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_node_keeps_its_share(backend: str) -> None:
    x = features(1, DIM)
    out, grad = gradients(DynamicGraphConv(eps=0.3, backend=backend), x, torch.zeros(2, 1, dtype=torch.long))
    torch.testing.assert_close(out, 0.7 * x)
    assert grad.isfinite().all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_two_nodes_mix_evenly(backend: str) -> None:
    x = features(2, DIM)
    for labels in ([0, 0], [0, 1]):
        out = DynamicGraphConv(eps=0.3, backend=backend)(x, semantic(torch.tensor(labels)))
        torch.testing.assert_close(out, 0.3 * x.flip(0) + 0.7 * x)


@pytest.mark.parametrize("labels", [[0] * 7, list(range(7)), [0, 0, 0, 1, 1, 2, 2]], ids=str)
@pytest.mark.parametrize("k", [3, 6, 20])
def test_equal_features_stay_as_they_are(k: int, labels: list[int]) -> None:
    x = features(1, DIM).expand(7, -1)
    out, grad = gradients(DynamicGraphConv(k, lam=0.0), x, semantic(torch.tensor(labels)))
    assert grad.isfinite().all()
    if len(set(labels)) != 3:  # all neighbours are equally far, and weigh 1 / K
        torch.testing.assert_close(out, x)


def test_equally_far_nodes_are_taken_by_index_and_repeatably() -> None:
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0], [0.0, 0.0]])
    conv, edges = DynamicGraphConv(k=2), semantic(torch.arange(5))
    out, ((sender, _), _) = conv(corners, edges, return_attention_weights=True)
    # The centre is equally far from all corners, and a corner from the two beside it.
    assert sender.view(5, 2)[4].tolist() == [0, 1]
    assert sender.view(5, 2)[0].tolist() == [4, 1]
    assert all(torch.equal(conv(corners, edges), out) for _ in range(3))


@pytest.mark.parametrize("k", [4, 50])
def test_order_of_nodes_does_not_matter(k: int) -> None:
    x, labels = features(11, DIM, dtype=torch.float64), torch.arange(11) % 3
    order = torch.randperm(11, generator=torch.Generator().manual_seed(1))
    conv = DynamicGraphConv(k)
    torch.testing.assert_close(conv(x[order], semantic(labels[order])), conv(x, semantic(labels))[order])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("k", [3, 50])
def test_batch_of_graphs_equals_one_by_one(k: int, backend: str) -> None:
    graphs = [batch_graph(features(n, DIM, n, torch.float64), torch.arange(n) % 3) for n in (6, 1, 9, 2)]
    batch, conv = Batch.from_data_list(graphs), DynamicGraphConv(k, backend=backend)
    together, (edges, weight) = conv(batch.x, batch.semantic_edge_index, batch.batch, True)
    alone = [conv(graph.x, graph.semantic_edge_index, None, True) for graph in graphs]
    torch.testing.assert_close(together, torch.cat([out for out, _ in alone]))
    shifted = [e + first for (_, (e, _)), first in zip(alone, batch.ptr.tolist(), strict=False)]
    assert torch.equal(edges, torch.cat(shifted, dim=1))
    torch.testing.assert_close(weight, torch.cat([w for _, (_, w) in alone]))

    mixed = torch.randperm(18, generator=torch.Generator().manual_seed(0))
    again = conv(batch.x[mixed], mixed.argsort()[batch.semantic_edge_index], batch.batch[mixed])
    torch.testing.assert_close(again, together[mixed])


def test_autocast_and_half_precision_compute_in_single() -> None:
    x, edges, conv = features(11, DIM), semantic(torch.arange(11) % 3), DynamicGraphConv(k=4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(conv(x, edges), conv(x, edges))
        torch.testing.assert_close(conv(x, edges), DynamicGraphConv(k=4)(x, edges))
    half = conv(x.bfloat16(), edges)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, conv(x.bfloat16().float(), edges).bfloat16())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    x = features(5, DIM)
    x[[1, 3], 2] = value
    with pytest.raises(ValueError, match="x has 2 of 5 rows"):
        DynamicGraphConv()(x, semantic(torch.arange(5)))


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
    with pytest.raises(ValueError, match=message):
        DynamicGraphConv(**options)
