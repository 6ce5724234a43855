"""A cache of decoded images in one memory-mapped file, so that images are decoded only once.

The file contains the pixels of all images, one after another, then the index with an entry for each image, then the
tail. It is written in this order under another name and renamed when it is complete.
"""

import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.decoding import decoded
from pyg_bgformer.data.images import ImageError, to_tensor
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path, remove_stale_partials

Progress = Callable[[int, int], None]

INDEX = np.dtype([("height", "<u4"), ("width", "<u4"), ("checksum", "<u4")])
TAIL = np.dtype([("magic", "S8"), ("images", "<u8"), ("checksum", "<u4"), ("key", "S64")])
MAGIC = b"bgcache1"


class ImageCache:
    """Decoded images whose shorter side has at most ``size`` pixels. ``cache[row]`` is the image of a row.

    Larger images are resized with their proportions kept (bicubic, antialiased). :func:`eval_transform` with
    ``resize=size`` does exactly the same, so evaluation gives the same numbers with and without a cache. Smaller
    images are stored as they are. A photograph takes about ``4 * size ** 2`` bytes.

    The object can be sent to other processes. They map the same file, and no pixel is copied.

    Args:
        path: A file made by :meth:`open_or_build`.

    Raises:
        InputError: If the file is missing, is not a cache, or is truncated.
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
        """Returns a copy of the image of a row, uint8 of shape ``(3, height, width)``.

        Raises:
            ImageError: If the checksum of the pixels is not the one that was written.
        """
        height, width = int(self._index["height"][row]), int(self._index["width"][row])
        end = int(self._ends[row])
        pixels = np.array(self._content[end - 3 * height * width : end])
        if zlib.crc32(pixels.data) != self._index["checksum"][row]:
            raise ImageError(
                f"{self.path}: image {row} of this cache is damaged; delete it, and it is made again"
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
        """Returns the cache of a dataset. It is made if it is missing or has a damaged index.

        The name of the file depends on the dataset's manifest hash, the sizes and times of its files, and ``size``.
        A change of any of them makes a new file.

        Args:
            dataset: The dataset, of which all images are stored.
            size: Largest length of the shorter side in pixels, at least 1.
            folder: Folder of the file. It is made if it is missing.
            workers: Number of processes that decode. 0 decodes in this process, ``None`` takes one for each CPU.
            progress: A function that is called with the number of decoded images and of all images.

        Raises:
            ImageError: If an image does not decode. The message names it.
            InputError: If the folder cannot be written, or ``size`` is below 1.
        """
        if size < 1:
            raise InputError(f"the size of cached images is {size}; expected at least 1")
        sources = f"{dataset.manifest_hash} {dataset.source_stamp()} {size}"
        key = hashlib.sha256(sources.encode()).hexdigest()
        path = Path(folder) / f"{dataset.name}-{size}-{key[:16]}.cache"
        if path.exists():
            with suppress(InputError):  # a damaged file is made again
                cache = cls(path)
                if cache.key == key:
                    return cache
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_stale_partials(path.parent)
            with closing(decoded(dataset, partial(shrunk, size=size), workers)) as outcomes:
                write_pixels(path, pixels_of(outcomes, len(dataset), progress), key)
        except OSError as error:
            raise InputError(
                f"{path}: the image cache cannot be written ({error.strerror or error})"
            ) from None
        return cls(path)


def shrunk(image: Image.Image, size: int) -> Tensor:
    """Returns an image as uint8 ``(3, height, width)``, resized if its shorter side is longer than ``size``."""
    tensor = to_tensor(image)
    if min(image.size) <= size:
        return tensor
    resized: Tensor = functional.resize(tensor, [size], InterpolationMode.BICUBIC, antialias=True)
    return resized


def pixels_of(
    outcomes: Iterable[Tensor | ImageError], total: int, progress: Progress | None
) -> Iterator[np.ndarray]:
    """Yields the pixels of decoded images as they are written, uint8 ``(height, width, 3)``.

    Args:
        outcomes: Decoded images, or their errors.
        total: Number of all images.
        progress: A function that is called with the number of images so far and ``total``.

    Raises:
        ImageError: If an image did not decode.
    """
    for done, outcome in enumerate(outcomes, start=1):
        if isinstance(outcome, ImageError):
            raise outcome
        yield outcome.permute(1, 2, 0).numpy()
        if progress is not None:
            progress(done, total)


def write_pixels(path: Path, images: Iterable[np.ndarray], key: str) -> None:
    """Writes a cache file atomically. A failure leaves nothing.

    Args:
        path: The file.
        images: The images in the order of the rows, uint8 ``(height, width, 3)``.
        key: Hash of what the images depend on.

    Raises:
        OSError: If the folder cannot be written, or the disk is full.
    """
    with atomic_path(path) as unfinished, open(unfinished, "wb") as file:
        entries = []
        for image in images:
            pixels = image.tobytes()
            file.write(pixels)
            entries.append((*image.shape[:2], zlib.crc32(pixels)))
        index = np.array(entries, dtype=INDEX).tobytes()
        file.write(index)
        file.write(np.array([(MAGIC, len(entries), zlib.crc32(index), key.encode())], TAIL).tobytes())
        file.flush()
        os.fsync(file.fileno())


def map_pixels(path: Path) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns the bytes of a cache file (memory-mapped, read-only, uint8), its index and its key.

    The pixels can be a hundred gigabytes and are not read here. An image is compared with its checksum when it is
    read.

    Raises:
        InputError: If the file is missing, is not a cache, or is truncated.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not an image cache ({error}); delete it, and it is made again") from None
    damaged = InputError(f"{path}: a damaged image cache; delete it, and it is made again")
    if content.size < TAIL.itemsize:
        raise damaged
    tail = content[-TAIL.itemsize :].view(TAIL)[0]
    start = content.size - TAIL.itemsize - int(tail["images"]) * INDEX.itemsize
    if tail["magic"] != MAGIC or start < 0:
        raise damaged
    encoded = content[start : -TAIL.itemsize]
    index = np.frombuffer(encoded.tobytes(), dtype=INDEX)
    if zlib.crc32(encoded.data) != tail["checksum"] or pixel_ends(index)[-1:].sum() != start:
        raise damaged
    return content, index, tail["key"].decode(errors="replace")


def pixel_ends(index: np.ndarray) -> np.ndarray:
    """Returns where the pixels of each image end, in bytes from the start of the file."""
    return np.cumsum(3 * index["height"].astype(np.int64) * index["width"])
