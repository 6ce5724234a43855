"""Inputs of a model: paths, images, arrays and tensors. Threads read and resize them."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms.v2.functional import to_dtype

from pyg_bgformer.data.decoding import available_cpus
from pyg_bgformer.data.image_files import open_image
from pyg_bgformer.data.images import (
    DECODING_ERRORS,
    ImageError,
    check_size,
    decode_rgb,
    to_rgb,
    to_tensor,
)
from pyg_bgformer.errors import InputError, one_line

T = TypeVar("T")
One = str | os.PathLike[str] | Image.Image | np.ndarray
Images = One | Iterable[One] | Tensor

AHEAD = 2
"""Number of batches that threads read in advance."""
MARGIN = 1e-3
"""Values may be outside 0 to 1 by this much, because some resizing methods overshoot."""


def as_sequence(images: Images) -> Sequence[One] | Tensor:
    """Returns images as a sequence. A single image becomes a list of one image.

    Args:
        images: One or several paths, PIL images or arrays. A tensor is returned unchanged.
    """
    if isinstance(images, Tensor):
        return images
    single = isinstance(images, str | os.PathLike | Image.Image)
    if single or (isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.ndim < 4):
        return [images]  # type: ignore[list-item]
    return images if isinstance(images, list | tuple) else list(images)  # type: ignore[arg-type]


def load_image(image: Any, where: str) -> Tensor:
    """Returns one image as a uint8 tensor ``(3, H, W)``, RGB.

    Args:
        image: A path, a PIL image, or an array ``(H, W, 3)``, ``(H, W, 4)`` or ``(H, W)`` of uint8.
        where: What an error message calls an image that is not a file.

    Raises:
        InputError: If it has another type or shape.
        ImageError: If it is too large, damaged or cannot be opened.
    """
    if isinstance(image, str | os.PathLike):
        return to_tensor(_read(os.fspath(image)))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise InputError(
                f"{where}: found an array {image.shape} of {image.dtype}, expected (H, W, 3) of uint8"
            )
        image = Image.fromarray(image)
    if not isinstance(image, Image.Image):
        raise InputError(f"{where}: found {type(image).__name__}, expected a path, a PIL image or an array")
    check_size(image, where)
    try:
        return to_tensor(to_rgb(ImageOps.exif_transpose(image), where))
    except ImageError:
        raise
    except DECODING_ERRORS as error:
        raise ImageError(f"{where}: damaged image ({one_line(error)})") from error


def _read(path: str) -> Image.Image:
    try:
        with open_image(path) as stream:
            return decode_rgb(stream, path)
    except ImageError:
        raise
    except (OSError, ValueError) as error:  # a NUL character in a path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path}: cannot be opened ({reason})") from error


def checked_batch(images: Tensor) -> Tensor:
    """Returns a tensor of images unchanged after checking it.

    Args:
        images: ``(N, 3, H, W)``, uint8 or floating point from 0 to 1.

    Raises:
        InputError: If it has another shape or type, or a value outside 0 to 1.
    """
    if (
        images.ndim != 4
        or images.shape[1] != 3
        or not (images.is_floating_point() or images.dtype == torch.uint8)
    ):
        raise InputError(
            f"images: found a tensor {tuple(images.shape)} of {images.dtype}, "
            "expected (N, 3, H, W) of uint8 or floats"
        )
    if images.is_floating_point() and images.numel():
        low, high = (float(value) for value in images.aminmax())
        if not -MARGIN <= low <= high <= 1 + MARGIN:
            raise InputError(
                f"images: found values from {low:.4g} to {high:.4g}, expected 0 to 1; "
                "do not normalise images, the model does it"
            )
    return images


def as_floats(images: Tensor) -> Tensor:
    """Returns images ``(B, 3, H, W)`` as float32 from 0 to 1. Channels are last in memory for fast convolutions."""
    floats: Tensor = to_dtype(images, torch.float32, scale=True)
    return floats.contiguous(memory_format=torch.channels_last)


def prefetched(
    load: Callable[[int], T], count: int, batch_size: int, workers: int | None
) -> Iterator[list[T]]:
    """Yields loaded items in batches, while threads load the next ones.

    Threads are fast enough, because reading, decoding and resizing release Python's lock. They start faster than
    processes, and no image has to be sent between processes.

    Args:
        load: Returns the item at a position.
        count: Number of items.
        batch_size: Number of items in a batch, from 1.
        workers: Number of threads. 0 loads in the calling thread, ``None`` takes one thread for each CPU.

    Raises:
        InputError: If ``workers`` is negative.
    """
    workers = available_cpus() if workers is None else workers
    if workers < 0:
        raise InputError(f"workers: found {workers}, expected at least 0")
    parts = [range(first, min(first + batch_size, count)) for first in range(0, count, batch_size)]
    if workers == 0:
        yield from ([load(position) for position in part] for part in parts)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[list[Future[T]]] = deque()
    try:
        for part in parts:
            waiting.append([pool.submit(load, position) for position in part])
            if len(waiting) > AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)
