"""The weighted graph over a mini-batch of Intra-Batch Connections."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Similarity = Literal["correlation", "cosine"]
Negatives = Literal["clip", "shift"]


def intra_batch_graph(
    x: Tensor,
    similarity: Similarity = "correlation",
    threshold: float | None = None,
    negatives: Negatives = "clip",
) -> tuple[Tensor, Tensor]:
    r"""The batch's graph of the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper: edges between samples that are alike enough, self loops among
    them, weighed by how alike. Gradients flow through the weights.

    Args:
        x (Tensor): Features :math:`(N, D)`, unit vectors where ``similarity`` is ``"cosine"``; or those of several
            batches :math:`(*, N, D)`, whose nodes are then numbered through.
        similarity (str): ``"correlation"`` (Pearson's, of the entries of two samples) or ``"cosine"`` (the inner
            product). (default: ``"correlation"``)
        threshold (float, optional): Edges are the pairs with a weight above it; :obj:`None` takes all pairs.
            (default: :obj:`None`)
        negatives (str): ``"clip"`` sets negative similarities to 0. ``"shift"`` makes the batch's smallest 0 by
            adding to all, and then sets those of samples with themselves to 0. (default: ``"clip"``)

    Returns:
        Edge indices :math:`(2, E)`, sorted by the sender, and edge weights :math:`(E)`.

    Raises:
        ValueError: If an option is not known.
    """
    if similarity not in ("correlation", "cosine"):
        raise ValueError(f"similarity must be 'correlation' or 'cosine', found {similarity!r}")
    if negatives not in ("clip", "shift"):
        raise ValueError(f"negatives must be 'clip' or 'shift', found {negatives!r}")
    with torch.autocast(x.device.type, enabled=False):
        x = x if x.dtype == torch.float64 else x.float()
        if similarity == "correlation":
            x = F.normalize(x - x.mean(dim=-1, keepdim=True), dim=-1)
        weights = _without_negatives(x @ x.transpose(-1, -2), negatives)
        weights = weights.view(-1, *weights.shape[-2:])
        chosen = torch.ones_like(weights, dtype=torch.bool) if threshold is None else weights > threshold
        graph, sender, receiver = chosen.nonzero(as_tuple=True)
        edge_index = torch.stack([sender, receiver]) + graph * x.size(-2)
        return edge_index, weights[graph, sender, receiver]


def _without_negatives(weights: Tensor, negatives: Negatives) -> Tensor:
    if negatives == "clip":
        return weights.clamp(min=0)
    others = 1 - torch.eye(weights.size(-1), dtype=weights.dtype, device=weights.device)
    return (weights - weights.amin(dim=(-2, -1), keepdim=True)) * others
