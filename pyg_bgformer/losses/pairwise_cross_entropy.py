"""Pairwise cross-entropy: each sample is classified among the classes of the batch."""

from typing import Literal

import torch
from torch import Tensor, nn

from pyg_bgformer.errors import InputError, check_choice, check_range
from pyg_bgformer.geometry import Geometry, Sphere
from pyg_bgformer.losses.class_slots import class_slots
from pyg_bgformer.losses.registry import LOSSES
from pyg_bgformer.ranges import PositiveFloat


@LOSSES.register("pairwise_cross_entropy")
class PairwiseCrossEntropyLoss(nn.Module):
    r"""The cross-entropy over all ordered pairs of sample slots, from the `"Hyperbolic Vision Transformers:
    Combining Improvements in Metric Learning" <https://arxiv.org/abs/2203.10833>`_ paper. It trains BGFormer.

    A batch has :math:`C` classes with :math:`K` samples each. Sample :math:`i` of a class is an anchor, and sample
    :math:`j \neq i` its positive. Its negatives are the samples :math:`i` and :math:`j` of all other classes:

    .. math::
        \ell = \sum_{i \neq j} \frac{1}{C} \sum_{c=1}^{C} - \log \frac{e^{s(z_{ci}, z_{cj}) / \tau}}
        {\sum_{c'} e^{s(z_{ci}, z_{c'j}) / \tau} + \sum_{c' \neq c} e^{s(z_{ci}, z_{c'i}) / \tau}}

    Args:
        tau (float): Temperature :math:`\tau`, > 0. (default: :obj:`0.2`)
        geometry (Geometry, optional): Space of the embeddings, with the similarity :math:`s`.
            (default: the sphere)
        reduction (str): ``"sum"`` over the :math:`K (K - 1)` ordered pairs as in the original, or ``"mean"``.
            (default: ``"sum"``)

    Shapes:
        - **input:** embeddings :math:`(N, D)` in the geometry's space, labels :math:`(N)` in any order
        - **output:** scalar, in float32 also under autocast

    Raises:
        InputError: If an option is out of its range. In the forward pass: if there is not one label per row, or the
            classes of the batch do not all have the same number of samples, at least 2.
    """

    def __init__(
        self,
        *,
        tau: PositiveFloat = 0.2,
        geometry: Geometry | None = None,
        reduction: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        check_range("tau", tau, above=0)
        check_choice("reduction", reduction, ("sum", "mean"))
        self.tau = tau
        self.geometry = geometry if geometry is not None else Sphere()
        self.reduction = reduction

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of a batch: embeddings ``(N, D)``, labels ``(N,)``."""
        if labels.shape != embeddings.shape[:1]:
            found = f"{tuple(labels.shape)} for {tuple(embeddings.shape)}"
            raise InputError(f"labels must have one entry per row of the embeddings, found {found}")
        slots, num_classes = class_slots(labels, "the pairwise cross-entropy").shape
        z = embeddings[labels.argsort(stable=True)]
        scores = self.geometry.similarity(z, z) / self.tau
        with torch.autocast(scores.device.type, enabled=False):
            scores = scores.view(num_classes, slots, num_classes, slots)  # anchor c, i; other c', j
            itself = torch.eye(num_classes, dtype=torch.bool, device=scores.device)[:, :, None]
            same_slot = scores.diagonal(dim1=1, dim2=3).masked_fill(itself, -1e9).logsumexp(dim=1)  # (C, K)
            other_slot = scores.logsumexp(dim=2)  # (C, K, K)
            positive = scores.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (C, K, K)
            terms = torch.logaddexp(same_slot[:, :, None], other_slot) - positive
            # all but the diagonal, whose entries are slots + 1 apart
            loss = terms.mean(dim=0).flatten()[1:].view(slots - 1, slots + 1)[:, :-1].flatten()
            return loss.sum() if self.reduction == "sum" else loss.mean()

    def extra_repr(self) -> str:
        """Returns the options that ``print`` shows."""
        return f"tau={self.tau}, geometry={self.geometry}, reduction={self.reduction!r}"
