"""What every backbone offers, whichever library its network comes from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyg_bgformer.errors import InputError

Normalisation = tuple[float, float, float]

NEARBY = 32
"""Pixels up and down within which :meth:`Backbone.check_image_size` looks for sizes that work."""


class Backbone(nn.Module):
    """A network without its classifier that turns images into pooled features.

    Subclasses implement ``forward(images (B, 3, H, W)) -> (B, feature_dim)``.

    Args:
        net: The network. Its parameters have the names of the library's weight files, without the classifier.
        mean: Subtracted from RGB images in 0..1, per channel, as the weights expect.
        std: Divided by, per channel.
        image_size: Side in pixels of images that the network certainly takes.
        head_prefixes: Key prefixes of a weight file that belong to the classifier and are left out.
        patch_embedding: Name of the patch embedding inside ``net``; ``None`` for a network without one.

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
        """Sets ``feature_dim`` from one black image.

        A trial is used because the libraries name the number of pooled channels in a different way for
        every family of networks.

        Args:
            image_size: Side of the image in pixels.
        """
        training = self.training
        self.eval()
        self.feature_dim = self(torch.zeros(1, 3, image_size, image_size)).shape[1]
        self.train(training)

    @torch.no_grad()
    def check_image_size(self, size: int, name: str) -> None:
        """Refuses an image size that the network does not take, after one forward pass of one black image.

        Args:
            size: Side of the images in pixels.
            name: How an error calls the network.

        Raises:
            InputError: If the network fails; the line names the nearest sizes it takes.
        """
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            self(torch.zeros(1, 3, size, size, device=next(self.parameters()).device))
        except Exception as error:  # every library refuses sizes in its own way
            smaller, larger = range(size - 1, max(size - NEARBY, 0), -1), range(size + 1, size + NEARBY)
            near = [found for found in (self._first_size(smaller), self._first_size(larger)) if found]
            takes = " and ".join(f"{found} px" for found in near or [self.image_size])
            nearest = "the nearest it takes: " if near else "it takes "
            raise InputError(f"{name} does not take images of {size} px; {nearest}{takes}") from error
        finally:
            for module, training in modes.items():
                module.training = training

    def _first_size(self, sizes: range) -> int | None:
        """Returns the first size that the network takes, by trials on the meta device, which computes nothing."""
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
    """Returns one number a channel."""
    red, green, blue = (float(value) for value in values)
    return red, green, blue
