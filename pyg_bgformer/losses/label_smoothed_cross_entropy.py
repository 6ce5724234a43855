"""Cross-entropy of a linear classifier, with a temperature and label smoothing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.errors import check_range
from pyg_bgformer.losses.registry import LOSSES
from pyg_bgformer.precision import wide
from pyg_bgformer.ranges import PositiveFloat, Probability


@LOSSES.register("label_smoothed_cross_entropy")
class LabelSmoothedCrossEntropyLoss(nn.Module):
    r"""The label-smoothed cross-entropy of a linear classifier, from the `"Learning Intra-Batch Connections for
    Deep Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    With logits :math:`u` of :math:`C` classes, temperature :math:`T` and smoothing :math:`\epsilon` it is

    .. math::
        \ell = - \frac{1}{N} \sum_{n=1}^{N} \sum_{c=1}^{C} t_{nc} \log \textrm{softmax}_c (u_n / T), \qquad
        t_{nc} = (1 - \epsilon) [y_n = c] + \epsilon / C

    Args:
        num_classes (int): Number of classes :math:`C`.
        embedding_dim (int): Size :math:`D` of the embeddings.
        temperature (float): Temperature :math:`T`, > 0. (default: :obj:`0.2`)
        smoothing (float): Share of the target that all classes share equally, in [0, 1). (default: :obj:`0.1`)

    Shapes:
        - **input:** embeddings :math:`(N, D)`, not normalised, labels :math:`(N)` in [0, C)
        - **output:** scalar, in float32 also under autocast

    Raises:
        InputError: If an argument is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        temperature: PositiveFloat = 0.2,
        smoothing: Probability = 0.1,
    ) -> None:
        super().__init__()
        check_range("num_classes", num_classes, at_least=1)
        check_range("embedding_dim", embedding_dim, at_least=1)
        check_range("temperature", temperature, above=0)
        check_range("smoothing", smoothing, at_least=0, below=1)
        self.temperature = temperature
        self.smoothing = smoothing
        self.classifier = nn.Linear(embedding_dim, num_classes)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of a batch: embeddings ``(N, D)``, labels ``(N,)``."""
        return self.of_logits(self.classifier(embeddings), labels)

    def of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of the logits ``(N, C)`` of another classifier."""
        with torch.autocast(logits.device.type, enabled=False):
            return F.cross_entropy(wide(logits) / self.temperature, labels, label_smoothing=self.smoothing)

    def extra_repr(self) -> str:
        """Returns the options that ``print`` shows."""
        return f"temperature={self.temperature}, smoothing={self.smoothing}"
