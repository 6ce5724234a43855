"""How a training batch becomes features with gradient: in one piece, or in pieces."""

from dataclasses import dataclass

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pyg_bgformer.encoders import Encoder
from pyg_bgformer.engine.row_draws import RowDraws


@dataclass(frozen=True)
class Encoding:
    """How training batches are encoded.

    Args:
        chunk: Number of images that are encoded at a time; :obj:`None` for all of a batch.
        random: Whether the backbone draws random numbers in training.
    """

    chunk: int | None = None
    random: bool = False

    def __call__(self, fabric: Fabric, encoder: Encoder, images: Tensor, labels: Tensor) -> "EncodedBatch":
        """Returns a batch, encoded. This is the only place where a training batch is encoded.

        Args:
            fabric: Device and precision.
            encoder: The method's.
            images: Images ``(N, 3, S, S)``, or features ``(N, F)`` of a frozen backbone.
            labels: ``(N,)``.
        """
        whole = self.chunk is None or len(images) <= self.chunk
        if whole or images.dim() != 4:
            return EncodedBatch(fabric, encoder, images, labels)
        return SplitBatch(fabric, encoder, images, labels, self)


IN_ONE_PIECE = Encoding()


class EncodedBatch:
    """A batch that was encoded in one piece.

    Args:
        fabric: Device and precision.
        encoder: The method's.
        images: See :class:`Encoding`.
        labels: ``(N,)``.

    Attributes:
        features (Tensor): Backbone features ``(N, F)`` of the whole batch, with gradient.
        labels (Tensor): Their classes ``(N,)``.
    """

    def __init__(self, fabric: Fabric, encoder: Encoder, images: Tensor, labels: Tensor) -> None:
        self.fabric = fabric
        self.labels = labels
        with fabric.autocast():
            self.features = encoder.features(images)

    def backward(self, loss: Tensor, moved: list[nn.Parameter]) -> None:
        """Gives a loss's gradient to some parameters, and to no others.

        Args:
            loss: A scalar that was computed from :attr:`features`.
            moved: Parameters of the method.
        """
        self.fabric.backward(loss, inputs=moved)


class SplitBatch(EncodedBatch):
    r"""A batch whose backbone outputs are computed piece by piece, without keeping activations.

    The loss sees the outputs :math:`Z` of the whole batch as a leaf of its graph. By the chain rule

    .. math::
        \frac{\partial L}{\partial \theta} = \sum_{p} \left( \frac{\partial Z_p}{\partial \theta} \right)^{\top}
        \frac{\partial L}{\partial Z_p},

    so each piece :math:`p` is encoded once more, and takes its rows of :math:`\partial L / \partial Z` back to the
    parameters :math:`\theta` of the backbone. The sum is exact, whatever the loss compares: from `"Scaling Deep
    Contrastive Learning Batch Size under Memory Limited Setup" <https://arxiv.org/abs/2101.06983>`_.

    Args:
        fabric: Device and precision.
        encoder: The method's.
        images: Images ``(N, 3, S, S)``.
        labels: ``(N,)``.
        encoding: How the batch is cut.
    """

    def __init__(
        self, fabric: Fabric, encoder: Encoder, images: Tensor, labels: Tensor, encoding: Encoding
    ) -> None:
        self.fabric = fabric
        self.labels = labels
        self.encoding = encoding
        self.encoder = encoder
        self.backbone = encoder.backbone
        self.total = len(images)
        self.pieces = images.split(encoding.chunk or len(images))
        self.random_state = random_state(fabric.device)
        with torch.no_grad():
            outputs = [self.encode(number) for number in range(len(self.pieces))]
        self.outputs = torch.cat(outputs).requires_grad_()
        with fabric.autocast():
            self.features = encoder.features(self.outputs)

    def encode(self, number: int) -> Tensor:
        """Returns the backbone's outputs of a piece; each time with the same random numbers."""
        piece, first = self.encoder.normalised(self.pieces[number]), sum(map(len, self.pieces[:number]))
        if not self.encoding.random:
            with self.fabric.autocast():
                return self.backbone(piece)
        set_random_state(self.random_state, piece.device)
        with self.fabric.autocast(), RowDraws(first, len(piece), self.total):
            return self.backbone.forward(piece)  # never compiled: compiled code draws numbers of its own

    def backward(self, loss: Tensor, moved: list[nn.Parameter]) -> None:
        """See :meth:`EncodedBatch.backward`."""
        in_backbone = set(self.backbone.parameters())
        backbone = [parameter for parameter in moved if parameter in in_backbone]
        others: list[Tensor] = [parameter for parameter in moved if parameter not in in_backbone]
        self.outputs.grad = None
        self.fabric.backward(loss, inputs=[*others, self.outputs] if backbone else others)
        if self.outputs.grad is None:
            return
        device = self.outputs.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for number, gradient in enumerate(self.outputs.grad.split(self.encoding.chunk)):
                torch.autograd.backward(self.encode(number), gradient, inputs=backbone)


def random_state(device: torch.device) -> list[Tensor]:
    """Returns the state of torch's random numbers on the CPU, and on a GPU that is the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: list[Tensor], device: torch.device) -> None:
    """Sets what :func:`random_state` returned."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
