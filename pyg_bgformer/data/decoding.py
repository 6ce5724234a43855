"""Decoding of all images of a dataset by worker processes, in the order of the rows."""

import os
from collections.abc import Callable, Generator
from contextlib import closing
from typing import Generic, Protocol, TypeVar

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.data.workers import leave_signals_to_main

T = TypeVar("T")


class HasImages(Protocol):
    """An object with numbered images, such as a dataset."""

    def __len__(self) -> int:
        """Returns how many images there are."""

    def image(self, row: int) -> Image.Image:
        """Returns the image of a row."""


def available_cpus() -> int:
    """Returns how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def decoded(
    images: HasImages, then: Callable[[Image.Image], T], workers: int | None = None
) -> Generator[T | ImageError, None, None]:
    """Yields ``then(image)`` for every image, or the error of an image that cannot be read.

    Close the generator to end its processes: the traceback of an error in the caller could keep it alive.

    Args:
        images: The source of the images. On systems that spawn processes it is pickled.
        then: A function of an image that the workers call, so that less is sent between processes.
        workers: Number of processes. 0 decodes in this process, ``None`` takes one for each CPU.
    """
    count = available_cpus() if workers is None else workers
    loader = DataLoader(
        Decoded(images, then),
        batch_size=None,
        num_workers=count,
        collate_fn=_as_is,
        worker_init_fn=leave_signals_to_main,
        generator=torch.Generator(),  # otherwise the loader would draw from the global generator
    )
    outcomes = iter(loader)
    try:
        yield from outcomes
    finally:
        del outcomes  # the last reference, with which the worker processes end


def failures(images: HasImages, workers: int | None = None) -> list[str]:
    """Returns one line for each image that does not decode to RGB, in the order of the rows."""
    with closing(decoded(images, get_mode, workers)) as outcomes:
        return [str(outcome) for outcome in outcomes if isinstance(outcome, ImageError)]


class Decoded(Dataset[T | ImageError], Generic[T]):
    """Decoded images in the order of the rows, for a loader.

    Args:
        images: The source of the images.
        then: A function that is called with each image.
    """

    def __init__(self, images: HasImages, then: Callable[[Image.Image], T]) -> None:
        self.images = images
        self.then = then

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> T | ImageError:
        try:
            return self.then(self.images.image(row))
        except ImageError as error:
            return error


def get_mode(image: Image.Image) -> str:
    """Returns the mode of an image, which is little to send between processes."""
    return image.mode


def _as_is(value: T) -> T:
    return value
