"""Hard negatives made by moving real ones towards an anchor, and what keeps their makers in check."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bgformer.precision import wide

EPSILON = 1e-6
"""Added to each channel of a difference before its length is taken, so that equal samples have a gradient."""


def synthesise_negatives(
    z: Tensor, weights: Tensor, slots: Tensor, draws: Tensor, pull: float | Tensor
) -> Tensor:
    r"""For each sample and each class one negative, from the `"Globally Correlation-Aware Hard Negative Generation"
    <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    A negative :math:`\mathbf{x}` that is farther from the anchor :math:`\mathbf{a}` than the positive is
    (:math:`d^- > d^+`) moves towards the anchor, each channel by its own weight :math:`\mathbf{w}`, and at most
    to the positive's distance:

    .. math::
        \hat{\mathbf{x}} = \mathbf{a} + \frac{d^+ + (d^- - d^+) \, g \, \mathbf{w}}{d^-} \odot
        (\mathbf{x} - \mathbf{a})

    Others stay. The :math:`K` candidates of a class become one by random interpolation, :math:`\mathbf{m}
    \leftarrow \hat{\mathbf{x}}_n + u_{kn} (\mathbf{m} - \hat{\mathbf{x}}_n)` for :math:`n = 2, \dots, K`. Those
    of the anchor's own class are made too, so that the result is one tensor; they mean nothing. The candidates
    are a tensor of :math:`K C \cdot C K \cdot D` numbers, as large as the weights; the result has
    :math:`K C \cdot C \cdot D`.

    Args:
        z (Tensor): Embeddings :math:`(N, D)`.
        weights (Tensor): Channel weights :math:`(N, N, D)`, row of the anchor, column of the negative.
        slots (Tensor): Positions :math:`(K, C)`, of :func:`~pyg_bgformer.losses.class_slots`.
        draws (Tensor): :math:`u` in [0, 1), :math:`(K, K - 1)`.
        pull (float or Tensor): :math:`g` in [0, 1]; 1 leaves most to the weights.

    Returns:
        Tensor: :math:`(K, C, C, D)`: for the k-th sample of class a, the negative of class b.
    """
    with torch.autocast(z.device.type, enabled=False):
        z, weights = wide(z), wide(weights)
        grouped = z[slots]  # (K, C, D)
        anchor = grouped[:, :, None, None, :]  # (K, C, 1, 1, D)
        positive = grouped.roll(-1, dims=0)[:, :, None, None, :]
        away = grouped - anchor  # (K, C, K, C, D): from the anchor to each sample
        near, far = _length(anchor - positive), _length(-away)
        scale = (near + (far - near) * weights[slots[:, :, None, None], slots] * pull) / far
        candidates = torch.where(far > near, anchor + scale * away, grouped)
        return _merged(candidates, draws)


def pulled_share(z: Tensor, slots: Tensor) -> Tensor:
    """Share of (anchor, negative) pairs whose negative is farther than the positive, and so is moved: a scalar."""
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        grouped = z.float()[slots]
        near = (grouped - grouped.roll(-1, dims=0)).norm(dim=-1)  # (K, C)
        far = torch.cdist(grouped.flatten(0, 1), grouped.flatten(0, 1)).view(*slots.shape, *slots.shape)
        others = ~torch.eye(slots.size(1), dtype=torch.bool, device=z.device)[:, None, :]  # (C, 1, C)
        pulled = (far > near[:, :, None, None]) & others
        return pulled.sum() / (others.sum() * slots.size(0) ** 2).clamp(min=1)


def similarity_penalty(z: Tensor, negatives: Tensor, slots: Tensor, official_mask: bool = False) -> Tensor:
    """Mean of 1 - cosine between anchors and the negatives ``(K, C, C, D)`` made for them; own classes count as 0.

    With ``official_mask`` the entries that count as 0 are those that the authors' code picks: of the anchor in
    row i (k-major), the class in place i // K.
    """
    num_slots, num_classes = slots.shape
    with torch.autocast(z.device.type, enabled=False):
        cosine = F.cosine_similarity(z[slots][:, :, None].to(negatives.dtype), negatives, dim=-1).flatten(
            0, 1
        )
    row = torch.arange(num_slots * num_classes, device=z.device)
    own = row // num_slots if official_mask else row % num_classes
    keep = own[:, None] != torch.arange(num_classes, device=z.device)
    return (keep * (1 - cosine)).mean()


def diversity_penalty(weights: Tensor) -> Tensor:
    r"""How alike the channel weights :math:`(N, N, D)` of a sample's pairs are.

    .. math::
        0.01 \left( 1 - \sqrt{\frac{1}{N^2} \sum_{r,c} \Vert \mathbf{w}_{rc} - \bar{\mathbf{w}}_r \Vert^2} \right)
    """
    with torch.autocast(weights.device.type, enabled=False):
        weights = wide(weights)
        spread = (weights - weights.mean(dim=1, keepdim=True)).square().sum(dim=-1).mean()
        return 0.01 * (1 - spread.sqrt())


def _length(difference: Tensor) -> Tensor:
    return (difference + EPSILON).norm(dim=-1, keepdim=True)


def _merged(candidates: Tensor, draws: Tensor) -> Tensor:
    """``(K, C, K, C, D) -> (K, C, C, D)``: the K candidates of each class interpolated one after another."""
    merged, *others = candidates.unbind(dim=2)
    for draw, candidate in zip(draws.t(), others, strict=True):
        merged = candidate + draw[:, None, None, None] * (merged - candidate)
    return merged
