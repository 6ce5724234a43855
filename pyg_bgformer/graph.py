"""The batch graph: its edges join similar samples of a mini-batch and, with labels, samples of one class."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

from pyg_bgformer.errors import InputError, check_choice, check_range
from pyg_bgformer.precision import wide

Similarity = Literal["cosine", "euclidean", "correlation"]
"""How the similarity of two samples is computed: the cosine of their features, minus their Euclidean distance, or
the Pearson correlation of their entries (the cosine after each sample's mean is subtracted)."""

Labels = Tensor | NDArray[Any] | Sequence[int]
"""Class labels ``(N,)``: a tensor, a NumPy array, or a list of integers."""


def batch_graph(
    x: Tensor,
    y: Labels | None = None,
    k: int = 10,
    *,
    self_loops: bool = True,
    mutual: bool = False,
    similarity: Similarity = "cosine",
) -> Data:
    r"""Returns the samples of a mini-batch as one graph with two kinds of edges.

    *Visual* edges lead to each node from its ``k`` most similar nodes. *Semantic* edges join all nodes of one class
    in both directions, self loops included. This is the batch graph of the `"Rethinking Batch Sample
    Relationships for Data Representation: A Batch-Graph Transformer based Approach"
    <https://arxiv.org/abs/2211.10622>`_ paper. Here the visual neighbours are chosen once, from the features. The
    authors' code chooses them again inside every layer.

    The edges have no weights. No gradient flows through the choice of the edges, and ``x`` is stored as it is.

    Args:
        x (Tensor): Features ``(N, D)`` in any floating-point type. Similarities are computed in float32, or in
            float64 for float64 features.
        y (Tensor or array or list, optional): Integer class labels ``(N,)``. Without them the graph has no
            semantic edges. (default: :obj:`None`)
        k (int): Number of visual neighbours of each node, at least 1. With ``self_loops`` the node itself is one
            of them. With ``k >= N`` all nodes are neighbours. (default: :obj:`10`)
        self_loops (bool): With :obj:`True` each node is its own first visual neighbour. With :obj:`False` it never
            is. (default: :obj:`True`)
        mutual (bool): Keep a visual edge only if its reverse was chosen too. (default: :obj:`False`)
        similarity (str): ``"cosine"``, ``"euclidean"`` or ``"correlation"``, see :obj:`Similarity`.
            (default: ``"cosine"``)

    Returns:
        Data: ``x``, ``visual_edge_index`` and, if labels are given, ``y`` and ``semantic_edge_index``. Both edge
        indices are ``(2, E)`` int64: row 0 the source :math:`j`, row 1 the target :math:`i`, sorted by target and
        then by source. Of equally similar nodes, those with the lowest indices are chosen.

    Raises:
        InputError: If ``x`` is not a floating-point ``(N, D)`` with ``N >= 1`` or holds a value that is not finite,
            ``y`` is not one integer per row, ``k < 1``, or ``similarity`` is unknown.
    """
    if x.dim() != 2 or x.size(0) == 0 or not x.is_floating_point():
        raise InputError(f"x must be a floating-point (N, D) with N >= 1, found {x.dtype} {tuple(x.shape)}")
    broken = int((~x.isfinite()).any(dim=1).sum())
    if broken:
        raise InputError(f"x has {broken} of {x.size(0)} rows with values that are not finite")
    check_range("k", k, at_least=1)
    check_choice("similarity", similarity, ("cosine", "euclidean", "correlation"))

    similarities = pairwise_similarity(x.detach(), similarity)
    similarities.fill_diagonal_(torch.inf if self_loops else -torch.inf)
    visual = nearest(similarities, min(k, len(x) if self_loops else len(x) - 1))
    if mutual:
        visual = visual & visual.t()
    data = Data(x=x, visual_edge_index=mask_to_edges(visual))
    if y is not None:
        data.y = _checked_labels(y, x)
        data.semantic_edge_index = mask_to_edges(data.y[:, None] == data.y[None, :])
    return data


class BatchGraph(BaseTransform):
    """Adds the edges of :func:`batch_graph` to a ``Data`` object that has ``x`` and, optionally, ``y``.

    Args:
        k (int): Number of visual neighbours of each node. (default: :obj:`10`)
        self_loops (bool): Let each node be its own first visual neighbour. (default: :obj:`True`)
        mutual (bool): Keep a visual edge only if its reverse was chosen too. (default: :obj:`False`)
        similarity (str): See :obj:`Similarity`. (default: ``"cosine"``)

    Raises:
        InputError: When the transform is applied: if ``data.x`` is not set, or as in :func:`batch_graph`.
    """

    def __init__(
        self,
        k: int = 10,
        *,
        self_loops: bool = True,
        mutual: bool = False,
        similarity: Similarity = "cosine",
    ) -> None:
        self.k = k
        self.self_loops = self_loops
        self.mutual = mutual
        self.similarity: Similarity = similarity

    def forward(self, data: Data) -> Data:
        """Returns ``data`` itself, with ``visual_edge_index`` and, with labels, ``semantic_edge_index`` added."""
        if data.x is None:
            raise InputError("BatchGraph needs features: data.x is not set")
        graph = batch_graph(
            data.x,
            data.y,
            self.k,
            self_loops=self.self_loops,
            mutual=self.mutual,
            similarity=self.similarity,
        )
        for key, value in graph.items():
            data[key] = value
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k}, similarity={self.similarity!r})"


def intra_batch_graph(
    x: Tensor, similarity: Similarity = "correlation", threshold: float | None = None
) -> tuple[Tensor, Tensor]:
    r"""Returns the weighted graph of a mini-batch from the `"Learning Intra-Batch Connections for Deep Metric
    Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    The weight of a pair is :math:`w_{ij} = \max(0, s_{ij})` with the similarity :math:`s` of its samples. Pairs of
    a sample with itself belong to the graph. Gradients flow through the weights.

    Args:
        x (Tensor): Features :math:`(N, D)`, or those of several batches :math:`(*, N, D)`. The nodes of several
            batches are numbered consecutively.
        similarity (str): ``"correlation"`` or ``"cosine"``. (default: ``"correlation"``)
        threshold (float, optional): Keep only the pairs with a weight above it. :obj:`None` keeps all pairs.
            (default: :obj:`None`)

    Returns:
        Edge indices :math:`(2, E)`, sorted by source, and edge weights :math:`(E)` in float32, or in float64 for
        float64 features.

    Raises:
        InputError: If ``similarity`` is neither of the two.
    """
    check_choice("similarity", similarity, ("correlation", "cosine"))
    weights = pairwise_similarity(x, similarity).clamp(min=0)
    weights = weights.view(-1, *weights.shape[-2:])
    chosen = torch.ones_like(weights, dtype=torch.bool) if threshold is None else weights > threshold
    graph, source, target = chosen.nonzero(as_tuple=True)
    edge_index = torch.stack([source, target]) + graph * x.size(-2)
    return edge_index, weights[graph, source, target]


def pairwise_similarity(x: Tensor, similarity: Similarity) -> Tensor:
    """Returns the similarities ``(*, N, N)`` of all pairs of samples. Larger is more similar.

    They are computed outside autocast: in half precision, different similarities would become equal.

    Args:
        x: Features ``(*, N, D)``.
        similarity: See :obj:`Similarity`.
    """
    with torch.autocast(x.device.type, enabled=False):
        x = wide(x)
        if similarity == "euclidean":
            return -torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        if similarity == "correlation":
            x = x - x.mean(dim=-1, keepdim=True)
        x = F.normalize(x, dim=-1)
        return x @ x.transpose(-1, -2)


def nearest(similarities: Tensor, k: int) -> Tensor:
    """Returns a mask of the k largest entries of each row. Of equal entries it takes the lowest indices.

    ``torch.topk`` alone does not say which of several equal entries it takes.

    Args:
        similarities: ``(..., M)`` without NaN.
        k: Number of entries.

    Returns:
        A mask ``(..., M)`` with ``min(k, M)`` entries in each row, none if ``k <= 0``.
    """
    if k >= similarities.size(-1):
        return torch.ones_like(similarities, dtype=torch.bool)
    if k <= 0:
        return torch.zeros_like(similarities, dtype=torch.bool)
    smallest = similarities.topk(k, dim=-1).values[..., -1:]
    above, equal = similarities > smallest, similarities == smallest
    places = k - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= places))


def mask_to_edges(mask: Tensor) -> Tensor:
    """Returns the edges of a mask as an edge index ``(2, E)``, sorted by target and then by source.

    Args:
        mask: ``(N, N)`` boolean; rows are targets, columns are sources.
    """
    target, source = mask.nonzero(as_tuple=True)
    return torch.stack([source, target])


def _checked_labels(y: Labels, x: Tensor) -> Tensor:
    try:
        labels = torch.as_tensor(y, device=None if isinstance(y, Tensor) else x.device)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"y must be integer class labels, one per row of x; found a {type(y).__name__} of other values. "
            "Number the classes first, for example with numpy.unique(y, return_inverse=True)"
        ) from error
    if labels.shape != x.shape[:1]:
        raise InputError(f"y must have one label per row of x: ({x.size(0)},), found {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex():
        raise InputError(f"y must be integer class labels, found {labels.dtype}")
    return labels
