"""The spaces that embeddings live in: the unit sphere and the Poincare ball.

A geometry maps raw features into its space and compares two points of it. Losses and retrieval use nothing else.
Both geometries compute in float32 (float64 for float64 input), also under autocast.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bgformer.errors import check_range
from pyg_bgformer.precision import wide
from pyg_bgformer.registry import Option, Registry, signature_options

MIN_NORM = 1e-5
"""Length below which a vector counts as zero."""

EDGE = 1e-3
"""Distance that projected points keep from the edge of the ball, in radii of the ball."""


class Geometry(Protocol):
    """A space of embeddings."""

    def project(self, x: Tensor) -> Tensor:
        """Returns raw features ``(..., D)`` mapped into the space."""

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the similarity of points ``(N, D)`` and ``(M, D)`` as ``(N, M)``; larger is more alike."""


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
    """The unit sphere with the cosine as similarity, in [-1, 1]."""

    def project(self, x: Tensor) -> Tensor:
        """Returns the rows of ``(..., D)`` scaled to length 1; a zero row stays zero."""
        return F.normalize(wide(x), dim=-1)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the inner products ``(N, D), (M, D) -> (N, M)``."""
        with torch.autocast(x.device.type, enabled=False):
            return wide(x) @ wide(y).t()


@GEOMETRIES.register("poincare")
@dataclass(frozen=True, kw_only=True)
class PoincareBall:
    r"""The Poincare ball of curvature :math:`-c` with the negative geodesic distance as similarity.

    The map into the ball is that of the `"Hyperbolic Vision Transformers: Combining Improvements in Metric
    Learning" <https://arxiv.org/abs/2203.10833>`_ paper. The distance is computed as

    .. math::
        d(x, y) = \frac{2}{\sqrt{c}} \, \textrm{arsinh} \left( \frac{\sqrt{c} \, \Vert x - y \Vert}
        {\sqrt{(1 - c \Vert x \Vert^2)(1 - c \Vert y \Vert^2)}} \right),

    which equals the Moebius form :math:`\frac{2}{\sqrt{c}} \textrm{artanh}(\sqrt{c} \Vert -x \oplus_c y \Vert)`.
    It keeps more digits at the edge of the ball. It also needs no guards; those of the Moebius form (1e-5 added to
    a denominator, clamped arguments) are larger there than what they guard.

    Args:
        c (float): Minus the curvature, > 0. (default: :obj:`0.1`)
        clip_radius (float): Features longer than this are shortened to it before the map. (default: :obj:`2.3`)

    Raises:
        InputError: If ``c`` or ``clip_radius`` is not positive.
    """

    c: float = 0.1
    clip_radius: float = 2.3

    def __post_init__(self) -> None:
        check_range("c", self.c, above=0)
        check_range("clip_radius", self.clip_radius, above=0)

    def project(self, x: Tensor) -> Tensor:
        """Returns ``(..., D)`` mapped into the ball, at most ``(1 - 1e-3) / sqrt(c)`` from its centre."""
        x = wide(x)
        x = x * (self.clip_radius / (x.norm(dim=-1, keepdim=True) + MIN_NORM)).clamp(max=1.0)
        norm = x.norm(dim=-1, keepdim=True).clamp(min=MIN_NORM) * self.c**0.5
        x = norm.clamp(max=15.0).tanh() * x / norm
        edge = (1 - EDGE) / self.c**0.5
        return x * (edge / x.norm(dim=-1, keepdim=True).clamp(min=MIN_NORM)).clamp(max=1.0)

    def similarity(self, x: Tensor, y: Tensor) -> Tensor:
        """Returns the negative geodesic distances ``(N, D), (M, D) -> (N, M)``, in (-inf, 0]."""
        with torch.autocast(x.device.type, enabled=False):
            x, y = wide(x), wide(y)
            # cdist takes differences first. The form by inner products loses all digits between close points, and
            # its gradient at distance 0 is NaN; here it is 0.
            distance = torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")
            scale = self._inside(x)[:, None] * self._inside(y)[None, :]
            return -2 / self.c**0.5 * torch.asinh(distance * (self.c / scale) ** 0.5)

    def _inside(self, x: Tensor) -> Tensor:
        """Returns ``1 - c |x|^2``, kept positive for points that rounding has put on the edge."""
        radius = self.c**0.5 * x.norm(dim=-1)
        return ((1 - radius) * (1 + radius)).clamp(min=1e-6)
