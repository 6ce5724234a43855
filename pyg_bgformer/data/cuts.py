"""Augmentation in two steps: workers cut windows out of images, and the device does the rest for a whole batch."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pyg_bgformer.data.batched import BatchedTransform
from pyg_bgformer.data.bicubic import resized

AT_ONCE = 64
"""Largest number of images that are resized at once. It bounds the memory for batches of any size."""

Box = tuple[int, int, int, int]
"""Top, left, height and width in pixels."""


class Cut(NamedTuple):
    """The window that was cut out of an image, and the random choices for the rest of its augmentation.

    Attributes:
        window: The pixels of the window, uint8 ``(3, height, width)``.
        mirrored: Whether the result is mirrored.
        erased: Rectangle of the result that becomes the mean colour. Size 0 erases nothing.
    """

    window: Tensor
    mirrored: bool
    erased: Box


class Cuts(NamedTuple):
    """The cuts of a batch of N images.

    Attributes:
        pixels: Pixels of all windows, one after another and row by row, uint8 ``(P, 3)``.
        sizes: Height and width of each window, int64 ``(N, 2)``.
        mirrored: Whether each result is mirrored, bool ``(N,)``.
        erased: Rectangle of each result, int64 ``(N, 4)``, or :obj:`None` if the augmentation does not erase.
        size: Side of the resulting images in pixels.
        largest: The largest height and the largest width, as numbers on the CPU.
    """

    pixels: Tensor
    sizes: Tensor
    mirrored: Tensor
    erased: Tensor | None
    size: int
    largest: tuple[int, int]

    def images(self, normalise: Callable[[Tensor], Tensor]) -> Tensor:
        """Returns the augmented images ``(N, 3, size, size)`` on the device of the cuts.

        They are uint8, or normalised float32 if the augmentation erases rectangles.

        Args:
            normalise: A function from uint8 images to normalised float32 images.
        """
        areas = self.sizes.prod(1)
        windows = (areas.cumsum(0) - areas, self.sizes, self.mirrored)
        groups = zip(*(column.split(AT_ONCE) for column in windows), strict=True)
        images = torch.cat(
            [
                resized(self.pixels, starts, sizes, mirrored, self.size, self.largest)
                for starts, sizes, mirrored in groups
            ]
        )
        if self.erased is None:
            return images
        top, left, height, width = self.erased[:, :, None].unbind(1)
        places = torch.arange(self.size, device=images.device)
        rows = (places >= top) & (places < top + height)
        columns = (places >= left) & (places < left + width)
        return normalise(images).masked_fill_((rows[:, :, None] & columns[:, None, :])[:, None], 0)


class CutTransform:
    """The workers' part of an augmentation. It draws the same random numbers as the whole augmentation, and cuts.

    Args:
        transform: The whole augmentation.
        largest: Longest side of a window in pixels. Longer sides are resized to it.
    """

    def __init__(self, transform: BatchedTransform, largest: int) -> None:
        self.transform = transform
        self.largest = largest

    def __call__(self, image: Tensor) -> Cut:
        """Returns the cut of an image, uint8 ``(3, height, width)``, with numbers of torch's global generator."""
        crop, flip, erase = self.transform.crop, self.transform.flip, self.transform.erase
        top, left, height, width = crop.make_params([image]).values()
        window = image[:, top : top + height, left : left + width]
        if max(height, width) > self.largest:
            size = [min(height, self.largest), min(width, self.largest)]
            window = interpolate(window[None], size, mode="bicubic", antialias=True)[0]
        mirrored = flip is not None and bool(torch.rand(1) < flip.p)
        erased = (0, 0, 0, 0)
        if erase is not None and torch.rand(1) < erase.p:
            chosen = erase.make_params([image.new_empty(3, *crop.size)])
            if chosen["v"] is not None:
                erased = (chosen["i"], chosen["j"], chosen["h"], chosen["w"])
        return Cut(window, mirrored, erased)

    def collate(self, samples: Sequence[tuple[Cut, int, int]]) -> tuple[Cuts, Tensor, Tensor]:
        """Returns the cuts, labels and rows of a batch.

        Args:
            samples: Samples of an :class:`~pyg_bgformer.data.ImageSamples` with this transform.
        """
        cuts, labels, rows = zip(*samples, strict=True)
        sizes = torch.tensor([cut.window.shape[1:] for cut in cuts])
        height, width = sizes.amax(0).tolist()
        together = Cuts(
            torch.cat([cut.window.permute(1, 2, 0).reshape(-1, 3) for cut in cuts]),
            sizes,
            torch.tensor([cut.mirrored for cut in cuts]),
            None if self.transform.erase is None else torch.tensor([cut.erased for cut in cuts]),
            self.transform.crop.size[0],
            (height, width),
        )
        return together, torch.tensor(labels), torch.tensor(rows)
