"""Image files of every kind to 8-bit RGB, or one clear line that names the file."""

import struct
import zlib
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from pyg_bgformer.errors import InputError

#: File name endings (lower case) that are taken for images.
IMAGE_EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)

# What Pillow raises on damaged input depends on the format: each of these was seen for some decoder.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


class ImageError(InputError):
    """An image that cannot be read; the message is one line that names the file.

    A ``DataLoader`` raises what went wrong in a worker process again with the worker's traceback as its
    message. This class keeps the last line of such a text, so that the user sees the same line whatever
    the number of workers is.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message.strip().rpartition(f"{type(self).__name__}: ")[2])


def decode_rgb(stream: BinaryIO, where: str) -> Image.Image:
    """Decode an image file to 8-bit RGB, upright.

    The EXIF rotation is applied; grey, palette, CMYK and 16-bit images are converted (16 bits by scaling
    0..65535 to 0..255), and transparency is laid over white. Of several frames the first is taken.

    Args:
        stream: The file, opened in binary mode.
        where: How the file is called in an error message.

    Raises:
        ImageError: The file is empty, damaged, no image, or of a pixel type without a defined range.
    """
    if not stream.read(1):
        raise ImageError(f"{where}: the file is empty; expected an image: replace or remove it")
    stream.seek(0)
    try:
        with Image.open(stream) as image:
            image.load()
            return _to_rgb(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except Image.UnidentifiedImageError:
        raise ImageError(
            f"{where}: not an image, or its beginning is damaged; expected an image: replace or remove it"
        ) from None
    except _DECODING_ERRORS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{where}: damaged image ({reason}); replace or remove it") from None


def to_tensor(image: Image.Image) -> Tensor:
    """An RGB image as a uint8 tensor of shape ``(3, height, width)``.

    In memory the channels come last, as Pillow has them: torchvision resizes such tensors twice as fast.
    """
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if image.mode in {"RGBA", "RGBa", "LA", "La", "PA"} or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def _from_deep_grey(image: Image.Image) -> Image.Image:
    """Grey of more than 8 bits: Pillow's own conversion would cut values off at 255."""
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    if image.mode == "F" or low < 0 or high > 65535:
        raise ValueError(f"pixel mode {image.mode} with values {low:g} to {high:g}, expected 0 to 65535")
    return Image.fromarray(np.round(values / 257).astype(np.uint8)).convert("RGB")
