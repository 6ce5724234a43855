"""What every backbone offers, whichever library its network comes from."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

Normalisation = tuple[float, float, float]


class Backbone(nn.Module):
    """A network without its classifier that turns images into pooled features.

    Subclasses implement ``forward(images (B, 3, H, W)) -> (B, feature_dim)``.

    Args:
        net: the network; its parameter names are those of the library's weight files, less the classifier.
        mean, std: normalisation of RGB images in 0..1 that the weights expect.
        head_prefixes: key prefixes of a weight file that belong to the classifier and are left out.
        patch_embedding: name of the patch embedding inside ``net``; ``None`` for a network without one.

    Attributes:
        feature_dim: channels of the pooled features; set by :meth:`measure`.
    """

    feature_dim: int

    def __init__(
        self,
        net: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        head_prefixes: tuple[str, ...] = (),
        patch_embedding: str | None = None,
    ) -> None:
        super().__init__()
        self.net = net
        self.mean = _triple(mean)
        self.std = _triple(std)
        self.head_prefixes = head_prefixes
        self.patch_embedding = patch_embedding

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features (B, feature_dim) of images (B, 3, H, W)."""
        raise NotImplementedError

    @torch.no_grad()
    def measure(self, image_size: int) -> None:
        """Set ``feature_dim`` from one black image of ``image_size`` pixels a side.

        A trial is used because the libraries name the number of pooled channels in a different way for
        every family of networks.
        """
        training = self.training
        self.eval()
        self.feature_dim = self(torch.zeros(1, 3, image_size, image_size)).shape[1]
        self.train(training)


def _triple(values: Sequence[float]) -> Normalisation:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
