"""How a training batch becomes features with gradient: in one piece, in pieces, or on several processes."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pyg_bgformer.data.cuts import Cuts
from pyg_bgformer.encoders import Encoder
from pyg_bgformer.engine.processes import ALONE, Processes
from pyg_bgformer.engine.row_draws import RowDraws
from pyg_bgformer.engine.synced_batch_norm import SyncedBatchNorm


@dataclass(frozen=True)
class Encoding:
    """How training batches are encoded.

    Args:
        chunk: Number of images that are encoded at a time; :obj:`None` for all of a batch.
        random: Whether the backbone draws random numbers in training.
        processes: Each of them encodes a part of a batch.
    """

    chunk: int | None = None
    random: bool = False
    processes: Processes = ALONE

    def __call__(
        self, fabric: Fabric, encoder: Encoder, images: Tensor | Cuts, labels: Tensor
    ) -> "EncodedBatch":
        """Returns a batch, encoded. This is the only place where a training batch is encoded.

        Args:
            fabric: Device and precision.
            encoder: The method's.
            images: This process's images ``(n, 3, S, S)``, cuts that will be images, or features ``(N, F)`` of a
                frozen backbone.
            labels: Their classes.
        """
        if isinstance(images, Cuts):
            images = images.images(encoder.normalised)
        whole = self.processes.count == 1 and (self.chunk is None or len(images) <= self.chunk)
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
    r"""A batch whose backbone outputs are computed piece by piece, on one process or several.

    On every process, the loss sees the outputs :math:`Z` of the whole batch as a leaf of its graph. By the chain
    rule

    .. math::
        \frac{\partial L}{\partial \theta} = \sum_{p} \left( \frac{\partial Z_p}{\partial \theta} \right)^{\top}
        \frac{\partial L}{\partial Z_p},

    so each piece :math:`p` takes its rows of :math:`\partial L / \partial Z` back to the parameters :math:`\theta`
    of the backbone, and the gradients of all processes are summed. The sum is exact, whatever the loss compares.
    Where a process has several pieces, it does not keep their activations and encodes each once more: from
    `"Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup" <https://arxiv.org/abs/2101.06983>`_.

    All other parameters have the same gradient on every process.

    Args:
        fabric: Device and precision.
        encoder: The method's.
        images: This process's images ``(n, 3, S, S)``.
        labels: Their classes ``(n,)``.
        encoding: How the batch is cut.
    """

    def __init__(
        self, fabric: Fabric, encoder: Encoder, images: Tensor, labels: Tensor, encoding: Encoding
    ) -> None:
        self.fabric = fabric
        self.encoding = encoding
        self.processes = encoding.processes
        self.labels = self.processes.gather(labels)
        self.encoder = encoder
        self.backbone = encoder.backbone
        self.own = self.processes.part(len(self.labels))
        self.pieces = images.split(encoding.chunk or len(images))
        self.random_state = random_state(fabric.device)
        self.kept: Tensor | None = None
        if len(self.pieces) == 1:
            self.kept = self.encode(0)
            own = self.kept
        else:
            with torch.no_grad():
                own = torch.cat([self.encode(number) for number in range(len(self.pieces))])
        self.outputs = self.processes.gather(own).requires_grad_()
        with fabric.autocast():
            self.features = encoder.features(self.outputs)

    def encode(self, number: int) -> Tensor:
        """Returns the backbone's outputs of a piece; each time with the same random numbers."""
        piece = self.encoder.normalised(self.pieces[number])
        first = self.own.start + sum(map(len, self.pieces[:number]))
        with self.fabric.autocast(), self._synced():
            if not self.encoding.random:
                return self.backbone(piece)
            set_random_state(self.random_state, piece.device)
            with RowDraws(first, len(piece), len(self.labels)):
                return self.backbone.forward(piece)  # never compiled: compiled code draws numbers of its own

    def _synced(self) -> AbstractContextManager[Any]:
        synced = self.processes.count > 1 and self.encoder.trains_batchnorm
        return SyncedBatchNorm(self.processes) if synced else nullcontext()

    def backward(self, loss: Tensor, moved: list[nn.Parameter]) -> None:
        """See :meth:`EncodedBatch.backward`."""
        in_backbone = set(self.backbone.parameters())
        backbone = [parameter for parameter in moved if parameter in in_backbone]
        others: list[Tensor] = [parameter for parameter in moved if parameter not in in_backbone]
        self.outputs.grad = None
        self.fabric.backward(loss, inputs=[*others, self.outputs] if backbone else others)
        # Equal on all processes, but on a GPU to rounding alone: there sums have no fixed order.
        self.processes.copy_first(parameter.grad for parameter in others if parameter.grad is not None)
        if self.outputs.grad is None:
            return
        gradients = self.outputs.grad[self.own.start : self.own.stop].split(list(map(len, self.pieces)))
        device = self.outputs.device
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            for number, gradient in enumerate(gradients):
                outputs = self.encode(number) if self.kept is None else self.kept
                torch.autograd.backward(outputs, gradient, inputs=backbone)
        self.processes.sum(parameter.grad for parameter in backbone if parameter.grad is not None)


def random_state(device: torch.device) -> list[Tensor]:
    """Returns the state of torch's random numbers on the CPU, and on a GPU that is the device."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: list[Tensor], device: torch.device) -> None:
    """Sets what :func:`random_state` returned."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
