"""Resizing many windows by matrix products gives what torch's kernel for uint8 gives for each of them."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from pyg_bgformer.data.bicubic import bicubic_weights, resized

SIZES = [(30, 41), (97, 24), (32, 32), (1, 50), (64, 128), (17, 3), (120, 121)]


def windows(sizes: Sequence[tuple[int, int]], *, extreme: bool = False) -> list[Tensor]:
    """Noise of some heights and widths, ``(height, width, 3)``; if extreme, of the values 0 and 255 alone."""
    chance = torch.Generator().manual_seed(0)
    images = [torch.randint(256, (*size, 3), generator=chance) for size in sizes]
    return [(255 * (image > 127) if extreme else image).to(torch.uint8) for image in images]


def together(images: Sequence[Tensor], size: int, mirrored: Sequence[bool], device: str = "cpu") -> Tensor:
    sizes = torch.tensor([image.shape[:2] for image in images])
    areas = sizes.prod(1)
    pixels = torch.cat([image.reshape(-1, 3) for image in images])
    tensors = (pixels, areas.cumsum(0) - areas, sizes, torch.tensor(list(mirrored)))
    height, width = sizes.amax(0).tolist()
    return resized(*(tensor.to(device) for tensor in tensors), size, (height, width)).cpu()


def alone(image: Tensor, size: int, mirrored: bool) -> Tensor:
    square = interpolate(image.permute(2, 0, 1)[None], (size, size), mode="bicubic", antialias=True)[0]
    return square.flip(-1) if mirrored else square


@pytest.mark.parametrize("extreme", [False, True])
def test_equal_to_each_window_alone(extreme: bool) -> None:
    images = windows(SIZES, extreme=extreme)
    mirrored = [number % 2 == 0 for number in range(len(images))]
    found = together(images, 32, mirrored)
    assert found.is_contiguous(memory_format=torch.channels_last)
    for square, image, flipped in zip(found, images, mirrored, strict=True):
        assert torch.equal(square, alone(image, 32, flipped))


def test_windows_that_shrink_more_than_fourfold_differ_by_one_grey_level_at_a_hundredth_of_their_values() -> (
    None
):
    images = windows([(160, 250), (300, 140)], extreme=True)
    differences = [
        (square.int() - alone(image, 24, False).int()).abs()
        for square, image in zip(together(images, 24, [False, False]), images, strict=True)
    ]
    assert torch.stack(differences).max() <= 1
    assert torch.stack(differences).count_nonzero() <= 0.01 * 2 * 3 * 24 * 24


def test_a_window_does_not_depend_on_the_others() -> None:
    images = windows(SIZES)
    whole = together(images, 20, [False] * len(images))
    for number, image in enumerate(images):
        assert torch.equal(together([image], 20, [False])[0], whole[number])


def test_weights_of_each_pixel_sum_to_one_and_end_with_the_line() -> None:
    weights = bicubic_weights(torch.tensor([[7, 40], [16, 3]]), 16, 41)
    assert weights.shape == (2, 2, 16, 41)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 2, 16), atol=2e-4)
    assert all(
        not weights[*place, :, length:].any() for place, length in (((0, 0), 7), ((0, 1), 40), ((1, 1), 3))
    )
    assert torch.equal(weights[1, 0, :, :16], torch.eye(16))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_pixels_of_a_cpu() -> None:
    images = windows([*SIZES, (375, 500), (500, 333)])
    mirrored = [number % 3 == 0 for number in range(len(images))]
    for size in (28, 224):
        assert torch.equal(together(images, size, mirrored, "cuda"), together(images, size, mirrored))
