"""Classification of embeddings by a linear classifier, with temperature and label smoothing."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.nn.neck_classifier import NeckClassifier


class LabelSmoothedCrossEntropy(nn.Module):
    r"""Label-smoothed cross-entropy of a linear classifier, as in the `"Learning Intra-Batch Connections for Deep
    Metric Learning" <https://arxiv.org/abs/2102.07753>`_ paper.

    With logits :math:`u` of :math:`C` classes, temperature :math:`T` and smoothing :math:`\epsilon`,

    .. math::
        \ell = - \frac{1}{N} \sum_{n=1}^{N} \sum_{c=1}^{C} t_{nc} \log \textrm{softmax}_c (u_n / T), \qquad
        t_{nc} = (1 - \epsilon) [y_n = c] + \epsilon / C

    Args:
        num_classes (int): :math:`C`.
        embedding_dim (int): Size :math:`D` of the embeddings.
        temperature (float): :math:`T`, > 0. (default: :obj:`0.2`)
        smoothing (float): :math:`\epsilon`, in [0, 1). (default: :obj:`0.1`)
        neck (bool): Put a BatchNorm whose bias stays 0 before a classifier without bias. (default: :obj:`False`)

    Shapes:
        - **input:** embeddings :math:`(N, D)` of any length, labels :math:`(N)`
        - **output:** scalar, float32 also under autocast

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        temperature: float = 0.2,
        smoothing: float = 0.1,
        neck: bool = False,
    ) -> None:
        super().__init__()
        if num_classes < 1 or embedding_dim < 1:
            found = f"found {num_classes} and {embedding_dim}"
            raise ValueError(f"a classifier needs classes and dimensions, at least 1 of each; {found}")
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, found {temperature}")
        if not 0 <= smoothing < 1:
            raise ValueError(f"smoothing must lie in [0, 1), found {smoothing}")
        self.temperature = temperature
        self.smoothing = smoothing
        self.classifier = NeckClassifier(embedding_dim, num_classes, neck)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of one batch."""
        return self.of_logits(self.classifier(embeddings), labels)

    def of_logits(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss of another classifier's logits ``(N, C)``."""
        with torch.autocast(logits.device.type, enabled=False):
            wide = logits if logits.dtype == torch.float64 else logits.float()
            return F.cross_entropy(wide / self.temperature, labels, label_smoothing=self.smoothing)

    def extra_repr(self) -> str:
        """Shown by ``print``."""
        return f"temperature={self.temperature}, smoothing={self.smoothing}"
