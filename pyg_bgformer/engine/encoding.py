"""Encodes a training batch: as a whole, in parts, or on several processes."""

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
        chunk: Number of images that are encoded at a time; :obj:`None` for the whole batch.
        random: Whether the backbone draws random numbers in training.
        processes: The processes of the run. Each one encodes a part of a batch.
    """

    chunk: int | None = None
    random: bool = False
    processes: Processes = ALONE

    def __call__(
        self, fabric: Fabric, encoder: Encoder, images: Tensor | Cuts, labels: Tensor
    ) -> "EncodedBatch":
        """Returns an encoded batch. This is the only place where a training batch is encoded.

        Args:
            fabric: Device and precision.
            encoder: The method's encoder.
            images: Images of this process ``(n, 3, S, S)``, cuts that become such images, or features ``(N, F)`` of
                a frozen backbone.
            labels: ``(n,)``, their classes.
        """
        if isinstance(images, Cuts):
            images = images.images(encoder.normalised)
        whole = self.processes.count == 1 and (self.chunk is None or len(images) <= self.chunk)
        if whole or images.dim() != 4:
            return EncodedBatch(fabric, encoder, images, labels)
        return SplitBatch(fabric, encoder, images, labels, self)


IN_ONE_PIECE = Encoding()


class EncodedBatch:
    """A batch that was encoded as a whole.

    Args:
        fabric: Device and precision.
        encoder: The method's encoder.
        images: ``(N, 3, S, S)``, or features ``(N, F)`` of a frozen backbone.
        labels: ``(N,)``, classes.

    Attributes:
        features (Tensor): ``(N, F)``, backbone features of the whole batch, with gradient.
        labels (Tensor): ``(N,)``, their classes.
    """

    def __init__(self, fabric: Fabric, encoder: Encoder, images: Tensor, labels: Tensor) -> None:
        self.fabric = fabric
        self.labels = labels
        with fabric.autocast():
            self.features = encoder.features(images)

    def backward(self, loss: Tensor, moved: list[nn.Parameter]) -> None:
        """Computes the gradient of a loss for some parameters, and for no others.

        Args:
            loss: A scalar that was computed from :attr:`features`.
            moved: The parameters of the method that get a gradient.
        """
        self.fabric.backward(loss, inputs=moved)


class SplitBatch(EncodedBatch):
    r"""A batch whose backbone outputs are computed in parts, on one or several processes.

    On every process, the loss is computed from the outputs :math:`Z` of the whole batch. By the chain rule

    .. math::
        \frac{\partial L}{\partial \theta} = \sum_{p} \left( \frac{\partial Z_p}{\partial \theta} \right)^{\top}
        \frac{\partial L}{\partial Z_p},

    so each part :math:`p` only needs its rows of :math:`\partial L / \partial Z` for its gradient of the
    backbone's parameters :math:`\theta`. The gradients of all parts and processes are summed. The sum is exact for
    every loss. If a process has several parts, it does not keep their activations, and encodes each part again.
    This is the method of the `"Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"
    <https://arxiv.org/abs/2101.06983>`_ paper.

    All other parameters have the same gradient on every process.

    Args:
        fabric: Device and precision.
        encoder: The method's encoder.
        images: ``(n, 3, S, S)``, images of this process.
        labels: ``(n,)``, their classes.
        encoding: How the batch is divided.
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
        """Returns the backbone's outputs of a part. Every call uses the same random numbers."""
        piece = self.encoder.normalised(self.pieces[number])
        first = self.own.start + sum(map(len, self.pieces[:number]))
        with self.fabric.autocast(), self._synced():
            if not self.encoding.random:
                return self.backbone(piece)
            set_random_state(self.random_state, piece.device)
            with RowDraws(first, len(piece), len(self.labels)):
                return self.backbone.forward(piece)  # not compiled, because compiled code draws other numbers

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
        # These gradients are equal on all processes, except for rounding on a GPU.
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
    """Returns torch's random state on the CPU, and on the device if it is a GPU."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def set_random_state(state: list[Tensor], device: torch.device) -> None:
    """Sets torch's random state to one from :func:`random_state`."""
    torch.set_rng_state(state[0])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state[1], device)
