"""Decoding of image files to 8-bit RGB. What cannot be decoded is an error of one line that names the file."""

import struct
import threading
import warnings
import zlib
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pyg_bgformer.errors import InputError, one_line

IMAGE_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read. Pillow knows more, and starts other programs to read some of them."""

MAX_PIXELS = 120_000_000
"""Number of pixels of the largest image that is decoded, above those of cameras. A tiny file can claim any size."""

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge in pixels from an image's upper left corner; right and lower are exclusive."""

# Pillow's decoders raise different errors for damaged files. Each of these was seen.
DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
)

FILTERS = threading.Lock()
"""A lock on Python's warning filters, which all threads share."""


class ImageError(InputError):
    """Raised for an image that cannot be read. The message is one line that names the file.

    A ``DataLoader`` raises an error of a worker process again, with the worker's traceback as its message. This
    class keeps only the last line of such a message. So the user sees the same line with any number of workers.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.strip().rpartition(f"{type(self).__name__}: ")[2])


def decode_rgb(stream: BinaryIO, where: str) -> Image.Image:
    """Returns the image in a file in 8-bit RGB, upright.

    The EXIF rotation is applied. Grey, palette, CMYK and 16-bit images are converted; 16 bits are scaled from
    0..65535 to 0..255. Transparency is laid over white. Of several frames the first is used.

    Args:
        stream: The file, opened in binary mode.
        where: Name of the file in messages.

    Raises:
        ImageError: If the file is empty, damaged, too large, no image of :data:`IMAGE_FORMATS`, or has pixels
            without a defined range.
    """
    if not stream.read(1):
        raise ImageError(f"{where}: the file is empty; expected an image: replace or remove it")
    stream.seek(0)
    try:
        # Without the lock, threads would restore each other's warning filters.
        with FILTERS, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # check_size has its own limit
            image = Image.open(stream, formats=IMAGE_FORMATS)
        with image:
            check_size(image, where)
            image.load()
            return to_rgb(ImageOps.exif_transpose(image), where)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"{where}: more than {MAX_PIXELS:,} pixels; make it smaller or remove it") from None
    except UnidentifiedImageError:
        raise ImageError(
            f"{where}: not an image, or its beginning is damaged; expected {', '.join(IMAGE_FORMATS)}: "
            "replace or remove it"
        ) from None
    except DECODING_ERRORS as error:
        reason = one_line(error) or type(error).__name__
        raise ImageError(f"{where}: damaged image ({reason}); replace or remove it") from None


def check_size(image: Image.Image, where: str) -> None:
    """Raises an error for an image that claims to be too large. Its pixels are not decoded yet.

    Raises:
        ImageError: If it has more than :data:`MAX_PIXELS` pixels.
    """
    if image.width * image.height > MAX_PIXELS:
        raise ImageError(
            f"{where}: {image.width} x {image.height} pixels, expected at most {MAX_PIXELS:,}; "
            "make it smaller or remove it"
        )


def to_rgb(image: Image.Image, where: str) -> Image.Image:
    """Returns an image of any mode in 8-bit RGB.

    Raises:
        ImageError: If its values have no defined range.
    """
    if image.mode.startswith("I") or image.mode == "F":
        # Grey values of more than 8 bits: Pillow's own conversion would clip them at 255.
        values = np.asarray(image).astype(np.float64)
        low, high = values.min(), values.max()
        if image.mode == "F" or low < 0 or high > 65535:
            raise ImageError(
                f"{where}: unsupported pixels of mode {image.mode} with values {low:g} to {high:g}; expected whole "
                "numbers from 0 to 65535: convert or remove it"
            )
        return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """Returns an RGB image as a uint8 tensor of shape ``(3, height, width)``.

    In memory the channels come last, as in Pillow. Torchvision resizes such tensors twice as fast.
    """
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)


def crop_to_box(image: Image.Image, box: Box, where: str) -> Image.Image:
    """Returns the part of an image inside a box. A box may extend beyond the image.

    Args:
        image: The whole image.
        box: Its annotated box.
        where: Name of the image in messages.

    Raises:
        ImageError: If box and image do not overlap.
    """
    left, upper, right, lower = box
    inside = max(left, 0), max(upper, 0), min(right, image.width), min(lower, image.height)
    if inside[0] >= inside[2] or inside[1] >= inside[3]:
        raise ImageError(
            f"{where}: its box {box} holds nothing of its {image.width} x {image.height} pixels; correct the "
            "list of boxes, or leave crop_to_box out"
        )
    return image.crop(inside)
