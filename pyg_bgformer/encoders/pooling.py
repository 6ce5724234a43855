"""Global pooling, which turns the feature map of an image into one vector."""

from typing import Literal, get_args

from torch import Tensor

from pyg_bgformer.errors import InputError, did_you_mean

Pooling = Literal["average", "max", "avgmax"]


def check_pooling(pooling: str) -> None:
    """Raises an error for an unknown pooling.

    Args:
        pooling: Its name.

    Raises:
        InputError: If ``pooling`` is not one of ``average``, ``max`` and ``avgmax``.
    """
    if pooling not in get_args(Pooling):
        raise InputError(f"unknown pooling '{pooling}'; {did_you_mean(pooling, get_args(Pooling))}")


def global_pool(feature_map: Tensor, pooling: str) -> Tensor:
    """Returns feature maps pooled over their positions, ``(B, C)``.

    Args:
        feature_map: ``(B, C, H, W)`` in any floating-point type.
        pooling: ``"average"``, ``"max"``, or ``"avgmax"`` for the sum of both.

    Raises:
        InputError: If ``pooling`` is unknown.
    """
    check_pooling(pooling)
    if pooling == "max":
        return feature_map.amax(dim=(2, 3))
    average = feature_map.mean(dim=(2, 3))
    return average if pooling == "average" else average + feature_map.amax(dim=(2, 3))
