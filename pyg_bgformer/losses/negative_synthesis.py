"""Synthetic negatives of GCA-HNG, which are real ones moved towards an anchor, and penalties for their network."""

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bgformer.precision import wide

EPSILON = 1e-6
"""Added to each channel of a difference before its length is computed, so that equal samples have a gradient."""


def synthesise_negatives(
    z: Tensor, weights: Tensor, slots: Tensor, draws: Tensor, pull: float | Tensor
) -> Tensor:
    r"""Returns a negative of each class for each sample, from the `"Globally Correlation-Aware Hard Negative
    Generation" <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    A negative :math:`\mathbf{x}` moves towards the anchor :math:`\mathbf{a}` if it is farther from it than the
    positive (:math:`d^- > d^+`). Each channel moves by its own weight :math:`\mathbf{w}`, at most as far as to the
    positive's distance:

    .. math::
        \hat{\mathbf{x}} = \mathbf{a} + \frac{d^+ + (d^- - d^+) \, g \, \mathbf{w}}{d^-} \odot
        (\mathbf{x} - \mathbf{a})

    Other negatives stay where they are. Random interpolation makes one negative of the :math:`K` candidates of a
    class: :math:`\mathbf{m} \leftarrow \hat{\mathbf{x}}_n + u_{kn} (\mathbf{m} - \hat{\mathbf{x}}_n)` for
    :math:`n = 2, \dots, K`, starting from :math:`\mathbf{m} = \hat{\mathbf{x}}_1`. The entries for the anchor's own
    class are computed too, so that the result is one tensor, but they have no meaning. The candidates are a tensor
    of :math:`K C \cdot C K \cdot D` numbers, as many as the weights.

    Args:
        z (Tensor): Embeddings :math:`(N, D)`, :math:`N = K C`.
        weights (Tensor): Channel weights :math:`(N, N, D)` in [0, 1]: row of the anchor, column of the negative.
        slots (Tensor): Positions :math:`(K, C)`, from :func:`~pyg_bgformer.losses.class_slots.class_slots`.
        draws (Tensor): Random numbers :math:`u` in [0, 1), :math:`(K, K - 1)`.
        pull (float or Tensor): :math:`g` in [0, 1]. With 0 negatives move to the positive's distance, with 1 only
            the weights decide.

    Returns:
        Tensor: :math:`(K, C, C, D)` in float32, or in float64 for float64 embeddings: for sample k of class a, the
        negative of class b.
    """
    with torch.autocast(z.device.type, enabled=False):
        z, weights = wide(z), wide(weights)
        grouped = z[slots]  # (K, C, D)
        anchor = grouped[:, :, None, None, :]  # (K, C, 1, 1, D)
        positive = grouped.roll(-1, dims=0)[:, :, None, None, :]
        away = grouped - anchor  # (K, C, K, C, D), from the anchor to each sample
        near, far = _length(anchor - positive), _length(-away)
        scale = (near + (far - near) * weights[slots[:, :, None, None], slots] * pull) / far
        candidates = torch.where(far > near, anchor + scale * away, grouped)
        return _merged(candidates, draws)


def pulled_share(z: Tensor, slots: Tensor) -> Tensor:
    """Returns the share of pairs of anchor and negative whose negative is farther than the positive, a scalar.

    These are the negatives that :func:`synthesise_negatives` moves.

    Args:
        z: Embeddings ``(N, D)``.
        slots: Positions ``(K, C)``.
    """
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        grouped = z.float()[slots]
        near = (grouped - grouped.roll(-1, dims=0)).norm(dim=-1)  # (K, C)
        far = torch.cdist(grouped.flatten(0, 1), grouped.flatten(0, 1)).view(*slots.shape, *slots.shape)
        others = ~torch.eye(slots.size(1), dtype=torch.bool, device=z.device)[:, None, :]  # (C, 1, C)
        pulled = (far > near[:, :, None, None]) & others
        return pulled.sum() / (others.sum() * slots.size(0) ** 2).clamp(min=1)


def similarity_penalty(z: Tensor, negatives: Tensor, slots: Tensor, official_mask: bool = False) -> Tensor:
    """Returns the mean of ``1 - cosine`` between anchors and the negatives made for them, a scalar.

    Entries for an anchor's own class count as 0.

    Args:
        z: Embeddings ``(N, D)``.
        negatives: ``(K, C, C, D)``, from :func:`synthesise_negatives`.
        slots: Positions ``(K, C)``.
        official_mask: Let the entries count as 0 that the authors' code masks. For the anchor in row i of the
            ``K * C`` rows it masks class ``i // K``, where ``i % C`` is meant.
    """
    num_slots, num_classes = slots.shape
    with torch.autocast(z.device.type, enabled=False):
        anchors = z[slots][:, :, None].to(negatives.dtype)
        cosine = F.cosine_similarity(anchors, negatives, dim=-1).flatten(0, 1)
    row = torch.arange(num_slots * num_classes, device=z.device)
    own = row // num_slots if official_mask else row % num_classes
    keep = own[:, None] != torch.arange(num_classes, device=z.device)
    return (keep * (1 - cosine)).mean()


def diversity_penalty(weights: Tensor) -> Tensor:
    r"""Returns a penalty for channel weights that are similar for all pairs of a sample, a scalar.

    .. math::
        0.01 \left( 1 - \sqrt{\frac{1}{N^2} \sum_{r,c} \Vert \mathbf{w}_{rc} - \bar{\mathbf{w}}_r \Vert^2} \right)

    As in the authors' code it is not divided by the number of channels, so it can be negative.

    Args:
        weights (Tensor): Channel weights :math:`(N, N, D)`.
    """
    with torch.autocast(weights.device.type, enabled=False):
        weights = wide(weights)
        spread = (weights - weights.mean(dim=1, keepdim=True)).square().sum(dim=-1).mean()
        return 0.01 * (1 - spread.sqrt())


def _length(difference: Tensor) -> Tensor:
    return (difference + EPSILON).norm(dim=-1, keepdim=True)


def _merged(candidates: Tensor, draws: Tensor) -> Tensor:
    """Returns candidates ``(K, C, K, C, D)`` with the K of each class interpolated into one, ``(K, C, C, D)``."""
    merged, *others = candidates.unbind(dim=2)
    for draw, candidate in zip(draws.t(), others, strict=True):
        merged = candidate + draw[:, None, None, None] * (merged - candidate)
    return merged
