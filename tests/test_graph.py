"""The batch graph against plain loops, and what holds for every batch."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch_geometric.data import Batch, Data

from pyg_bgformer import BatchGraph, batch_graph
from pyg_bgformer.errors import InputError
from pyg_bgformer.graph import intra_batch_graph, nearest

SIMILARITIES = ("cosine", "euclidean", "correlation")


def random_batch(num_nodes: int, channels: int = 5, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(num_nodes, channels, generator=generator)
    return x, torch.randint(classes, (num_nodes,), generator=generator)


def naive_similarity(a: list[float], b: list[float], similarity: str) -> float:
    if similarity == "euclidean":
        return -math.sqrt(sum((p - q) ** 2 for p, q in zip(a, b, strict=True)))
    if similarity == "correlation":
        a, b = [p - sum(a) / len(a) for p in a], [q - sum(b) / len(b) for q in b]
    norms = math.sqrt(sum(p * p for p in a)) * math.sqrt(sum(q * q for q in b))
    return sum(p * q for p, q in zip(a, b, strict=True)) / norms if norms else 0.0


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


@pytest.mark.parametrize("similarity", SIMILARITIES)
@pytest.mark.parametrize(
    ("num_nodes", "k", "self_loops", "mutual"),
    [
        (1, 1, True, False),
        (1, 4, False, True),
        (2, 1, False, False),
        (12, 1, True, True),
        (12, 4, True, False),
        (12, 4, False, True),
        (12, 11, False, False),
        (12, 50, True, True),
    ],
)
def test_visual_edges_equal_loops(
    num_nodes: int, k: int, self_loops: bool, mutual: bool, similarity: str
) -> None:
    x, _ = random_batch(num_nodes, seed=k)
    data = batch_graph(x, k=k, self_loops=self_loops, mutual=mutual, similarity=similarity)
    assert edges(data.visual_edge_index) == naive_visual_edges(x, k, self_loops, mutual, similarity)
    assert data.visual_edge_index.dtype == torch.int64
    assert "semantic_edge_index" not in data
    assert data.y is None


# ------------------------------------------------------------------------------------- what holds for every batch

# Features are small integers: similarities have many ties, and equal ones are equal in every order of the nodes.
BATCHES = st.lists(
    st.tuples(st.lists(st.integers(-2, 2), min_size=3, max_size=3), st.integers(0, 3)),
    min_size=1,
    max_size=12,
)


def tensors(batch: list[tuple[list[int], int]]) -> tuple[Tensor, Tensor]:
    """Features and labels of a drawn batch."""
    x = torch.tensor([features for features, _ in batch], dtype=torch.float64)
    return x, torch.tensor([label for _, label in batch])


@given(BATCHES, st.integers(1, 15), st.booleans(), st.booleans())
@settings(max_examples=100, deadline=None)
def test_ties_duplicates_and_isolated_nodes_are_resolved_as_by_loops(
    batch: list, k: int, self_loops: bool, mutual: bool
) -> None:
    x, y = tensors(batch)
    data = batch_graph(x, y, k, self_loops=self_loops, mutual=mutual, similarity="euclidean")
    assert edges(data.visual_edge_index) == naive_visual_edges(x, k, self_loops, mutual, "euclidean")
    labels = y.tolist()
    pairs = [[j, i] for i in range(len(y)) for j in range(len(y)) if labels[i] == labels[j]]
    assert edges(data.semantic_edge_index) == pairs


@given(BATCHES, st.integers(1, 15), st.booleans())
@settings(max_examples=60, deadline=None)
def test_each_node_has_min_k_n_neighbours(batch: list, k: int, self_loops: bool) -> None:
    x, _ = tensors(batch)
    for similarity in SIMILARITIES:
        source, target = batch_graph(x, k=k, self_loops=self_loops, similarity=similarity).visual_edge_index
        expected = min(k, len(x) if self_loops else len(x) - 1)
        assert target.bincount(minlength=len(x)).tolist() == [expected] * len(x)
        assert len({*zip(source.tolist(), target.tolist(), strict=True)}) == len(source)  # none given twice
        assert ((source == target).sum() == len(x)) if self_loops else (source != target).all()


@given(st.integers(1, 10), st.integers(1, 12), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_order_of_nodes_does_not_matter_without_ties(num_nodes: int, k: int, random) -> None:
    x, y = random_batch(num_nodes, seed=num_nodes)
    order = torch.tensor(random.sample(range(num_nodes), num_nodes))
    for mutual in (False, True):
        data, moved = batch_graph(x, y, k, mutual=mutual), batch_graph(x[order], y[order], k, mutual=mutual)
        for name in ("visual_edge_index", "semantic_edge_index"):
            assert sorted(edges(order[moved[name]])) == sorted(edges(data[name]))


@given(BATCHES, st.sampled_from([math.nan, math.inf, -math.inf]), st.data())
@settings(max_examples=30, deadline=None)
def test_values_that_are_not_finite_are_refused(batch: list, value: float, data: st.DataObject) -> None:
    x, y = tensors(batch)
    rows = data.draw(st.sets(st.integers(0, len(x) - 1), min_size=1))
    x[sorted(rows), 1] = value
    with pytest.raises(InputError, match=f"{len(rows)} of {len(x)} rows"):
        batch_graph(x, y)


# ------------------------------------------------------------------------------------------------ single cases


def test_all_alike() -> None:
    for similarity in SIMILARITIES:
        sources = batch_graph(torch.ones(5, 3), k=3, similarity=similarity).visual_edge_index[0].view(5, 3)
        # Each node itself, then the lowest.
        assert sources.tolist() == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1, 3], [0, 1, 4]]


def test_zero_features_are_defined() -> None:
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    data = batch_graph(x, k=2)  # all similarities but that of 1 with itself are 0
    assert edges(data.visual_edge_index) == [[0, 0], [1, 0], [0, 1], [1, 1], [0, 2], [2, 2]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_precision_gives_the_edges_of_its_values(dtype: torch.dtype) -> None:
    x = random_batch(60, channels=32)[0].to(dtype)
    for similarity in SIMILARITIES:
        data = batch_graph(x, k=7, similarity=similarity)
        assert data.x is x
        assert edges(data.visual_edge_index) == naive_visual_edges(x, 7, True, False, similarity)


def test_autocast_changes_no_edge() -> None:
    x, y = random_batch(400, channels=64)  # so many that similarities in half precision would choose others
    plain = batch_graph(x, y, k=7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
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


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 0, 2],
        (4, 1, 7, 0),
        np.array([-1, 10**12, -1, 3]),
        np.array([1, 0, 0, 1], dtype=np.uint8),
        torch.tensor([True, False, True, True]),
        torch.tensor([5, 5, 5, 5], dtype=torch.int32),
    ],
    ids=str,
)
def test_labels_may_be_lists_arrays_and_tensors(labels: object) -> None:
    data = batch_graph(random_batch(4)[0], labels, k=2)
    values = [int(label) for label in labels]
    expected = [[j, i] for i in range(4) for j in range(4) if values[i] == values[j]]
    assert edges(data.semantic_edge_index) == expected
    assert data.y.tolist() == values


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog", "cat", "cat"], "Number the classes first"),
        (np.array(["cat", "dog", "cat", "cat"]), "Number the classes first"),
        ([None, 1, 2, 3], "Number the classes first"),
        ([0.5, 1.0, 2.0, 3.0], "integer class labels, found torch.float32"),
        (torch.tensor([0.0, math.nan, 1.0, 1.0]), "integer class labels"),
        ([0, 1, 2], r"one label per row of x: \(4,\), found \(3,\)"),
        (torch.zeros(4, 1, dtype=torch.long), "one label per row"),
        (7, "one label per row"),
    ],
    ids=str,
)
def test_other_labels_are_refused_in_one_line(labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        batch_graph(random_batch(4)[0], labels)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.randn(4), {}, r"\(N, D\)"),
        (torch.randn(4, 2, 2), {}, r"\(N, D\)"),
        (torch.randn(0, 2), {}, "N >= 1"),
        (torch.ones(4, 2, dtype=torch.long), {}, "floating-point"),
        (torch.randn(4, 2), {"k": 0}, "k must be at least 1"),
        (torch.randn(4, 2), {"similarity": "dot"}, "'dot'"),
    ],
)
def test_wrong_input_is_refused(x: Tensor, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        batch_graph(x, **options)


@pytest.mark.parametrize("options", [{}, {"self_loops": False}, {"mutual": True, "similarity": "euclidean"}])
def test_transform_equals_function(options: dict) -> None:
    x, y = random_batch(15)
    for labels in (y, None):
        given_data = Data(x=x, y=labels, name="kept")
        data = BatchGraph(k=4, **options)(given_data)
        expected = batch_graph(x, labels, k=4, **options)
        assert torch.equal(data.visual_edge_index, expected.visual_edge_index)
        assert ("semantic_edge_index" in data) == (labels is not None)
        assert labels is None or torch.equal(data.semantic_edge_index, expected.semantic_edge_index)
        assert data.name == "kept"
        assert "visual_edge_index" not in given_data


def test_transform_needs_features_and_prints_its_options() -> None:
    with pytest.raises(InputError, match=r"data\.x"):
        BatchGraph()(Data(y=torch.zeros(3)))
    assert str(BatchGraph(k=4)) == "BatchGraph(k=4, similarity='cosine')"


def test_collated_graphs_keep_their_own_edges() -> None:
    graphs = [batch_graph(*random_batch(n, seed=n), k=3) for n in (4, 1, 7)]
    batch = Batch.from_data_list(graphs)
    for name in ("visual_edge_index", "semantic_edge_index"):
        shifted = [graph[name] + start for graph, start in zip(graphs, (0, 4, 5), strict=True)]
        assert torch.equal(batch[name], torch.cat(shifted, dim=1))


@given(
    st.lists(st.lists(st.integers(0, 2), min_size=6, max_size=6), min_size=1, max_size=4), st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_nearest_equals_a_stable_sort(rows: list[list[int]], k: int) -> None:
    scores = torch.tensor(rows, dtype=torch.float32)
    expected = torch.zeros_like(scores, dtype=torch.bool)
    for i, row in enumerate(rows):
        expected[i, sorted(range(6), key=lambda j, row=row: (-row[j], j))[:k]] = True
    assert torch.equal(nearest(scores, k), expected)


# ------------------------------------------------------------------------------------ the graph of Intra-Batch


@pytest.mark.parametrize(
    ("similarity", "threshold"), [("correlation", 0.2), ("cosine", 0.2), ("cosine", None)]
)
def test_intra_batch_graph_equals_loops(similarity: str, threshold: float | None) -> None:
    x = random_batch(7)[0].double()
    w = [[max(0.0, naive_similarity(a, b, similarity)) for b in x.tolist()] for a in x.tolist()]
    kept = [(i, j) for i in range(7) for j in range(7) if threshold is None or w[i][j] > threshold]
    edge_index, edge_weight = intra_batch_graph(x, similarity, threshold)
    assert edges(edge_index) == [list(pair) for pair in kept]
    assert edge_weight.tolist() == pytest.approx([w[i][j] for i, j in kept])


def test_several_batches_are_one_graph_with_no_edges_between_them() -> None:
    x = random_batch(15, 6)[0].double().view(3, 5, 6)
    edge_index, edge_weight = intra_batch_graph(x, threshold=0.2)
    alone = [intra_batch_graph(batch, threshold=0.2) for batch in x]
    assert torch.equal(edge_index, torch.cat([part + 5 * i for i, (part, _) in enumerate(alone)], dim=1))
    torch.testing.assert_close(edge_weight, torch.cat([weights for _, weights in alone]))


def test_a_sample_without_variation_has_no_correlation_but_finite_gradients() -> None:
    x = torch.cat([torch.ones(1, 8), random_batch(3, 8)[0]]).requires_grad_()
    _, edge_weight = intra_batch_graph(x)
    assert not edge_weight[:4].any()
    assert torch.autograd.grad(edge_weight.sum(), x)[0].isfinite().all()


def test_intra_batch_graph_refuses_distances() -> None:
    with pytest.raises(InputError, match="similarity must be one of correlation, cosine; found 'euclidean'"):
        intra_batch_graph(random_batch(3)[0], "euclidean")
