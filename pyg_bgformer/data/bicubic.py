"""Bicubic resizing of many windows at once by two matrix products, with the results of torch's kernel for uint8."""

import math

import torch
from torch import Tensor

FINEST = 16
"""Largest number of binary digits of a weight behind the point. With it, sums of pixels times weights are exact in
float32, in any order."""


def resized(
    pixels: Tensor, starts: Tensor, sizes: Tensor, mirrored: Tensor, size: int, largest: tuple[int, int]
) -> Tensor:
    """Returns windows of different sizes, resized to squares with antialiasing. Some of them are mirrored.

    Torch's kernel for uint8 makes two passes, first along the rows and then along the columns. It rounds each
    weight to 15 bits, and rounds the image between the passes. The same is done here. All sums are exact, so a
    pixel depends neither on the other windows nor on the device. The results are bit for bit those of
    ``interpolate(..., mode="bicubic", antialias=True)`` on a CPU if a window is at most about four times as large
    as the result. Otherwise they differ by at most one grey level.

    Args:
        pixels: Pixels of all windows, uint8 ``(P, 3)``. Those of a window lie together, row by row.
        starts: Position of the first pixel of each window, int64 ``(N,)``.
        sizes: Height and width of each window, int64 ``(N, 2)``.
        mirrored: Whether each window is mirrored, bool ``(N,)``.
        size: Side of the squares in pixels.
        largest: Upper bounds of the heights and of the widths.

    Returns:
        Uint8 ``(N, 3, size, size)``, with the channels last in memory.
    """
    heights, widths = sizes[:, 0, None], sizes[:, 1, None]
    # Beyond a window its last pixels are repeated, with weights of 0.
    rows = torch.arange(largest[0], device=pixels.device).minimum(heights - 1)
    columns = torch.arange(largest[1], device=pixels.device).minimum(widths - 1)
    places = starts[:, None, None] + columns[:, :, None] + (rows * widths)[:, None, :]
    centred = pixels[places].float().sub_(128).flatten(2)  # (N, width, height * 3)
    weights = bicubic_weights(sizes, size, max(largest))
    along_rows, along_columns = weights[:, 1, :, : largest[1]], weights[:, 0, :, : largest[0]]
    along_rows = along_rows.flip(1).where(mirrored[:, None, None], along_rows)
    narrow = _rounded(along_rows, centred).view(len(sizes), size, largest[0], 3)
    squares = _rounded(along_columns, narrow.transpose(1, 2).flatten(2)).add_(128)
    return squares.to(torch.uint8).view(len(sizes), size, size, 3).permute(0, 3, 1, 2)


def _rounded(weights: Tensor, centred: Tensor) -> Tensor:
    """Returns resized lines of pixels minus 128, rounded and clipped to the range of uint8 minus 128."""
    lost = 128 * (weights.sum(2, keepdim=True) - 1)
    return torch.bmm(weights, centred).add_(lost + 0.5).floor_().clamp_(-128, 127)


def bicubic_weights(sizes: Tensor, size: int, largest: int) -> Tensor:
    """Returns the weight of each pixel of a line in each pixel of the resized line, rounded as torch rounds it.

    Args:
        sizes: Lengths of lines, of any shape.
        size: Length of the resized lines.
        largest: An upper bound of the lengths.

    Returns:
        Float32 ``(*sizes.shape, size, largest)``, 0 beyond the end of a line.
    """
    scale = sizes[..., None].double() / size
    centres = scale * (torch.arange(size, device=sizes.device).double() + 0.5)
    reach = scale.clamp(min=1)
    first = (centres - 2 * reach + 0.5).floor_().clamp_(min=0)
    taps = math.ceil(4 * max(largest / size, 1)) + 2
    places = first[..., None] + torch.arange(taps, device=sizes.device)  # (*sizes.shape, size, taps)
    distances = ((places - centres[..., None]).add_(0.5) * reach.reciprocal_()[..., None]).abs_()
    near = ((1.5 * distances - 2.5) * distances).mul_(distances).add_(1)
    far = ((-0.5 * distances + 2.5) * distances - 4).mul_(distances).add_(2)
    outside = (distances >= 2) | (places >= sizes[..., None, None])
    weights = near.where(distances < 1, far).masked_fill_(outside, 0)
    weights /= weights.sum(-1, keepdim=True)
    # As many bits as a signed 16-bit number has for the largest weight of the line.
    bits = (32767.5 / weights.amax((-2, -1), keepdim=True)).log2_().ceil_().sub_(1).clamp_(max=FINEST)
    steps = bits.exp2_()
    rounded = weights.abs().mul_(steps).add_(0.5).floor_().copysign_(weights) / steps
    lines = rounded.new_zeros(*sizes.shape, size, largest + taps, dtype=torch.float32)
    return lines.scatter_(-1, places.long(), rounded.float())[..., :largest]
