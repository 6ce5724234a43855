"""Loaders of images: training batches in the order of the sampler, and test images."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.utilities import move_data_to_device
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from pyg_bgformer.config.schema import DataConfig
from pyg_bgformer.data import ImageCache, ImageDataset, ImageSamples, PlannedSampler
from pyg_bgformer.data.batched import BatchedTransform
from pyg_bgformer.data.cuts import Cuts, CutTransform
from pyg_bgformer.data.noise import NoisySamples
from pyg_bgformer.data.samplers.planned_sampler import Draw
from pyg_bgformer.data.transforms import eval_transform, train_transform
from pyg_bgformer.data.workers import leave_signals_to_main
from pyg_bgformer.encoders import Encoder
from pyg_bgformer.engine.frozen import frozen_samples
from pyg_bgformer.engine.processes import ALONE, Processes
from pyg_bgformer.engine.progress import Display
from pyg_bgformer.errors import InputError

Batch = tuple[Tensor | Cuts, Tensor, Tensor]
"""Images ``(B, 3, S, S)`` or cuts that become images, labels ``(B,)`` and rows of the dataset ``(B,)``."""

Batches = DataLoader[tuple[Tensor, int, int]]
"""Loads images ``(B, 3, S, S)``, labels ``(B,)`` and rows of the dataset ``(B,)``."""


class Upload:
    """Moves batches to a device.

    A GPU receives batches on a separate stream, while it still works on earlier batches.

    Args:
        device: The device that batches go to.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def __call__(self, batch: Batch) -> Batch:
        """Returns the batch on the device.

        Args:
            batch: The batch. It should be in pinned memory if the device is a GPU.
        """
        if self.stream is None:
            moved: Batch = move_data_to_device(batch, self.device)
            return moved
        working = torch.cuda.current_stream(self.device)
        with torch.cuda.stream(self.stream):
            images, labels, rows = move_data_to_device(batch, self.device)
        working.wait_stream(self.stream)
        for tensor in (*(images if isinstance(images, Cuts) else (images,)), labels, rows):
            if isinstance(tensor, Tensor):
                tensor.record_stream(working)  # keeps its memory until the work on it is done
        return images, labels, rows


def open_cache(data: DataConfig, dataset: ImageDataset, display: Display) -> ImageCache | None:
    """Returns the cache of decoded images, which is made at first use; :obj:`None` if the recipe wants no cache.

    Args:
        data: The recipe's section.
        dataset: The dataset.
        display: Shows the progress of decoding.

    Raises:
        InputError: If an image cannot be read, or the cache cannot be written.
    """
    if data.cache is None:
        return None
    with display.bar("decoding images", len(dataset.table)) as update:
        return ImageCache.open_or_build(
            dataset,
            data.cache_size,
            Path(data.cache).expanduser(),
            workers=data.workers,
            progress=lambda done, _: update(done, ""),
        )


def train_samples(
    data: DataConfig,
    seed: int,
    dataset: ImageDataset,
    encoder: Encoder,
    cache: ImageCache | None,
    *,
    normalised: bool = True,
) -> NoisySamples:
    """Returns the augmented training images. Without views, a frozen encoder gets images that are not augmented.

    Args:
        data: The recipe's section.
        seed: Decides which images are replaced by noise, if the recipe wants some.
        dataset: The dataset that training sees.
        encoder: Its mean and standard deviation normalise the images.
        cache: Decoded images to read instead of the files.
        normalised: Whether images are normalised. Otherwise they are uint8, and the encoder normalises them.
    """
    norm: dict[str, Any] = {"mean": encoder.mean, "std": encoder.std, "normalised": normalised}
    plain = encoder.spec.frozen and data.views is None
    transform = (
        eval_transform(data.image_size, resize=data.resize, **norm)
        if plain
        else train_transform(
            data.image_size,
            crop_scale=data.crop_scale,
            crop_ratio=data.crop_ratio,
            flip=data.flip,
            random_erasing=data.random_erasing,
            **norm,
        )
    )
    noise: dict[str, Any] = {"share": data.image_noise, "seed": seed, "size": data.image_size}
    return NoisySamples(dataset, dataset.rows("train"), transform, cache, **noise)


def build_train_loader(
    data: DataConfig,
    seed: int,
    dataset: ImageDataset,
    encoder: Encoder,
    sampler: PlannedSampler,
    cache: ImageCache | None,
    *,
    device: torch.device,
    processes: Processes = ALONE,
) -> Batches:
    """Returns a loader of augmented training images in the order of the sampler.

    With ``augment_on: device`` the images are :class:`~pyg_bgformer.data.cuts.Cuts`. Each process loads its part of
    a batch. A frozen encoder gets features instead of images, and each process loads all of them. If the encoder
    reduces its features (``pca_dim``), the reduction is fitted here.

    Args:
        data: The recipe's section.
        seed: See :func:`train_samples`.
        dataset: The dataset that training sees.
        encoder: Its mean and standard deviation normalise the images.
        sampler: Decides the batches.
        cache: Decoded images to read instead of the files.
        device: The device that batches go to. Features of a frozen encoder are computed there.
        processes: The processes of the run. Each one loads a part of a batch.

    Raises:
        InputError: If images cannot be augmented on the device.
    """
    samples = train_samples(data, seed, dataset, encoder, cache, normalised=not _uint8(data, encoder, device))
    if not encoder.spec.frozen:
        collate = None
        if data.augment_on == "device":
            if device.type == "mps":  # mps has no float64
                raise InputError(
                    "data.augment_on: device works on cuda and cpu, found mps; set it to workers"
                )
            assert isinstance(samples.transform, BatchedTransform)
            cutting = CutTransform(samples.transform, data.cache_size)
            samples.transform, collate = cutting, cutting.collate
        batches = OwnPart(sampler, processes)
        return DataLoader(samples, batch_sampler=batches, collate_fn=collate, **_loading(data, device))
    features = frozen_samples(samples, encoder, views=data.views, **_extraction(data, device))
    if encoder.spec.pca_dim is not None:
        encoder.fit_pca(features.features.flatten(0, 1))
    return DataLoader(features, batch_sampler=sampler, **_loading(data, device, workers=0))


class OwnPart(Sampler[list[Draw]]):
    """Yields the part of each batch that belongs to this process.

    Args:
        sampler: Plans whole batches.
        processes: The processes of the run.
    """

    def __init__(self, sampler: PlannedSampler, processes: Processes) -> None:
        self.sampler = sampler
        self.processes = processes

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Draw]]:
        for batch in self.sampler:
            own = self.processes.part(len(batch))
            yield batch[own.start : own.stop]


def test_splits(dataset: ImageDataset) -> list[str]:
    """Returns the tested splits: ``query`` and ``gallery`` if they exist, otherwise ``test``, otherwise ``train``.

    Args:
        dataset: The dataset.
    """
    splits = dataset.counts()
    if "query" in splits:
        return ["query", "gallery"]
    return ["test" if "test" in splits else "train"]


def build_test_loaders(
    data: DataConfig,
    batch_size: int,
    dataset: ImageDataset,
    encoder: Encoder,
    cache: ImageCache | None,
    *,
    device: torch.device,
    processes: Processes = ALONE,
) -> list[Batches]:
    """Returns a loader for each of :func:`test_splits`: resized and cropped images in the order of the dataset.

    A frozen encoder gets features instead of images. Several processes share the batches, which are the same as
    those of one process.

    Args:
        data: The recipe's section.
        batch_size: Number of images in a batch.
        dataset: The dataset.
        encoder: Its mean and standard deviation normalise the images.
        cache: Decoded images to read instead of the files.
        device: The device that batches go to. Features of a frozen encoder are computed there.
        processes: The processes of the run. Each one loads a part of the batches.
    """
    norm: dict[str, Any] = {
        "mean": encoder.mean,
        "std": encoder.std,
        "normalised": not _uint8(data, encoder, device),
    }
    transform = eval_transform(data.image_size, resize=data.resize, **norm)
    loaders = []
    for split in test_splits(dataset):
        images = ImageSamples(dataset, dataset.rows(split), transform, cache)
        frozen = frozen_samples(images, encoder, **_extraction(data, device)) if encoder.spec.frozen else None
        loading = _loading(data, device) if frozen is None else _loading(data, device, workers=0)
        batches = processes.part(math.ceil(len(images) / batch_size))
        own = range(batches.start * batch_size, min(batches.stop * batch_size, len(images)))
        loaders.append(DataLoader(frozen or images, batch_size=batch_size, sampler=own, **loading))
    return loaders


def _extraction(data: DataConfig, device: torch.device) -> dict[str, Any]:
    """Returns the arguments of :func:`frozen_samples` that the recipe sets."""
    folder = data.feature_cache
    return {
        "device": device,
        "workers": data.workers,
        "folder": None if folder is None else Path(folder).expanduser(),
    }


def _uint8(data: DataConfig, encoder: Encoder, device: torch.device) -> bool:
    """Returns whether images stay uint8 until they are on the device. That is a quarter of the bytes to move.

    On a CPU the worker processes normalise images, because the training process has less time.
    """
    return device.type == "cuda" and not encoder.spec.frozen and not data.random_erasing


def _loading(data: DataConfig, device: torch.device, workers: int | None = None) -> dict[str, Any]:
    workers = data.workers if workers is None else workers
    return {
        "num_workers": workers,
        "worker_init_fn": leave_signals_to_main,
        "persistent_workers": workers > 0,
        # Its own generator. With torch's generator, each new iterator would change the random numbers of training.
        "generator": torch.Generator(),
        "pin_memory": device.type == "cuda",
    }
