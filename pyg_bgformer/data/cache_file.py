"""The file of decoded images: how it is written, and how a damaged one is told from a whole one.

A file is the pixels of all images one after the other, then the index (an entry for each image), then the
tail. It is written in this order under another name and renamed when it is whole.
"""

import os
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path

INDEX = np.dtype([("height", "<u4"), ("width", "<u4"), ("checksum", "<u4")])
TAIL = np.dtype([("magic", "S8"), ("images", "<u8"), ("checksum", "<u4"), ("key", "S64")])
MAGIC = b"bgcache1"


def write_pixels(path: Path, images: Iterable[np.ndarray], key: str) -> None:
    """Write images (uint8, ``(height, width, 3)``) atomically; of a failure nothing is left.

    Raises:
        OSError: The folder cannot be written, or the disk is full.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
    """Map a file: its bytes (read-only, uint8), the index, and the key it was written with.

    Raises:
        InputError: The file is missing, is no such file, or was cut off. The pixels, perhaps a hundred
            gigabytes of them, are not read: each image is compared with its checksum when it is.
    """
    try:
        content = np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no image cache ({error}); delete it to have it made again") from None
    damaged = InputError(f"{path}: a damaged image cache; delete it to have it made again")
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
    """Where the pixels of each image end, in bytes from the file's start."""
    return np.cumsum(3 * index["height"].astype(np.int64) * index["width"])
