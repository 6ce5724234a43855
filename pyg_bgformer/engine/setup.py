"""Builds the parts of a run from its configuration: device, dataset, sampler, method, optimiser and loaders."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from pyg_bgformer.config.schema import Component, Config, DataConfig, ProtocolConfig
from pyg_bgformer.data import ImageDataset, PlannedSampler, load_dataset, samplers
from pyg_bgformer.data.noise import mislabelled
from pyg_bgformer.data.splits import validation_part
from pyg_bgformer.encoders import Encoder, build_encoder
from pyg_bgformer.engine.encoding import IN_ONE_PIECE, Encoding
from pyg_bgformer.engine.launch import build_fabric, processes_of
from pyg_bgformer.engine.loaders import Batches, build_test_loaders, build_train_loader, open_cache
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.processes import ALONE, Processes
from pyg_bgformer.engine.progress import Display
from pyg_bgformer.engine.row_draws import draws_random_numbers
from pyg_bgformer.engine.state import Origin, TrainState
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import GEOMETRIES
from pyg_bgformer.losses import build_loss
from pyg_bgformer.methods import METHODS, Method
from pyg_bgformer.runs.folder import RunFolder


@dataclass
class Parts:
    """The parts of a run.

    Args:
        config: The run.
        fabric: Device and precision.
        processes: The processes of the run.
        dataset: All images.
        tested: The dataset with the splits that the protocol trains and tests on.
        sampler: Chooses the training batches.
        encoding: How training batches are encoded.
        state: Method, optimiser, schedule and progress of the training.
        train_loader: Loads training batches in the order of the sampler.
        test_loaders: A loader for each of :func:`~pyg_bgformer.engine.loaders.test_splits`.
    """

    config: Config
    fabric: Fabric
    processes: Processes
    dataset: ImageDataset
    tested: ImageDataset
    sampler: PlannedSampler
    encoding: Encoding
    state: TrainState
    train_loader: Batches
    test_loaders: list[Batches]

    @property
    def method(self) -> Method:
        """The trained method."""
        return self.state.method

    @property
    def origin(self) -> Origin:
        """The method and the dataset that the run's checkpoints belong to."""
        return Origin(self.config.method.name, self.dataset.manifest_hash)


def build_parts(
    config: Config, dataset: ImageDataset, display: Display, fabric: Fabric | None = None
) -> Parts:
    """Returns the parts of a run. Mistakes in a recipe are found here, before anything is written.

    Weights are initialised from torch's global random state, which training continues to use.

    Args:
        config: The run.
        dataset: The dataset from :func:`build_dataset`.
        display: Shows notes, and the progress of decoding.
        fabric: A Fabric after ``launch()``. ``None`` builds one from the recipe.

    Raises:
        InputError: If the recipe does not fit the data or the machine, or contradicts itself.
    """
    fabric = build_fabric(config.train) if fabric is None else fabric
    processes = processes_of(fabric)
    tested = protocol_part(config.protocol, dataset)
    trained = training_part(config, tested)
    sampler = build_sampler(config.sampler, trained, config.seed)
    with processes.first_ahead():  # the first process downloads weights
        method = build_method(config, num_classes=tested.counts()["train"].classes)
    for note in (*sampler.notes, *method.encoder.notes):
        display.line(note)
    check_batches(config, sampler, method, processes)
    method.encoder.check_image_size(config.data.image_size)
    encoding = build_encoding(config, method.encoder, fabric.device, processes)
    if config.train.compile and encoding.random:
        display.line(
            f"train.compile: {config.encoder.name} draws random numbers, so it is not compiled for batches that "
            "are encoded in parts"
        )
    # In 16-mixed, a fused optimiser unscales gradients itself, and Fabric cannot clip them.
    fused = fabric.device.type == "cuda" and config.train.precision != "16-mixed"
    optimizer = build_optimizer(method, config.train, fused=fused)
    where: dict[str, Any] = {"device": fabric.device, "processes": processes}
    with processes.first_ahead():  # the first process writes the caches
        cache = open_cache(config.data, dataset, display)
        train_loader = build_train_loader(
            config.data, config.seed, trained, method.encoder, sampler, cache, **where
        )
        test_loaders = build_test_loaders(
            config.data, config.evaluation.batch_size, tested, method.encoder, cache, **where
        )
    _, optimizer = fabric.setup(method, optimizer)
    if config.train.compile:
        compile_networks(method, fabric.device)
    state = TrainState(method, optimizer, build_schedule(optimizer, config.train))
    return Parts(
        config, fabric, processes, dataset, tested, sampler, encoding, state, train_loader, test_loaders
    )


@contextmanager
def own_random_numbers(seed: int) -> Iterator[None]:
    """Seeds torch's global random state for the block, and restores the state of the caller afterwards.

    Args:
        seed: Decides every random number in the block.
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Makes torch use only deterministic algorithms during the block.

    On a CPU the algorithms are deterministic in any case.

    Args:
        wanted: If false, nothing changes.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        # cuBLAS reads this at its first use. Its sums are only deterministic with a workspace of a fixed size.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def build_dataset(data: DataConfig) -> ImageDataset:
    """Returns the recipe's dataset.

    Args:
        data: The recipe's section.

    Raises:
        InputError: See :func:`pyg_bgformer.data.load_dataset`.
    """
    return load_dataset(
        data.name,
        data.root,
        variant=data.variant,
        allow_partial=data.allow_partial,
        crop_to_box=data.crop_to_box,
        min_images=data.min_images,
        holdout=data.holdout,
        holdout_seed=data.holdout_seed,
    )


def protocol_part(protocol: ProtocolConfig, dataset: ImageDataset) -> ImageDataset:
    """Returns the dataset with the splits that the protocol trains and tests on.

    Args:
        protocol: The recipe's section.
        dataset: All images.

    Raises:
        InputError: If the dataset cannot be split into these folds.
    """
    if protocol.name == "validation":
        return validation_part(dataset, protocol.folds, protocol.fold)
    return dataset


def training_part(config: Config, dataset: ImageDataset) -> ImageDataset:
    """Returns the dataset with the labels that training sees. The recipe may replace some of them.

    Args:
        config: The run.
        dataset: The dataset from :func:`protocol_part`.
    """
    return mislabelled(dataset, config.data.label_noise, config.seed)


def build_method(config: Config, num_classes: int, encoder: Encoder | None = None) -> Method:
    """Returns the recipe's method with its encoder and loss, initialised from torch's global random state.

    Args:
        config: The run.
        num_classes: Number of training classes.
        encoder: The encoder. ``None`` builds that of the recipe and reads its weights.

    Raises:
        InputError: If a name is unknown, weights do not fit, or an option is out of range.
    """
    method = METHODS.find(config.method.name)  # finds a wrong name before weights are read
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
    except InputError:
        raise
    except ValueError as error:  # parts of a plug-in may raise it
        raise InputError(f"geometry {config.geometry.name}, loss {config.loss.name}: {error}") from error
    try:
        built = method(encoder, loss, geometry, num_classes, **config.method.options)
    except ValueError as error:
        raise InputError(f"method {config.method.name}: {error}") from error
    # Convolutions are fastest in this memory layout: MobileNetV2 trains 1.7 times as fast on a CPU.
    return built.to(memory_format=torch.channels_last)


def compile_networks(method: Method, device: torch.device) -> None:
    """Compiles the backbone and the method's own networks in place. Their names and weights do not change.

    Args:
        method: The run's method.
        device: The device that it is trained on.

    Raises:
        InputError: If the device is a CPU and there is no C++ compiler.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise InputError(
            f"train.compile: found no C++ compiler {compiler}, which is needed on a cpu; install it, or set "
            "train.compile to false"
        )
    own = [module for name, module in method.named_children() if name not in ("encoder", "loss")]
    for module in (method.encoder.backbone, *own):
        module.compile()


def build_sampler(sampler: Component, dataset: ImageDataset, seed: int) -> PlannedSampler:
    """Returns the recipe's sampler over the training images.

    Args:
        sampler: The recipe's section.
        dataset: The dataset. Its training images are sampled.
        seed: Decides all batches.

    Raises:
        InputError: If the name is unknown, or the options do not fit the dataset.
    """
    train = dataset.table.iloc[dataset.rows("train")]
    return samplers.build_sampler(
        sampler.name,
        train["label"].to_numpy(),
        super_class_labels=train["super_class"].to_numpy() if "super_class" in train else None,
        seed=seed,
        **sampler.options,
    )


def check_batches(config: Config, sampler: PlannedSampler, method: Method, processes: Processes) -> None:
    """Raises an error if a batch has fewer images than processes, or only one class for a loss that needs several.

    A loss without parameters has no proxies. It only compares the samples of a batch with each other.

    Args:
        config: The run.
        sampler: The run's sampler.
        method: The run's method.
        processes: The processes of the run. Each one encodes a part of a batch.

    Raises:
        InputError: If the loss would learn nothing from such batches, or a process would get no image.
    """
    if sampler.batch_size < processes.count:
        raise InputError(
            f"train.devices: found {processes.count} processes, expected at most {sampler.batch_size}, the images "
            "in a batch"
        )
    single = sampler.classes == 1 and config.sampler.name != "random"
    if single and not list(method.loss.parameters()):
        raise InputError(
            f"sampler.classes: found 1 class in a batch, expected at least 2: loss {config.loss.name} compares "
            "samples of different classes"
        )


def build_encoding(
    config: Config, encoder: Encoder, device: torch.device, processes: Processes = ALONE
) -> Encoding:
    """Returns how training batches are encoded.

    Args:
        config: The run.
        encoder: The method's encoder.
        device: The device that it is trained on.
        processes: The processes of the run. Each one encodes a part of a batch.

    Raises:
        InputError: If the encoder cannot encode a batch in parts.
    """
    chunk = config.train.encode_chunk
    if encoder.spec.frozen or (chunk is None and processes.count == 1):
        return IN_ONE_PIECE
    if encoder.trains_batchnorm and chunk is not None:
        raise InputError(
            f"train.encode_chunk: BatchNorm of {config.encoder.name} would see {chunk} images instead of the whole "
            "batch; set encoder.frozen_batchnorm: true, or leave train.encode_chunk out"
        )
    if encoder.trains_batchnorm and config.train.compile:
        raise InputError(
            f"train.compile: BatchNorm of {config.encoder.name} over several processes cannot be compiled; set "
            "encoder.frozen_batchnorm: true, or train.compile: false"
        )
    random = draws_random_numbers(encoder.backbone, config.data.image_size)
    if random and device.type == "mps":
        raise InputError(
            f"train.encode_chunk: {config.encoder.name} draws random numbers, which cannot be repeated on mps; "
            "train on cuda or cpu, or leave train.encode_chunk out"
        )
    return Encoding(chunk, random, processes)


def new_run_folder(config: Config, stamp: str, out: Path | None = None) -> RunFolder:
    """Makes the folder ``runs/<dataset>-<method>-seed<seed>-<stamp>`` with its recipe and returns it.

    If the folder exists, a number is added to its name.

    Args:
        config: The run.
        stamp: The time, or another text that distinguishes runs of the same recipe.
        out: Another folder to make instead.

    Raises:
        InputError: If the folder cannot be written, or ``out`` exists and is not empty.
    """
    if out is not None:
        try:
            return RunFolder.create(out, config.as_dict())
        except FileExistsError as error:
            raise InputError(f"{out} exists already; choose another folder for the run") from error
    name = f"{config.data.name}-{config.method.name}-seed{config.seed}-{stamp}"
    runs = Path(config.runs).expanduser()
    for number in count(1):
        path = runs / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            return RunFolder.create(path, config.as_dict())
    raise AssertionError("the loop over all numbers does not end")
