import pytest
import torch

from pyg_bgformer.data import eval_transform, train_transform
from pyg_bgformer.errors import InputError

PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}


def noise(height: int, width: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator())


@pytest.mark.parametrize(("height", "width"), [(60, 40), (1, 30)])
def test_shape_and_type(height: int, width: int):
    for transform in (train_transform(24, **PLAIN), eval_transform(24, resize=28, **PLAIN)):
        image = transform(noise(height, width))
        assert image.shape == (3, 24, 24)
        assert image.dtype == torch.float32


def test_normalisation():
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    white = torch.full((3, 9, 9), 255, dtype=torch.uint8)
    expected = torch.tensor([1.8, 3.2, 0.35]).view(3, 1, 1).expand(3, 9, 9)
    assert torch.allclose(eval_transform(9, resize=9, mean=mean, std=std)(white), expected)
    assert torch.allclose(train_transform(9, mean=mean, std=std)(white), expected)


def test_evaluation_takes_the_centre():
    image = noise(20, 30)
    cut = eval_transform(10, resize=20, **PLAIN)(image)
    assert torch.allclose(cut, image[:, 5:15, 10:20] / 255)


def test_flip_can_be_switched_off():
    image = torch.arange(8, dtype=torch.uint8).expand(3, 8, 8) * 30
    whole = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), **PLAIN}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kept = [train_transform(8, flip=False, **whole)(image) for _ in range(20)]
        flipped = [train_transform(8, **whole)(image) for _ in range(20)]
    assert all(torch.allclose(one, image / 255) for one in kept)
    assert {torch.allclose(one, image / 255) for one in flipped} == {True, False}


def test_a_rectangle_of_the_chosen_share_of_images_becomes_the_mean_colour():
    white = torch.full((3, 60, 60), 255, dtype=torch.uint8)
    erasing, never = (train_transform(60, random_erasing=share, **PLAIN) for share in (0.5, 0.0))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        erased = torch.stack([(erasing(white) == 0).all(dim=0) for _ in range(400)])
        assert not any((never(white) == 0).any() for _ in range(20))
    areas = erased.float().mean(dim=(1, 2))
    assert 0.42 < (areas > 0).float().mean() < 0.58
    assert areas.max() <= 0.42  # sides are rounded to pixels
    for mask in erased[areas > 0]:
        rows, columns = mask.any(dim=1), mask.any(dim=0)
        assert torch.equal(mask, rows[:, None] & columns)


def test_crop_scale_bounds_the_area():
    # pixel values tell where they were: the range that a cut covers is its size
    rows = torch.arange(200, dtype=torch.uint8).view(200, 1).expand(200, 200)
    image = torch.stack([rows, rows.T, rows])
    transform = train_transform(50, crop_scale=(0.25, 0.3), crop_ratio=(1.0, 1.0), **PLAIN)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        cuts = [transform(image) * 255 for _ in range(30)]
    sides = torch.stack([cut.amax((1, 2)) - cut.amin((1, 2)) for cut in cuts])
    assert sides.min() > 92
    assert sides.max() < 112


def test_impossible_numbers_are_refused():
    with pytest.raises(InputError, match="resize"):
        eval_transform(32, resize=24, **PLAIN)
    with pytest.raises(InputError, match="crop_scale"):
        train_transform(32, crop_scale=(0.5, 0.2), **PLAIN)
    with pytest.raises(InputError, match="crop_ratio"):
        train_transform(32, crop_ratio=(0.0, 1.0), **PLAIN)
    with pytest.raises(InputError, match="std"):
        train_transform(32, mean=(0.5,) * 3, std=(0.5, 0.5, 0.0))
    with pytest.raises(InputError, match="image_size"):
        train_transform(0, **PLAIN)
