"""Conv4, the convolutional network with four blocks of the few-shot literature."""

from torch import Tensor, nn

from pyg_bgformer.encoders.backbone import Backbone
from pyg_bgformer.encoders.pooling import check_pooling, global_pool
from pyg_bgformer.errors import InputError

SMALLEST_IMAGE = 16


class Conv4(Backbone):
    r"""Four blocks of 3x3 convolution, BatchNorm, ReLU and 2x2 max-pooling with 64 channels each, from the
    `"Matching Networks for One Shot Learning" <https://arxiv.org/abs/1606.04080>`_ paper (section 4.1.1). The
    `"Prototypical Networks" <https://arxiv.org/abs/1703.05175>`_ paper has the same network.

    An image of 28 x 28 pixels, as the papers take, becomes one position of 64 channels. Larger images become a
    feature map, which is pooled.

    Args:
        pooling: ``"average"``, ``"max"`` or ``"avgmax"``, the sum of both.

    Shapes:
        - **input:** images (B, 3, H, W), H and W at least 16, normalised with mean 0.5 and std 0.5.
        - **output:** (B, 64).

    Raises:
        InputError: If ``pooling`` is unknown. In the forward pass: if images are smaller than 16 pixels.
    """

    def __init__(self, pooling: str = "average") -> None:
        check_pooling(pooling)
        blocks = [_block(channels, 64) for channels in (3, 64, 64, 64)]
        super().__init__(nn.Sequential(*blocks), mean=(0.5,) * 3, std=(0.5,) * 3, image_size=28)
        self.pooling = pooling
        self.feature_dim = 64

    def forward(self, images: Tensor) -> Tensor:
        """Returns pooled features (B, 64) of images (B, 3, H, W)."""
        if min(images.shape[-2:]) < SMALLEST_IMAGE:
            height, width = images.shape[-2:]
            raise InputError(
                f"conv4 needs images of {SMALLEST_IMAGE} px or more, found {height} x {width} px"
            )
        return global_pool(self.net(images), self.pooling)


def _block(channels_in: int, channels_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1),
        nn.BatchNorm2d(channels_out),
        # The maximum before ReLU gives the same values as after it, and leaves ReLU a quarter of them.
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
    )
