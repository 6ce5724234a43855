"""Decoded images in one memory-mapped file, so that only the first epoch decodes JPEGs."""

import hashlib
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from pyg_bgformer.data.cache_file import map_pixels, pixel_ends, write_pixels
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.decoding import decoded
from pyg_bgformer.data.images import ImageError, to_tensor
from pyg_bgformer.errors import InputError

Progress = Callable[[int, int], None]


class ImageCache:
    """Decoded images, the shorter side at most ``size`` pixels; ``cache[row]`` is one of them.

    A larger image is made smaller with its proportions kept (bicubic, antialiased: exactly what
    :func:`eval_transform` does with ``resize=size``, so that evaluation gives the same numbers with and
    without a cache); a smaller one is kept as it is. A photograph takes about ``4 * size ** 2`` bytes.

    The object can be sent to other processes: they map the same file, no pixel is copied.

    Args:
        path: A file made by :meth:`open_or_build`.

    Raises:
        InputError: The file is missing, is no cache, or was cut off.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._content, self._index, self.key = map_pixels(path)
        self._ends = pixel_ends(self._index)

    def __reduce__(self) -> tuple[type["ImageCache"], tuple[Path]]:
        return ImageCache, (self.path,)

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, row: int) -> Tensor:
        """The image of a row: uint8 of shape ``(3, height, width)``, a copy.

        Raises:
            ImageError: The pixels do not have the checksum that they were written with.
        """
        height, width = int(self._index["height"][row]), int(self._index["width"][row])
        end = int(self._ends[row])
        pixels = np.array(self._content[end - 3 * height * width : end])
        if zlib.crc32(pixels.data) != self._index["checksum"][row]:
            raise ImageError(
                f"{self.path}: image {row} of this cache is damaged; delete it to have it made again"
            )
        return torch.from_numpy(pixels).view(height, width, 3).permute(2, 0, 1)

    @classmethod
    def open_or_build(
        cls,
        dataset: ImageDataset,
        size: int,
        folder: Path,
        *,
        workers: int | None = None,
        progress: Progress | None = None,
    ) -> "ImageCache":
        """Open the cache of a dataset, or make it where it is missing or has a damaged index.

        The file's name is made of the dataset's manifest hash, the sizes and times of its files, and
        ``size``: a change of any of them makes another file.

        Args:
            dataset: Whose images, all of them.
            size: Largest length of the shorter side in pixels.
            folder: Where the file is; made where it is missing.
            workers: Processes that decode; 0 decodes in this one, ``None`` takes one for each CPU.
            progress: Called with the number of images done and the number of all of them.

        Raises:
            ImageError: An image does not decode (the message names it).
            InputError: The folder cannot be written, or ``size`` is below 1.
        """
        if size < 1:
            raise InputError(f"the size of cached images is {size}; expected at least 1")
        key = _key(dataset, size)
        path = Path(folder) / f"{dataset.name}-{size}-{key[:16]}.cache"
        if _is_whole(path, key):
            return cls(path)
        try:
            with closing(decoded(dataset, partial(shrunk, size=size), workers)) as outcomes:
                write_pixels(path, _counted(outcomes, len(dataset), progress), key)
        except OSError as error:
            raise InputError(
                f"{path}: the image cache cannot be written ({error.strerror or error})"
            ) from None
        return cls(path)


def shrunk(image: Image.Image, size: int) -> Tensor:
    """The image as uint8 ``(3, height, width)``, its shorter side at most ``size``; never enlarged."""
    tensor = to_tensor(image)
    if min(image.size) <= size:
        return tensor
    return functional.resize(tensor, [size], InterpolationMode.BICUBIC, antialias=True)


def _key(dataset: ImageDataset, size: int) -> str:
    return hashlib.sha256(f"{dataset.manifest_hash} {dataset.source_stamp()} {size}".encode()).hexdigest()


def _is_whole(path: Path, key: str) -> bool:
    if not path.exists():
        return False
    try:
        return map_pixels(path)[2] == key
    except InputError:
        return False


def _counted(
    outcomes: Iterable[Tensor | ImageError], total: int, progress: Progress | None
) -> Iterator[np.ndarray]:
    for done, outcome in enumerate(outcomes, start=1):
        if isinstance(outcome, ImageError):
            raise outcome
        yield outcome.permute(1, 2, 0).numpy()
        if progress is not None:
            progress(done, total)
