"""Bicubic resizing of many windows at once by two matrix products, with the numbers of torch's kernel for uint8."""

import torch
from torch import Tensor

FINEST = 16
"""Most bits behind the point of a weight. Sums of pixels times such weights are exact in float32, in any order."""


def resized(
    pixels: Tensor, starts: Tensor, sizes: Tensor, mirrored: Tensor, size: int, largest: tuple[int, int]
) -> Tensor:
    r"""Resizes windows of different sizes to squares, antialiased, and mirrors some of them.

    Torch's kernel for uint8 rounds each weight to 15 bits and the image between its two passes, first along the
    rows, then along the columns. The same is done here. All sums are exact, so a pixel depends neither on the other
    windows nor on the device. Where a window is at most about four times as large as the result, it is bit for bit
    what ``interpolate(..., mode="bicubic", antialias=True)`` gives on a CPU, otherwise to within one grey level.

    Args:
        pixels: Uint8 ``(P, 3)``; those of each window lie together, row by row.
        starts: Where each window's pixels start, int64 ``(N,)``.
        sizes: Height and width of each window, int64 ``(N, 2)``.
        mirrored: Which are mirrored, bool ``(N,)``.
        size: Side of the squares.
        largest: At least the largest height and the largest width.

    Returns:
        Uint8 ``(N, 3, size, size)``, with the channels last in memory.
    """
    heights, widths = sizes[:, 0, None], sizes[:, 1, None]
    # beyond a window its last pixels are repeated; their weights are 0
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
    """Returns resized lines of pixels less 128, rounded and cut off at 0 and 255 less 128."""
    lost = 128 * (weights.sum(2, keepdim=True) - 1)
    return torch.bmm(weights, centred).add_(lost + 0.5).floor_().clamp_(-128, 127)


def bicubic_weights(sizes: Tensor, size: int, largest: int) -> Tensor:
    """Returns the weight of each pixel of a line in each pixel of the resized line, rounded as torch does.

    Args:
        sizes: Lengths of lines, of any shape.
        size: Length of the resized lines.
        largest: At least the largest length.

    Returns:
        Float32 ``(*sizes.shape, size, largest)``; 0 beyond the end of a line.
    """
    lengths = sizes[..., None, None].double()
    scale = lengths / size
    centres = scale * (torch.arange(size, device=sizes.device).double() + 0.5)[:, None]
    places = torch.arange(largest, device=sizes.device)
    distances = ((places - centres).add_(0.5) * scale.clamp(min=1).reciprocal_()).abs_()
    near = ((1.5 * distances - 2.5) * distances).mul_(distances).add_(1)
    far = ((-0.5 * distances + 2.5) * distances - 4).mul_(distances).add_(2)
    weights = near.where(distances < 1, far).masked_fill_((distances >= 2) | (places >= lengths), 0)
    weights /= weights.sum(-1, keepdim=True)
    # as many bits as a signed number of 16 bits has for the largest weight of the line
    bits = (32767.5 / weights.amax((-2, -1), keepdim=True)).log2_().ceil_().sub_(1).clamp_(max=FINEST)
    steps = bits.exp2_()
    rounded = weights.abs().mul_(steps).add_(0.5).floor_().copysign_(weights)
    return (rounded / steps).float()
