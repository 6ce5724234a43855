"""Augmentation on the device gives the images of augmentation in the workers."""

from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_sample_image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2.functional import normalize, to_dtype

from pyg_bgformer.data import ImageCache, ImageSamples, cuts, load_dataset, train_transform
from pyg_bgformer.data.cuts import Cut, CutTransform
from pyg_bgformer.data.noise import NoisySamples

NORM = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
SEEDS = [2**61 + 7 * number for number in range(6)]


def normalise(images: Tensor) -> Tensor:
    return normalize(to_dtype(images, torch.float32, scale=True), list(NORM["mean"]), list(NORM["std"]))


def cut(transform: CutTransform, image: Tensor, seed: int) -> Cut:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return transform(image)


def photos(number: int) -> list[Tensor]:
    """Photographs of 640 x 427 pixels, in turns."""
    both = [torch.tensor(load_sample_image(name)).permute(2, 0, 1) for name in ("china.jpg", "flower.jpg")]
    return [both[place % 2] for place in range(number)]


def differences(largest: int, image_size: int, **options: float) -> Tensor:
    """Differences between both ways on photographs, in grey levels."""
    whole = train_transform(image_size, **NORM, **options)
    transform = CutTransform(whole, largest)
    images = photos(len(SEEDS))
    samples = [(cut(transform, image, seed), 0, 0) for image, seed in zip(images, SEEDS, strict=True)]
    found = transform.collate(samples)[0].images(normalise)
    found = normalise(found) if found.dtype == torch.uint8 else found
    std = torch.tensor(NORM["std"]).view(3, 1, 1)
    return (found - whole.batch(images, SEEDS)).abs() * std * 255


@pytest.mark.parametrize("options", [{}, {"flip": False, "crop_scale": (0.5, 1.0)}, {"random_erasing": 0.5}])
def test_photos_are_those_of_the_workers_to_the_last_bit(options: dict[str, float]) -> None:
    assert not differences(640, 160, **options).any()


def test_of_larger_windows_photos_differ_by_less_than_half_a_grey_level_on_average() -> None:
    found = differences(256, 128)
    print(f"largest difference {found.max():.0f} grey levels, mean {found.mean():.2f}")
    assert found.mean() < 0.5
    assert found.max() < 10


def test_images_do_not_depend_on_the_batch_or_on_the_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    transform = CutTransform(train_transform(32, random_erasing=0.5, **NORM), 200)
    samples = [(cut(transform, *pair), 0, 0) for pair in zip(photos(len(SEEDS)), SEEDS, strict=True)]
    whole = transform.collate(samples)[0].images(normalise)
    halves = [transform.collate(part)[0].images(normalise) for part in (samples[:2], samples[2:])]
    assert torch.equal(torch.cat(halves), whole)
    monkeypatch.setattr(cuts, "AT_ONCE", 4)
    assert torch.equal(transform.collate(samples)[0].images(normalise), whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_the_images_labels_and_rows_of_the_workers(workers: int, tmp_path: Path) -> None:
    dataset = load_dataset("digits")
    cache = ImageCache.open_or_build(dataset, 512, tmp_path, workers=0)
    rows, whole = dataset.rows("train"), train_transform(16, **NORM)
    noise = {"share": 0.5, "seed": 3, "size": 16}
    transform = CutTransform(whole, 512)
    plan = [[(place, 31 * place) for place in range(start, start + 10)] for start in (0, 10)]
    loader = DataLoader(
        NoisySamples(dataset, rows, transform, cache, **noise),
        batch_sampler=plan,
        collate_fn=transform.collate,
        num_workers=workers,
    )
    expected = DataLoader(NoisySamples(dataset, rows, whole, cache, **noise), batch_sampler=plan)
    for found, (images, labels, places) in zip(loader, expected, strict=True):
        assert torch.equal(normalise(found[0].images(normalise)), images)
        assert torch.equal(found[1], labels)
        assert torch.equal(found[2], places)


def test_the_cut_of_an_image_depends_on_its_seed_alone() -> None:
    dataset = load_dataset("digits")
    samples = ImageSamples(dataset, dataset.rows("train"), CutTransform(train_transform(8, **NORM), 512))
    first = samples[(5, 17)][0]
    torch.rand(3)
    again = samples[(5, 17)][0]
    assert torch.equal(first.window, again.window)
    assert first[1:] == again[1:]
    assert len({samples[(5, seed)][0].window.shape for seed in range(9)}) > 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_images_of_a_cpu() -> None:
    transform = CutTransform(train_transform(224, random_erasing=0.5, **NORM), 512)
    samples = [(cut(transform, *pair), 0, 0) for pair in zip(photos(len(SEEDS)), SEEDS, strict=True)]
    together = transform.collate(samples)[0]
    on_gpu = together._replace(
        **{name: value.cuda() for name, value in together._asdict().items() if isinstance(value, Tensor)}
    )
    torch.testing.assert_close(on_gpu.images(normalise).cpu(), together.images(normalise))
    unerased = [group._replace(erased=None).images(normalise).cpu() for group in (on_gpu, together)]
    assert torch.equal(*unerased)
