"""The N-pair loss in the form of GCA-HNG."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.errors import check_range
from pyg_bgformer.losses.class_slots import class_slots
from pyg_bgformer.losses.registry import LOSSES
from pyg_bgformer.precision import wide
from pyg_bgformer.ranges import NonNegativeFloat


@LOSSES.register("n_pair")
class NPairLoss(nn.Module):
    r"""The N-pair loss on embeddings of any length, from the `"Improved Deep Metric Learning with Multi-class
    N-pair Loss Objective" <https://papers.nips.cc/paper/6200>`_ paper, in the form of the `"Globally
    Correlation-Aware Hard Negative Generation" <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    A batch has :math:`C` classes with :math:`K` samples :math:`\mathbf{z}_{ck}` each, numbered in the order of the
    batch. The first sample of a class is the anchor, each other one a positive. The negatives for positive
    :math:`k` are the samples :math:`k` of the other classes:

    .. math::
        \ell = \frac{1}{K - 1} \sum_{k=2}^{K} \frac{1}{C} \sum_{c=1}^{C} - \log \frac{e^{\mathbf{z}_{c1}^{\top}
        \mathbf{z}_{ck}}}{\sum_{c'} e^{\mathbf{z}_{c1}^{\top} \mathbf{z}_{c'k}}} + \frac{\lambda}{4 C} \sum_{c,k}
        \Vert \mathbf{z}_{ck} \Vert^2

    Args:
        regularisation (float): Weight :math:`\lambda` of the squared lengths of the embeddings, at least 0.
            (default: :obj:`0.003`)

    Shapes:
        - **input:** embeddings :math:`(N, D)`, not normalised, labels :math:`(N)` in any order
        - **output:** scalar, in float32 also under autocast

    Raises:
        InputError: If ``regularisation`` is negative. In the forward pass: if the classes of the batch do not all
            have the same number of samples, at least 2.
    """

    def __init__(self, *, regularisation: NonNegativeFloat = 3e-3) -> None:
        super().__init__()
        check_range("regularisation", regularisation, at_least=0)
        self.regularisation = regularisation

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of a batch: embeddings ``(N, D)``, labels ``(N,)``."""
        slots = class_slots(labels, "the N-pair loss")
        with torch.autocast(embeddings.device.type, enabled=False):
            z = wide(embeddings)[slots]  # (K, C, D)
            logits = z[0] @ z[1:].transpose(1, 2)  # (K - 1, C, C)
            target = torch.arange(slots.size(1), device=z.device).expand(slots.size(0) - 1, -1)
            loss = F.cross_entropy(logits.flatten(0, 1), target.flatten())
            return loss + self.regularisation / 4 * z.square().sum() / slots.size(1)

    def synthetic(self, embeddings: Tensor, negatives: Tensor, labels: Tensor) -> Tensor:
        r"""Returns the loss of all samples, each against the synthetic negatives that were made for it.

        .. math::
            \ell = \frac{1}{K} \sum_{k=1}^{K} \left[ \frac{1}{C} \sum_{a=1}^{C} - \log
            \frac{e^{\mathbf{z}_{ka}^{\top} \tilde{\mathbf{n}}_{kaa}}}{\sum_b e^{\mathbf{z}_{ka}^{\top}
            \tilde{\mathbf{n}}_{kab}}} + \frac{\lambda}{4} \left( \frac{\Vert \mathbf{z}_k \Vert^2}{C} +
            \frac{\Vert \tilde{\mathbf{n}}_k \Vert^2}{C^2} \right) \right]

        Here :math:`\tilde{\mathbf{n}}_{kaa}` is the positive of the anchor: the next sample of its class.

        Args:
            embeddings (Tensor): :math:`(N, D)`, not normalised.
            negatives (Tensor): :math:`(K, C, C, D)`, of
                :func:`~pyg_bgformer.losses.negative_synthesis.synthesise_negatives`.
            labels (Tensor): :math:`(N)`.

        Raises:
            InputError: As in the forward pass.
        """
        slots = class_slots(labels, "the N-pair loss")
        with torch.autocast(embeddings.device.type, enabled=False):
            z = embeddings.to(negatives.dtype)[slots]  # (K, C, D)
            num_classes = slots.size(1)
            itself = torch.eye(num_classes, dtype=torch.bool, device=z.device)[:, :, None]
            others = torch.where(itself, z.roll(-1, dims=0)[:, :, None], negatives)
            logits = torch.einsum("kad,kabd->kab", z, others).flatten(0, 1)
            target = torch.arange(num_classes, device=z.device).repeat(slots.size(0))
            lengths = z.square().sum() / num_classes + others.square().sum() / num_classes**2
            return F.cross_entropy(logits, target) + self.regularisation / 4 * lengths / slots.size(0)

    def extra_repr(self) -> str:
        """Returns the options that ``print`` shows."""
        return f"regularisation={self.regularisation}"
