"""The batch graph against plain loops."""

import math

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_bgformer import BatchGraph, batch_graph
from pyg_bgformer.graph import nearest


def random_batch(num_nodes: int, channels: int = 5, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_nodes, channels, generator=generator)
    return x, torch.randint(classes, (num_nodes,), generator=generator)


def naive_similarity(a: list[float], b: list[float], similarity: str) -> float:
    if similarity == "euclidean":
        return -math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
    norms = math.sqrt(sum(p * p for p in a)) * math.sqrt(sum(q * q for q in b))
    return sum(p * q for p, q in zip(a, b, strict=True)) / norms


def naive_visual_edges(x: Tensor, k: int, self_loops: bool, mutual: bool, similarity: str) -> list[list[int]]:
    rows, chosen = x.tolist(), []
    for i, row in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        others.sort(key=lambda j: (-naive_similarity(row, rows[j], similarity), j))
        chosen.append(([i, *others] if self_loops else others)[:k])
    return [
        [j, i]
        for i in range(len(rows))
        for j in sorted(chosen[i])
        if not mutual or i in chosen[j]  # the reverse edge was chosen too
    ]


def edges(edge_index: Tensor) -> list[list[int]]:
    return edge_index.t().tolist()


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("mutual", [False, True])
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize(
    ("num_nodes", "k"), [(1, 1), (1, 4), (2, 1), (12, 1), (12, 4), (12, 11), (12, 12), (12, 50)]
)
def test_visual_edges_equal_loops(
    num_nodes: int, k: int, self_loops: bool, mutual: bool, similarity: str
) -> None:
    x, _ = random_batch(num_nodes, seed=k)
    data = batch_graph(x, k=k, self_loops=self_loops, mutual=mutual, similarity=similarity)
    assert edges(data.visual_edge_index) == naive_visual_edges(x, k, self_loops, mutual, similarity)
    assert data.visual_edge_index.shape[0] == 2
    assert data.visual_edge_index.dtype == torch.int64
    assert "semantic_edge_index" not in data
    assert data.y is None


@pytest.mark.parametrize("labels", [[0, 1, 0, 2, 1, 0], [3, 3, 3], [4, 1, 7, 0], [5], [-1, 10**12, -1]])
def test_semantic_edges_equal_loops(labels: list[int]) -> None:
    y = torch.tensor(labels)
    data = batch_graph(torch.randn(len(labels), 3), y, k=2)
    expected = [[j, i] for i in range(len(y)) for j in range(len(y)) if labels[i] == labels[j]]
    assert edges(data.semantic_edge_index) == expected
    assert data.semantic_edge_index.dtype == torch.int64
    assert torch.equal(data.y, y)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("k", [1, 3, 7, 20])
def test_duplicates_are_taken_in_the_order_of_their_index(k: int, self_loops: bool, similarity: str) -> None:
    x, which = random_batch(45, channels=16, classes=6)
    x = x[which]  # 45 nodes at 6 places
    data = batch_graph(x, k=k, self_loops=self_loops, similarity=similarity)
    assert edges(data.visual_edge_index) == naive_visual_edges(x, k, self_loops, False, similarity)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_all_alike(similarity: str) -> None:
    data = batch_graph(torch.ones(5, 3), k=3, similarity=similarity)
    senders = data.visual_edge_index[0].view(5, 3).tolist()
    assert senders == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 3], [0, 1, 4]]  # itself, then the lowest


def test_zero_features_are_defined() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    data = batch_graph(x, k=2)  # all similarities but that of 1 with itself are 0
    assert edges(data.visual_edge_index) == [[0, 0], [1, 0], [0, 1], [1, 1], [0, 2], [2, 2]]


def test_cosine_ignores_length_and_euclidean_does_not() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.9], [9.0, 0.0]])
    cosine, euclidean = (batch_graph(x, k=2, similarity=s).visual_edge_index for s in ("cosine", "euclidean"))
    assert [2, 0] in edges(cosine)
    assert [1, 0] in edges(euclidean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_any_precision_gives_the_edges_of_its_values(dtype: torch.dtype, similarity: str) -> None:
    x = random_batch(60, channels=32)[0].to(dtype)
    data = batch_graph(x, k=7, similarity=similarity)
    assert data.x is x
    assert edges(data.visual_edge_index) == naive_visual_edges(x, 7, True, False, similarity)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_changes_no_edge(dtype: torch.dtype) -> None:
    x, y = random_batch(400, channels=64)  # so many that similarities in half precision would choose others
    plain = batch_graph(x, y, k=7)
    with torch.autocast("cpu", dtype=dtype):
        cast = batch_graph(x, y, k=7)
    assert torch.equal(plain.visual_edge_index, cast.visual_edge_index)
    assert cast.x is x


def test_large_half_precision_values_do_not_overflow() -> None:
    x = torch.tensor([[6e4, 0.0], [5e4, 1e4], [-6e4, 0.0]], dtype=torch.float16)
    for similarity in ("cosine", "euclidean"):
        assert edges(batch_graph(x, k=2, similarity=similarity).visual_edge_index)[:2] == [[0, 0], [1, 0]]


def test_features_stay_in_the_autograd_graph() -> None:
    x, y = random_batch(6)
    leaf = x.requires_grad_()
    data = batch_graph(2 * leaf, y, k=3)
    data.x.sum().backward()
    assert torch.equal(leaf.grad, torch.full_like(leaf, 2.0))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    x, y = random_batch(6)
    x[2, 1] = x[4, 0] = value
    with pytest.raises(ValueError, match="2 of 6 rows"):
        batch_graph(x, y)


@pytest.mark.parametrize(
    ("x", "y", "options", "message"),
    [
        (torch.randn(4), None, {}, r"\(N, D\)"),
        (torch.randn(4, 2, 2), None, {}, r"\(N, D\)"),
        (torch.randn(0, 2), None, {}, "N >= 1"),
        (torch.ones(4, 2, dtype=torch.long), None, {}, "floating-point"),
        (torch.randn(4, 2), torch.zeros(3), {}, "one label per row"),
        (torch.randn(4, 2), torch.zeros(4, 1), {}, "one label per row"),
        (torch.randn(4, 2), None, {"k": 0}, "k must be at least 1"),
        (torch.randn(4, 2), None, {"similarity": "dot"}, "'dot'"),
    ],
)
def test_wrong_input_is_refused(x: Tensor, y: Tensor | None, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        batch_graph(x, y, **options)


@pytest.mark.parametrize(
    "options", [{}, {"self_loops": False}, {"mutual": True}, {"similarity": "euclidean"}], ids=str
)
@pytest.mark.parametrize("labelled", [True, False])
def test_transform_equals_function(options: dict, labelled: bool) -> None:
    x, y = random_batch(15)
    given = Data(x=x, y=y if labelled else None, name="kept")
    data = BatchGraph(k=4, **options)(given)
    expected = batch_graph(x, y if labelled else None, k=4, **options)
    assert torch.equal(data.visual_edge_index, expected.visual_edge_index)
    assert ("semantic_edge_index" in data) == labelled
    if labelled:
        assert torch.equal(data.semantic_edge_index, expected.semantic_edge_index)
    assert data.name == "kept"
    assert "visual_edge_index" not in given


def test_transform_needs_features() -> None:
    with pytest.raises(ValueError, match=r"data\.x"):
        BatchGraph()(Data(y=torch.zeros(3)))


def test_transform_prints_its_options() -> None:
    assert str(BatchGraph(k=4)) == "BatchGraph(k=4, similarity='cosine')"


def test_collated_graphs_keep_their_own_edges() -> None:
    graphs = [batch_graph(*random_batch(n, seed=n), k=3) for n in (4, 1, 7)]
    batch = Batch.from_data_list(graphs)
    for name in ("visual_edge_index", "semantic_edge_index"):
        shifted = [graph[name] + start for graph, start in zip(graphs, (0, 4, 5), strict=True)]
        assert torch.equal(batch[name], torch.cat(shifted, dim=1))


@pytest.mark.parametrize("k", [0, 1, 3, 6, 9])
def test_nearest_equals_a_stable_sort(k: int) -> None:
    scores = torch.randint(3, (2, 5, 6), generator=torch.Generator().manual_seed(0)).float()  # many ties
    expected = torch.zeros_like(scores, dtype=torch.bool)
    for a in range(2):
        for b in range(5):
            best = sorted(range(6), key=lambda j: (-float(scores[a, b, j]), j))[:k]
            expected[a, b, best] = True
    assert torch.equal(nearest(scores, k), expected)
