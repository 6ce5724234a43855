"""The spaces of embeddings: the unit sphere and the Poincare ball.

A geometry maps raw features into its space and compares points of this space. Losses and retrieval need nothing
else. Both geometries compute in float32, or in float64 for float64 input, also under autocast.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bgformer.errors import check_range
from pyg_bgformer.precision import wide
from pyg_bgformer.ranges import PositiveFloat
from pyg_bgformer.registry import Option, Registry, signature_options

MIN_NORM = 1e-5
"""Length below which a vector counts as zero."""

EDGE = 1e-3
"""Distance of projected points from the edge of the ball, as a share of the ball's radius."""


class Geometry(Protocol):
    """A space of embeddings. Its options in a recipe are the keyword-only arguments of its constructor."""

    def project(self, x: Tensor) -> Tensor:
        """Returns raw features ``(..., D)`` mapped into the space."""

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the similarities ``(N, M)`` of points ``(N, D)`` and ``(M, D)``. Larger is more similar."""


GEOMETRIES: Registry[type[Geometry]] = Registry("geometry")
"""The geometries that a recipe can choose."""


def geometry_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe can set for a geometry.

    Args:
        name: Its name in :data:`GEOMETRIES`.

    Raises:
        InputError: If there is no geometry of that name.
    """
    return signature_options(GEOMETRIES.find(name))


@GEOMETRIES.register("sphere")
@dataclass(frozen=True, kw_only=True)
class Sphere:
    """The unit sphere. The similarity of two points is their cosine, in [-1, 1]."""

    def project(self, x: Tensor) -> Tensor:
        """Returns the rows of ``(..., D)`` scaled to length 1. A zero row stays zero."""
        return F.normalize(wide(x), dim=-1)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the inner products ``(N, M)`` of points ``(N, D)`` and ``(M, D)``."""
        with torch.autocast(x.device.type, enabled=False):
            return wide(x) @ wide(y).t()


@GEOMETRIES.register("poincare")
@dataclass(frozen=True, kw_only=True)
class PoincareBall:
    r"""The Poincare ball of curvature :math:`-c`. The similarity of two points is their negative geodesic distance.

    The map into the ball is that of the `"Hyperbolic Vision Transformers: Combining Improvements in Metric
    Learning" <https://arxiv.org/abs/2203.10833>`_ paper. Features longer than the clipping radius :math:`r` are
    shortened to it first:

    .. math::
        \hat{x} = \min \left( 1, \frac{r}{\Vert x \Vert} \right) x, \qquad
        \textrm{project}(x) = \tanh(\sqrt{c} \, \Vert \hat{x} \Vert) \,
        \frac{\hat{x}}{\sqrt{c} \, \Vert \hat{x} \Vert}

    The distance is computed as

    .. math::
        d(x, y) = \frac{2}{\sqrt{c}} \, \textrm{arsinh} \left( \frac{\sqrt{c} \, \Vert x - y \Vert}
        {\sqrt{(1 - c \Vert x \Vert^2)(1 - c \Vert y \Vert^2)}} \right)

    It equals the paper's Moebius form :math:`\frac{2}{\sqrt{c}} \textrm{artanh}(\sqrt{c} \Vert -x \oplus_c y
    \Vert)`, and keeps more digits near the edge of the ball. The Moebius form also needs guards (1e-5 added to a
    denominator, clamped arguments), which near the edge are larger than the numbers that they protect.

    Args:
        c (float): Minus the curvature of the ball, > 0. (default: :obj:`0.1`)
        clip_radius (float): Features longer than this are shortened to it before they are mapped into the ball,
            > 0. (default: :obj:`2.3`)

    Raises:
        InputError: If ``c`` or ``clip_radius`` is not positive.
    """

    c: PositiveFloat = 0.1
    clip_radius: PositiveFloat = 2.3

    def __post_init__(self) -> None:
        check_range("c", self.c, above=0)
        check_range("clip_radius", self.clip_radius, above=0)

    def project(self, x: Tensor) -> Tensor:
        """Returns features ``(..., D)`` mapped into the ball, at most ``(1 - 1e-3) / sqrt(c)`` from its centre."""
        x = wide(x)
        x = x * (self.clip_radius / (x.norm(dim=-1, keepdim=True) + MIN_NORM)).clamp(max=1.0)
        norm = x.norm(dim=-1, keepdim=True).clamp(min=MIN_NORM) * self.c**0.5
        x = norm.clamp(max=15.0).tanh() * x / norm
        edge = (1 - EDGE) / self.c**0.5
        return x * (edge / x.norm(dim=-1, keepdim=True).clamp(min=MIN_NORM)).clamp(max=1.0)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the negative distances ``(N, M)`` of points ``(N, D)`` and ``(M, D)``, in (-inf, 0]."""
        with torch.autocast(x.device.type, enabled=False):
            x, y = wide(x), wide(y)
            # In this mode cdist subtracts first. By inner products, close points would lose all digits, and the
            # gradient at distance 0 would be NaN instead of 0.
            distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
            scale = self._inside(x)[:, None] * self._inside(y)[None, :]
            return -2 / self.c**0.5 * torch.asinh(distance * (self.c / scale) ** 0.5)

    def _inside(self, x: Tensor) -> Tensor:
        """Returns ``1 - c |x|^2``, at least 1e-6: rounding can put a point on the edge."""
        radius = self.c**0.5 * x.norm(dim=-1)
        return ((1 - radius) * (1 + radius)).clamp(min=1e-6)
