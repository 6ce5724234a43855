"""Global pooling: from a feature map to one vector an image."""

from typing import Literal, get_args

from torch import Tensor

from pyg_bgformer.errors import InputError, did_you_mean

Pooling = Literal["average", "max", "avgmax"]

POOLINGS = get_args(Pooling)


def check_pooling(pooling: str) -> None:
    """Refuse a pooling that does not exist.

    Raises:
        InputError: ``pooling`` is not one of :data:`POOLINGS`.
    """
    if pooling not in POOLINGS:
        raise InputError(f"unknown pooling '{pooling}': {did_you_mean(pooling, POOLINGS)}")


def global_pool(feature_map: Tensor, pooling: str) -> Tensor:
    """Pool a feature map over its positions.

    Args:
        feature_map: (B, C, H, W), any floating type.
        pooling: ``"average"``, ``"max"`` or ``"avgmax"`` = average + max.

    Returns:
        (B, C).

    Raises:
        InputError: ``pooling`` is unknown.
    """
    check_pooling(pooling)
    if pooling == "max":
        return feature_map.amax(dim=(2, 3))
    average = feature_map.mean(dim=(2, 3))
    return average if pooling == "average" else average + feature_map.amax(dim=(2, 3))
