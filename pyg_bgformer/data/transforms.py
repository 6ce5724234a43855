"""Transforms of training and test images for an encoder."""

from collections.abc import Sequence

import torch
from torchvision.transforms import InterpolationMode, v2

from pyg_bgformer.data.batched import BatchedTransform
from pyg_bgformer.errors import InputError


def train_transform(
    image_size: int,
    *,
    crop_scale: tuple[float, float] = (0.2, 1.0),
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    flip: bool = True,
    random_erasing: float = 0.0,
    mean: Sequence[float],
    std: Sequence[float],
    normalised: bool = True,
) -> BatchedTransform:
    """Returns the augmentation of training images.

    It crops a random part, resizes it (bicubic, antialiased), mirrors it at random, normalises it, and erases a
    random rectangle. It takes a uint8 RGB tensor ``(3, height, width)`` and returns float32 ``(3, image_size,
    image_size)``. All its randomness comes from torch's global generator, which :class:`ImageSamples` seeds for
    each sample. The defaults are those of A. Ermolov et al., Hyperbolic Vision Transformers, CVPR 2022, section
    4.1.

    Args:
        image_size: Side of the result in pixels.
        crop_scale: Smallest and largest share of the image's area in a crop, in (0, 1].
        crop_ratio: Smallest and largest width over height of a crop.
        flip: Mirror half of the images. Switch it off where left and right differ in meaning.
        random_erasing: Share of the images in which a rectangle of 2 to 40 % of the area becomes the mean colour,
            from Z. Zhong et al., Random Erasing Data Augmentation, AAAI 2020.
        mean: Mean of each channel of values in [0, 1], which is subtracted.
        std: Standard deviation of each channel, by which the result is divided.
        normalised: Whether to normalise. Otherwise the result is uint8, a quarter of the bytes, and the encoder
            normalises it.

    Raises:
        InputError: If a number is outside its range, or ``random_erasing`` is set for images that are not
            normalised.
    """
    _check_size(image_size)
    if random_erasing and not normalised:
        raise InputError("random_erasing fills with the mean colour: it needs normalised images")
    if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
        raise InputError(f"crop_scale is {tuple(crop_scale)}; expected 0 < smallest <= largest <= 1")
    if not 0 < crop_ratio[0] <= crop_ratio[1]:
        raise InputError(f"crop_ratio is {tuple(crop_ratio)}; expected 0 < smallest <= largest")
    crop = v2.RandomResizedCrop(image_size, crop_scale, crop_ratio, InterpolationMode.BICUBIC, antialias=True)
    return BatchedTransform(
        crop,
        v2.RandomHorizontalFlip() if flip else None,
        v2.Compose(_normalised(mean, std)) if normalised else None,
        v2.RandomErasing(random_erasing, scale=(0.02, 0.4), ratio=(0.3, 1 / 0.3)) if random_erasing else None,
    )


def eval_transform(
    image_size: int,
    *,
    resize: int,
    mean: Sequence[float],
    std: Sequence[float],
    normalised: bool = True,
) -> v2.Compose:
    """Returns the transform of test images.

    It resizes the shorter side to ``resize`` (bicubic, antialiased), crops a square from the centre, and normalises
    it. It takes a uint8 RGB tensor ``(3, height, width)`` and returns float32 ``(3, image_size, image_size)``.

    Args:
        image_size: Side of the result in pixels.
        resize: Length of the shorter side before the crop, at least ``image_size``.
        mean: Mean of each channel of values in [0, 1], which is subtracted.
        std: Standard deviation of each channel, by which the result is divided.
        normalised: Whether to normalise. Otherwise the result is uint8, and the encoder normalises it.

    Raises:
        InputError: If ``resize`` is below ``image_size``, with which crops would have black borders, or a number is
            outside its range.
    """
    norm = _normalised(mean, std) if normalised else []
    return v2.Compose([*centre_crop(image_size, resize=resize), *norm])


def centre_crop(image_size: int, *, resize: int) -> list[v2.Transform]:
    """Returns the first steps of :func:`eval_transform`: resizing and cropping.

    Args:
        image_size: Side of the result in pixels.
        resize: Length of the shorter side before the crop, at least ``image_size``.

    Raises:
        InputError: If ``resize`` is below ``image_size``, or ``image_size`` is below 1.
    """
    _check_size(image_size)
    if resize < image_size:
        raise InputError(f"resize is {resize}; expected at least image_size, which is {image_size}")
    return [v2.Resize(resize, InterpolationMode.BICUBIC, antialias=True), v2.CenterCrop(image_size)]


def _normalised(mean: Sequence[float], std: Sequence[float]) -> list[v2.Transform]:
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise InputError(f"mean {tuple(mean)}, std {tuple(std)}; expected three of each and std above 0")
    return [v2.ToDtype(torch.float32, scale=True), v2.Normalize(list(mean), list(std))]


def _check_size(image_size: int) -> None:
    if image_size < 1:
        raise InputError(f"image_size is {image_size}; expected at least 1")
