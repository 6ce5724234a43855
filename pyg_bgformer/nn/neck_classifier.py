"""A linear classifier, with or without a BatchNorm before it."""

from torch import Tensor, nn


class NeckClassifier(nn.Module):
    """A BatchNorm whose bias stays 0 and a classifier without bias, from the `"Bag of Tricks and A Strong Baseline
    for Deep Person Re-identification" <https://arxiv.org/abs/1903.07071>`_ paper; or a classifier alone.

    The classifier behind the neck starts near zero, N(0, 0.001), the one without a neck as torch initialises it.

    Args:
        in_channels (int): Size of each sample.
        num_classes (int): Number of classes.
        neck (bool): Whether there is the BatchNorm. (default: :obj:`True`)

    Shapes:
        - **input:** features :math:`(*, D)`
        - **output:** logits :math:`(*, C)`
    """

    def __init__(self, in_channels: int, num_classes: int, neck: bool = True) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_channels) if neck else None
        self.lin = nn.Linear(in_channels, num_classes, bias=not neck)
        if self.norm is not None:
            self.norm.bias.requires_grad_(False)
            nn.init.normal_(self.lin.weight, std=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits."""
        return self.lin(self.neck(x))

    def neck(self, x: Tensor) -> Tensor:
        """What the classifier sees of features ``(*, D)``."""
        return x if self.norm is None else self.norm(x.flatten(0, -2)).view_as(x)
