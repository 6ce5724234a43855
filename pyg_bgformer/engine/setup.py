"""A configuration's parts: device, method, and loaders of images."""

from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.utils.data import DataLoader

from pyg_bgformer.config.schema import Config
from pyg_bgformer.data import ImageCache, ImageDataset, ImageSamples, PlannedSampler, load_dataset, samplers
from pyg_bgformer.data.noise import NoisySamples, mislabelled
from pyg_bgformer.data.splits import validation_part
from pyg_bgformer.data.transforms import eval_transform, train_transform
from pyg_bgformer.encoders import Encoder, build_encoder
from pyg_bgformer.engine.frozen import frozen_samples
from pyg_bgformer.engine.interruption import ignore_interrupts
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import GEOMETRIES
from pyg_bgformer.losses import build_loss
from pyg_bgformer.methods import METHODS, Method
from pyg_bgformer.runs.folder import RunFolder

Batches = DataLoader[tuple[Tensor, int, int]]
"""Loads ``images (B, 3, S, S)``, ``labels (B,)`` and ``rows (B,)``: samples, collated."""


def build_dataset(config: Config) -> ImageDataset:
    """The recipe's dataset; see :func:`pyg_bgformer.data.load_dataset` for what it refuses."""
    data = config.data
    return load_dataset(
        data.name,
        data.root,
        variant=data.variant,
        allow_partial=data.allow_partial,
        crop_to_box=data.crop_to_box,
        min_images=data.min_images,
    )


def protocol_part(config: Config, dataset: ImageDataset) -> ImageDataset:
    """The dataset with the splits that the recipe's protocol trains and tests on."""
    protocol = config.protocol
    if protocol.name == "validation":
        return validation_part(dataset, protocol.folds, protocol.fold)
    return dataset


def training_part(config: Config, dataset: ImageDataset) -> ImageDataset:
    """What the training sees of the protocol's part: some of its labels are wrong where the recipe says so."""
    return mislabelled(dataset, config.data.label_noise, config.seed)


def build_fabric(config: Config) -> Fabric:
    """Device and precision.

    Raises:
        InputError: If this machine has no such device, or the device no such precision.
    """
    device = config.train.device
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device: found no cuda device; use auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and config.train.precision == "16-mixed":
        raise InputError("train.precision: 16-mixed needs a cuda device; use 32-true or bf16-mixed on a cpu")
    return Fabric(accelerator=device, devices=1, precision=config.train.precision)


def build_method(config: Config, num_classes: int, encoder: Encoder | None = None) -> Method:
    """Returns the recipe's method with its encoder and loss, initialised by torch's current random numbers.

    Args:
        config: The run.
        num_classes: Number of training classes.
        encoder: Used in the place of the recipe's, whose weights are then not read.

    Raises:
        InputError: If a name is not known, weights do not fit, or an option is out of its range.
    """
    method = METHODS.find(config.method.name)  # before weights are read
    if encoder is None:
        encoder = build_encoder(config.encoder.name, **config.encoder.options)
    try:
        geometry = GEOMETRIES.find(config.geometry.name)(**config.geometry.options)
        loss = build_loss(
            config.loss.name,
            config.loss.options,
            geometry=geometry,
            num_classes=num_classes,
            embedding_dim=encoder.embedding_dim,
        )
        built = method(encoder, loss, geometry, num_classes, **config.method.options)
    except InputError:
        raise
    except ValueError as error:  # our modules check their own arguments
        raise InputError(f"method {config.method.name}, loss {config.loss.name}: {error}") from error
    # The layout in memory that convolutions are fastest in: MobileNetV2 trains 1.7 times as fast on a CPU.
    return built.to(memory_format=torch.channels_last)


def build_sampler(config: Config, dataset: ImageDataset) -> PlannedSampler:
    """Returns the recipe's sampler over the training images."""
    train = dataset.table.iloc[dataset.rows("train")]
    return samplers.build_sampler(
        config.sampler.name,
        train["label"].to_numpy(),
        super_class_labels=train["super_class"].to_numpy() if "super_class" in train else None,
        seed=config.seed,
        **config.sampler.options,
    )


def train_samples(
    config: Config, dataset: ImageDataset, encoder: Encoder, cache: ImageCache | None
) -> NoisySamples:
    """Returns the training images, augmented; not augmented for a frozen encoder that is trained on no views.

    Args:
        config: The run.
        dataset: What the training sees.
        encoder: Says how images are normalised.
        cache: Decoded images to read instead of the files.
    """
    data, norm = config.data, {"mean": encoder.mean, "std": encoder.std}
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
    noise: dict[str, Any] = {"share": data.image_noise, "seed": config.seed, "size": data.image_size}
    return NoisySamples(dataset, dataset.rows("train"), transform, cache, **noise)


def build_train_loader(
    config: Config, dataset: ImageDataset, encoder: Encoder, sampler: PlannedSampler, cache: ImageCache | None
) -> Batches:
    """Returns training images, augmented, in the sampler's order; of a frozen encoder their features.

    The reduction of a frozen encoder is fitted to these features.
    """
    samples = train_samples(config, dataset, encoder, cache)
    if not encoder.spec.frozen:
        return DataLoader(samples, batch_sampler=sampler, **_loading(config))
    features = frozen_samples(samples, encoder, views=config.data.views, **_extraction(config))
    if encoder.spec.pca_dim is not None:
        encoder.fit_pca(features.features.flatten(0, 1))
    return DataLoader(features, batch_sampler=sampler, **_loading(config, workers=0))


def test_splits(dataset: ImageDataset) -> list[str]:
    """The splits that are tested: ``test``, or ``query`` and ``gallery``."""
    return ["query", "gallery"] if "query" in dataset.counts() else ["test"]


def build_test_loaders(
    config: Config, dataset: ImageDataset, encoder: Encoder, cache: ImageCache | None
) -> list[Batches]:
    """Returns images of each of :func:`test_splits`, resized and centre-cropped, in the table's order.

    Of a frozen encoder these are their features.
    """
    data = config.data
    transform = eval_transform(data.image_size, resize=data.resize, mean=encoder.mean, std=encoder.std)
    loaders = []
    for split in test_splits(dataset):
        images = ImageSamples(dataset, dataset.rows(split), transform, cache)
        frozen = frozen_samples(images, encoder, **_extraction(config)) if encoder.spec.frozen else None
        loading = _loading(config) if frozen is None else _loading(config, workers=0)
        loaders.append(DataLoader(frozen or images, batch_size=config.evaluation.batch_size, **loading))
    return loaders


def new_run_folder(config: Config, stamp: str) -> RunFolder:
    """Makes ``runs/<dataset>-<method>-seed<seed>-<stamp>`` with its recipe.

    A number is added to the name where there is such a folder already.

    Args:
        config: The run.
        stamp: The time, or another text that tells runs of one recipe apart.

    Raises:
        InputError: If it cannot be written.
    """
    name = f"{config.data.name}-{config.method.name}-seed{config.seed}-{stamp}"
    runs = Path(config.runs).expanduser()
    for number in count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            return RunFolder.create(path, config.as_dict())
    raise AssertionError("numbers do not end")


def _extraction(config: Config) -> dict[str, Any]:
    """Returns where and with what the features of a frozen backbone are computed."""
    folder = config.data.feature_cache
    return {
        "device": build_fabric(config).device,
        "workers": config.data.workers,
        "folder": None if folder is None else Path(folder).expanduser(),
    }


def _loading(config: Config, workers: int | None = None) -> dict[str, Any]:
    workers = config.data.workers if workers is None else workers
    return {
        "num_workers": workers,
        "worker_init_fn": ignore_interrupts,
        "persistent_workers": workers > 0,
        # Its own generator: with torch's, each new iterator would move the random numbers of the training.
        "generator": torch.Generator().manual_seed(config.seed),
        "pin_memory": torch.cuda.is_available() and config.train.device != "cpu",
    }
