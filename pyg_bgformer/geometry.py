"""The spaces that embeddings live in: the unit sphere, and the Poincare ball of hyperbolic metric learning.

A geometry maps raw features into its space and says how alike two points of it are; losses and retrieval ask
nothing else of it. Both work in float32 (or float64, where given) also under autocast.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

MIN_NORM = 1e-5
EDGE = 1e-3


class Geometry(Protocol):
    """A space of embeddings."""

    def project(self, x: Tensor) -> Tensor:
        """Maps raw features ``(..., D)`` into the space."""

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """How alike points ``(N, D)`` and ``(M, D)`` of the space are: ``(N, M)``, larger is more alike."""


@dataclass(frozen=True)
class Sphere:
    """The unit sphere with the cosine as similarity, in [-1, 1]."""

    def project(self, x: Tensor) -> Tensor:
        """Scales each row of ``(..., D)`` to length 1; a zero row stays zero."""
        return F.normalize(_wide(x), dim=-1)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Inner products ``(N, D), (M, D) -> (N, M)``."""
        with torch.autocast(x.device.type, enabled=False):
            return _wide(x) @ _wide(y).t()


@dataclass(frozen=True)
class PoincareBall:
    r"""The Poincare ball of curvature :math:`-c` with the negative geodesic distance as similarity.

    The map into the ball is that of the `"Hyperbolic Vision Transformers: Combining Improvements in Metric
    Learning" <https://arxiv.org/abs/2203.10833>`_ paper. The distance is computed as

    .. math::
        d(x, y) = \frac{2}{\sqrt{c}} \, \textrm{arsinh} \left( \frac{\sqrt{c} \, \Vert x - y \Vert}
        {\sqrt{(1 - c \Vert x \Vert^2)(1 - c \Vert y \Vert^2)}} \right),

    which equals the Moebius form :math:`\frac{2}{\sqrt{c}} \textrm{artanh}(\sqrt{c} \Vert -x \oplus_c y \Vert)`
    but neither cancels digits at the edge of the ball nor needs that form's guards (1e-5 added to a denominator,
    arguments clamped), which there are larger than what they guard.

    Args:
        c (float): Minus the curvature, > 0. (default: :obj:`0.1`)
        clip_radius (float): Length to which features are cut before the map. (default: :obj:`2.3`)

    Raises:
        ValueError: If ``c`` or ``clip_radius`` is not positive.
    """

    c: float = 0.1
    clip_radius: float = 2.3

    def __post_init__(self) -> None:
        if self.c <= 0 or self.clip_radius <= 0:
            raise ValueError(f"c and clip_radius must be positive, found {self.c} and {self.clip_radius}")

    def project(self, x: Tensor) -> Tensor:
        """Maps ``(..., D)`` into the ball, at most ``(1 - 1e-3) / sqrt(c)`` from its centre."""
        x = _wide(x)
        x = x * (self.clip_radius / (x.norm(dim=-1, keepdim=True) + MIN_NORM)).clamp(max=1.0)
        norm = x.norm(dim=-1, keepdim=True).clamp(min=MIN_NORM) * self.c**0.5
        x = norm.clamp(max=15.0).tanh() * x / norm
        edge = (1 - EDGE) / self.c**0.5
        return x * (edge / x.norm(dim=-1, keepdim=True).clamp(min=MIN_NORM)).clamp(max=1.0)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Negative geodesic distances ``(N, D), (M, D) -> (N, M)``, in (-inf, 0]."""
        with torch.autocast(x.device.type, enabled=False):
            x, y = _wide(x), _wide(y)
            # Differences first: the form by inner products loses all digits between close points, and the
            # gradient of this one at distance 0 is 0 instead of NaN.
            distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
            scale = self._inside(x)[:, None] * self._inside(y)[None, :]
            return -2 / self.c**0.5 * torch.asinh(distance * (self.c / scale) ** 0.5)

    def _inside(self, x: Tensor) -> Tensor:
        """``1 - c |x|^2``, kept positive for points that rounding has put on the edge."""
        radius = self.c**0.5 * x.norm(dim=-1)
        return ((1 - radius) * (1 + radius)).clamp(min=1e-6)


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
