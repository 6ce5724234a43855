"""The base of all backbones, from whichever library their networks come."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyg_bgformer.errors import InputError

Normalisation = tuple[float, float, float]

NEARBY = 32
"""Largest difference in pixels of the image sizes that :meth:`Backbone.check_image_size` tries instead."""


class Backbone(nn.Module):
    """A network without its classifier, which turns images into pooled features.

    Subclasses implement ``forward(images (B, 3, H, W)) -> (B, feature_dim)``.

    Args:
        net: The network. Its parameters have the same names as in the library's weight files.
        mean: Mean of each channel of RGB images in [0, 1], which is subtracted as the weights expect.
        std: Standard deviation of each channel, by which the result is divided.
        image_size: Side in pixels of images that the network is known to take.
        head_prefixes: Prefixes of the classifier's keys in a weight file. These keys are not loaded.
        patch_embedding: Name of the patch embedding inside ``net``, or ``None`` for a network without one.

    Attributes:
        feature_dim: Channels of the pooled features; set by :meth:`measure`.
    """

    feature_dim: int

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        image_size: int = 224,
        head_prefixes: tuple[str, ...] = (),
        patch_embedding: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.mean = three_numbers(mean)
        self.std = three_numbers(std)
        self.image_size = image_size
        self.head_prefixes = head_prefixes
        self.patch_embedding = patch_embedding

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features (B, feature_dim) of images (B, 3, H, W)."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(self, image_size: int) -> None:
        """Sets ``feature_dim`` by a forward pass of one black image.

        The libraries have no common name for the number of pooled channels, so it is measured.

        Args:
            image_size: Side of the image in pixels.
        """
        training = self.training
        self.eval()
        self.feature_dim = self(torch.zeros(1, 3, image_size, image_size)).shape[1]
        self.train(training)

    @torch.no_grad()
    def check_image_size(self, size: int, name: str) -> None:
        """Raises an error if the network does not take images of a size, by a forward pass of one black image.

        Args:
            size: Side of the images in pixels.
            name: Name of the network in messages.

        Raises:
            InputError: If the network fails. The message names the nearest sizes that it takes.
        """
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            self(torch.zeros(1, 3, size, size, device=next(self.parameters()).device))
        except Exception as error:  # each network refuses sizes by an error of its own
            smaller, larger = range(size - 1, max(size - NEARBY, 0), -1), range(size + 1, size + NEARBY)
            near = [found for found in (self._first_size(smaller), self._first_size(larger)) if found]
            takes = " and ".join(f"{found} px" for found in near or [self.image_size])
            nearest = "the nearest it takes: " if near else "it takes "
            raise InputError(f"{name} does not take images of {size} px; {nearest}{takes}") from error
        finally:
            for module, training in modes.items():
                module.training = training

    def _first_size(self, sizes: range) -> int | None:
        """Returns the first size that the network takes, or None. The meta device computes shapes only."""
        state = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        shapes = {name: tensor.to("meta") for name, tensor in state.items()}
        for size in sizes:
            try:
                functional_call(self, shapes, (torch.zeros(1, 3, size, size, device="meta"),))
            except Exception:
                continue
            return size
        return None


def three_numbers(values: Sequence[float]) -> Normalisation:
    """Returns three numbers, one for each channel, as a tuple of floats."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
