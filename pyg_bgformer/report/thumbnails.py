"""Small pictures of images, and pictures as text for an HTML page."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

Picture = Image.Image | Tensor | np.ndarray
"""A Pillow image, a tensor ``(3, H, W)`` or an array ``(H, W, 3)``: uint8, or floating point from 0 to 1."""


def as_image(picture: Picture) -> Image.Image:
    """Returns a picture as an RGB image.

    Args:
        picture: The picture. A grey picture may have one channel or no channel dimension.

    Raises:
        ValueError: If its shape is not that of a picture.
    """
    if isinstance(picture, Image.Image):
        return picture.convert("RGB")
    values = picture.detach().cpu() if isinstance(picture, Tensor) else torch.from_numpy(np.asarray(picture))
    if values.dim() == 3 and isinstance(picture, Tensor):
        values = values.permute(1, 2, 0)
    if values.dim() == 2:
        values = values[:, :, None]
    if values.dim() != 3 or values.size(2) not in (1, 3):
        raise ValueError(
            f"expected a tensor (3, H, W) or an array (H, W, 3), found shape {tuple(picture.shape)}"
        )
    if values.is_floating_point():
        values = (values.clamp(0, 1) * 255).round().byte()
    return Image.fromarray(values.expand(-1, -1, 3).contiguous().numpy())


def thumbnail(picture: Picture, side: int) -> Image.Image:
    """Returns the central square of a picture, resized to ``side`` pixels. Small pictures are enlarged in blocks.

    Args:
        picture: The picture.
        side: Width and height of the result in pixels.
    """
    image = as_image(picture)
    small = min(image.size) < side
    return ImageOps.fit(image, (side, side), Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS)


def data_uri(image: Image.Image, quality: int = 78) -> str:
    """Returns an image as a ``data:`` address with WebP, so that a page needs no other file.

    Args:
        image: The image.
        quality: Quality of WebP, from 0 to 100.
    """
    stream = io.BytesIO()
    image.save(stream, "WEBP", quality=quality, method=4)
    return f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"


def sprite(thumbnails: Sequence[Image.Image], columns: int) -> Image.Image:
    """Returns one image that has many images of equal size, row by row.

    Args:
        thumbnails: The images, at least one.
        columns: Number of images in a row.
    """
    side = thumbnails[0].width
    sheet = Image.new("RGB", (columns * side, -(-len(thumbnails) // columns) * side))
    for number, image in enumerate(thumbnails):
        sheet.paste(image, (number % columns * side, number // columns * side))
    return sheet
