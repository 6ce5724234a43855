"""The precision in which similarities, attention along edges and losses are computed."""

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """Returns ``x`` in float32, or unchanged if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
