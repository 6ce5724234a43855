"""Colours of classes, and figures that follow the light or dark colours of a page."""

import base64
import io
import re

import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from PIL import Image

from pyg_bgformer.report.thumbnails import data_uri

INK, MUTED, FAINT = "#26282b", "#85888c", "#d5d7da"
"""Colours of text, of secondary text and of grid lines. :func:`themed_svg` replaces them by CSS variables."""

ACCENTS = ("#2f7fd1", "#d9772b", "#2f9e6b", "#a05bc4", "#c94a5a", "#8c8132")
"""Colours of the lines of a chart in their order. They are readable on white and on black."""


def class_colors(number: int) -> list[tuple[float, float, float]]:
    """Returns RGB colours of equal lightness, each value from 0 to 1, with evenly spaced hues.

    The colours are computed in the OKLCH colour space (https://bottosson.github.io/posts/oklab/), in which equal
    steps look equal.

    Args:
        number: Number of colours.
    """
    hue = torch.arange(number, dtype=torch.float64) * (2 * torch.pi / max(number, 1)) + 0.5
    a, b = 0.15 * hue.cos(), 0.15 * hue.sin()
    lms = torch.stack(
        [
            0.66 + 0.3963377774 * a + 0.2158037573 * b,
            0.66 - 0.1055613458 * a - 0.0638541728 * b,
            0.66 - 0.0894841775 * a - 1.2914855480 * b,
        ],
        dim=1,
    )
    to_rgb = torch.tensor(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ],
        dtype=torch.float64,
    )
    linear = (lms**3 @ to_rgb.t()).clamp(0, 1)
    rgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return [(red, green, blue) for red, green, blue in rgb.tolist()]


def themed_svg(figure: Figure) -> str:
    """Returns a figure as an ``<svg>`` element for a page. Its text is selectable, and its greys are the page's.

    The page must define the CSS variables ``--ink``, ``--muted`` and ``--faint``.

    Args:
        figure: The figure. Everything grey in it is black, :data:`INK`, :data:`MUTED` or :data:`FAINT`.
    """
    stream = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "pyg_bgformer", "svg.image_inline": True}):
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r"data:image/png;base64,([\w+/=\s]+)", _as_webp, svg)
    for color, variable in ((INK, "ink"), ("#000000", "ink"), (MUTED, "muted"), (FAINT, "faint")):
        svg = svg.replace(color, f"var(--{variable})")
    return svg.replace("<svg ", '<svg role="img" ', 1)


def _as_webp(match: re.Match[str]) -> str:
    """Returns a PNG image of an SVG file as WebP. Photographs then take a fifth of the space."""
    return data_uri(Image.open(io.BytesIO(base64.b64decode(match[1]))))
