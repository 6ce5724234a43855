"""The batch graph: a mini-batch of features, and labels where there are any, as one PyG ``Data`` object."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import BaseTransform

Similarity = Literal["cosine", "euclidean"]


def batch_graph(
    x: Tensor,
    y: Tensor | None = None,
    k: int = 10,
    *,
    self_loops: bool = True,
    mutual: bool = False,
    similarity: Similarity = "cosine",
) -> Data:
    r"""Joins the samples of a mini-batch by what they look like and by what they are.

    *Visual* edges lead to each node from its ``k`` most similar nodes; *semantic* edges join all nodes of one
    class in both directions, self loops included. This is the batch graph of the `"Rethinking Batch Sample
    Relationships for Data Representation: A Batch-Graph Transformer based Approach"
    <https://arxiv.org/abs/2211.10622>`_ paper, its visual neighbourhoods taken once from the features instead
    of anew inside every layer.

    Edges are chosen, not weighted: no gradient flows through the choice, and ``x`` is stored as it is.

    Args:
        x (Tensor): Features ``(N, D)`` in any floating-point type; similarities are computed in float32 or
            better.
        y (Tensor, optional): Class labels ``(N,)``. Without them the graph has no semantic edges.
            (default: :obj:`None`)
        k (int): Visual neighbours per node, itself included if ``self_loops``. With ``k >= N`` all nodes are
            neighbours. (default: :obj:`10`)
        self_loops (bool): A node is its own first visual neighbour; otherwise it never is.
            (default: :obj:`True`)
        mutual (bool): Keep only reciprocal visual neighbours: an edge stays if its reverse was also chosen.
            (default: :obj:`False`)
        similarity (str): ``"cosine"``, or ``"euclidean"`` for the smallest distance. (default: ``"cosine"``)

    Returns:
        Data: ``x``, ``y`` if given, ``visual_edge_index`` and, with ``y``, ``semantic_edge_index``: each
        ``(2, E)`` int64, row 0 the sender :math:`j`, row 1 the receiver :math:`i`, sorted by receiver and
        then by sender. Equally similar nodes are taken in the order of their index.

    Raises:
        ValueError: If ``x`` is not a floating-point ``(N, D)`` with ``N >= 1`` or holds a value that is not
            finite, ``y`` does not have one label per row, ``k < 1``, or ``similarity`` is not known.
    """
    _check(x, y, k, similarity)
    similarities = _similarities(x.detach(), similarity)
    similarities.fill_diagonal_(float("inf") if self_loops else float("-inf"))
    visual = nearest(similarities, min(k, len(x) if self_loops else len(x) - 1))
    if mutual:
        visual = visual & visual.t()
    data = Data(x=x, visual_edge_index=_edges(visual))
    if y is not None:
        data.y = y
        data.semantic_edge_index = _edges(y[:, None] == y[None, :])
    return data


class BatchGraph(BaseTransform):
    """Adds the edges of :func:`batch_graph` to a ``Data`` object that has ``x`` and, optionally, ``y``.

    Args:
        k (int): Visual neighbours per node. (default: :obj:`10`)
        **options: ``self_loops``, ``mutual``, ``similarity`` as in :func:`batch_graph`.

    Raises:
        ValueError: When applied: see :func:`batch_graph`.
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
        """Returns ``data`` with its edges set."""
        if data.x is None:
            raise ValueError("BatchGraph needs features: data.x is not set")
        graph = batch_graph(
            data.x,
            data.y,
            self.k,
            self_loops=self.self_loops,
            mutual=self.mutual,
            similarity=self.similarity,
        )
        for key, edge_index in graph.items():
            data[key] = edge_index
        return data

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}(k={self.k}, similarity={self.similarity!r})"


def nearest(similarities: Tensor, k: int) -> Tensor:
    """Marks the k largest entries of each row, the lowest index first among equals.

    Args:
        similarities (Tensor): ``(..., M)`` without NaN.
        k (int): Entries to mark; all, where there are no more than ``k``.

    Returns:
        Tensor: A mask ``(..., M)`` with ``min(k, M)`` marks in each row. ``torch.topk`` alone does not say which
        of several equals it takes.
    """
    if k >= similarities.size(-1):
        return torch.ones_like(similarities, dtype=torch.bool)
    if k <= 0:
        return torch.zeros_like(similarities, dtype=torch.bool)
    smallest = similarities.topk(k, dim=-1).values[..., -1:]
    above, equal = similarities > smallest, similarities == smallest
    places = k - above.sum(dim=-1, keepdim=True)
    return above | (equal & (equal.cumsum(dim=-1) <= places))


def _check(x: Tensor, y: Tensor | None, k: int, similarity: str) -> None:
    if x.dim() != 2 or x.size(0) == 0 or not x.is_floating_point():
        raise ValueError(f"x must be a floating-point (N, D) with N >= 1, found {x.dtype} {tuple(x.shape)}")
    if y is not None and y.shape != x.shape[:1]:
        raise ValueError(f"y must have one label per row of x: ({x.size(0)},), found {tuple(y.shape)}")
    if k < 1:
        raise ValueError(f"k must be at least 1, found {k}")
    if similarity not in ("cosine", "euclidean"):
        raise ValueError(f"similarity must be 'cosine' or 'euclidean', found {similarity!r}")
    broken = int((~x.isfinite()).any(dim=1).sum())
    if broken:
        raise ValueError(f"x has {broken} of {x.size(0)} rows with values that are not finite")


def _similarities(x: Tensor, similarity: Similarity) -> Tensor:
    """``(N, N)``, larger is more alike; outside autocast, whose half precision would invent ties."""
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        if similarity == "cosine":
            x = F.normalize(x, dim=1)
            return x @ x.t()
        return -torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def _edges(mask: Tensor) -> Tensor:
    """Edge index ``(2, E)`` of a mask whose rows are receivers and whose columns are senders."""
    receiver, sender = mask.nonzero(as_tuple=True)
    return torch.stack([sender, receiver])
