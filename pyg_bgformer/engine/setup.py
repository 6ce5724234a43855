"""A configuration's parts: device, dataset, sampler and method, put together."""

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
    """Everything that a run works with.

    Args:
        config: The run.
        fabric: Device and precision.
        processes: The processes that carry out the run.
        dataset: All images.
        tested: The dataset with the splits that the protocol trains and tests on.
        sampler: Decides the training batches.
        encoding: How training batches are encoded.
        state: Method, optimiser and schedule, and how far the training is.
        train_loader: Training batches in the order of the sampler.
        test_loaders: Images of each of :func:`~pyg_bgformer.engine.loaders.test_splits`.
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
        """The method that is trained."""
        return self.state.method

    @property
    def origin(self) -> Origin:
        """What the run's checkpoints belong to."""
        return Origin(self.config.method.name, self.dataset.manifest_hash)


def build_parts(
    config: Config, dataset: ImageDataset, display: Display, fabric: Fabric | None = None
) -> Parts:
    """Builds what a run works with, and finds the mistakes in a recipe before anything is written.

    Weights are initialised by torch's current random numbers, from which training continues.

    Args:
        config: The run.
        dataset: See :func:`build_dataset`.
        display: Shows the progress of decoding.
        fabric: Launched; by default that of the recipe.

    Raises:
        InputError: The recipe does not fit the data, the machine, or itself.
    """
    fabric = build_fabric(config.train) if fabric is None else fabric
    processes = processes_of(fabric)
    tested = protocol_part(config.protocol, dataset)
    trained = training_part(config, tested)
    sampler = build_sampler(config.sampler, trained, config.seed)
    with processes.first_ahead():  # it fetches weights
        method = build_method(config, num_classes=tested.counts()["train"].classes)
    for note in (*sampler.notes, *method.encoder.notes):
        display.line(note)
    check_batches(config, sampler, method, processes)
    method.encoder.check_image_size(config.data.image_size)
    encoding = build_encoding(config, method.encoder, fabric.device, processes)
    # Fabric cannot clip gradients that a fused optimiser unscales itself, as it does in 16-mixed.
    fused = fabric.device.type == "cuda" and config.train.precision != "16-mixed"
    optimizer = build_optimizer(method, config.train, fused=fused)
    where: dict[str, Any] = {"device": fabric.device, "processes": processes}
    with processes.first_ahead():  # it writes the caches
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
    """Seeds torch's random numbers as long as the block lasts, and restores those of the caller afterwards.

    Args:
        seed: Decides every random number in the block.
    """
    devices = list(range(torch.cuda.device_count()))
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


@contextmanager
def deterministic_algorithms(wanted: bool) -> Iterator[None]:
    """Lets torch use deterministic algorithms alone as long as the block lasts, if that is wanted.

    On a CPU the algorithms are deterministic anyway.

    Args:
        wanted: Otherwise nothing is changed.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if wanted:
        # cuBLAS reads this when it is first used, and repeats its sums only with work space of a fixed size
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(wanted or before)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def build_dataset(data: DataConfig) -> ImageDataset:
    """Returns the recipe's dataset; see :func:`pyg_bgformer.data.load_dataset` for what it refuses.

    Args:
        data: The recipe's section.
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
    """
    if protocol.name == "validation":
        return validation_part(dataset, protocol.folds, protocol.fold)
    return dataset


def training_part(config: Config, dataset: ImageDataset) -> ImageDataset:
    """Returns what training sees of a dataset: some labels are wrong where the recipe says so.

    Args:
        config: The run.
        dataset: See :func:`protocol_part`.
    """
    return mislabelled(dataset, config.data.label_noise, config.seed)


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
    except InputError:
        raise
    except ValueError as error:  # parts of a user's own may raise it
        raise InputError(f"geometry {config.geometry.name}, loss {config.loss.name}: {error}") from error
    try:
        built = method(encoder, loss, geometry, num_classes, **config.method.options)
    except ValueError as error:
        raise InputError(f"method {config.method.name}: {error}") from error
    # The layout in memory that convolutions are fastest in: MobileNetV2 trains 1.7 times as fast on a CPU.
    return built.to(memory_format=torch.channels_last)


def compile_networks(method: Method, device: torch.device) -> None:
    """Compiles the backbone and the method's own networks in place. Names and weights stay as they are.

    Args:
        method: The run's method.
        device: Where it is trained.

    Raises:
        InputError: There is no C++ compiler, which compiling for a CPU needs.
    """
    compiler = os.environ.get("CXX", "g++")
    if device.type == "cpu" and shutil.which(compiler) is None:
        raise InputError(
            f"train.compile: found no C++ compiler {compiler}, which compiling for a cpu needs; install one, or "
            "set train.compile to false"
        )
    own = [module for name, module in method.named_children() if name not in ("encoder", "loss")]
    for module in (method.encoder.backbone, *own):
        module.compile()


def build_sampler(sampler: Component, dataset: ImageDataset, seed: int) -> PlannedSampler:
    """Returns the recipe's sampler over the training images.

    Args:
        sampler: The recipe's section.
        dataset: Its training images are sampled.
        seed: Decides every plan.
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
    """Refuses batches with fewer images than processes, or of a single class for a loss that compares classes.

    A loss without parameters has no proxies, so the other samples of a batch are all that it compares with.

    Args:
        config: The run.
        sampler: The run's sampler.
        method: The run's method.
        processes: Each of them encodes a part of a batch.

    Raises:
        InputError: The loss would learn nothing from such batches, or a process would get no image.
    """
    if sampler.batch_size < processes.count:
        raise InputError(
            f"train.devices: found {processes.count} processes, expected at most {sampler.batch_size}, the images "
            "of a batch"
        )
    single = sampler.classes == 1 and config.sampler.name != "random"
    if single and not list(method.loss.parameters()):
        raise InputError(
            f"sampler.classes: loss {config.loss.name} compares samples of different classes, expected at least 2 "
            "classes in a batch, found 1"
        )


def build_encoding(
    config: Config, encoder: Encoder, device: torch.device, processes: Processes = ALONE
) -> Encoding:
    """Returns how training batches are encoded.

    Args:
        config: The run.
        encoder: The method's.
        device: Where it is trained.
        processes: Each of them encodes a part of a batch.

    Raises:
        InputError: The encoder cannot be trained in pieces.
    """
    chunk = config.train.encode_chunk
    if encoder.spec.frozen or (chunk is None and processes.count == 1):
        return IN_ONE_PIECE
    if encoder.trains_batchnorm and chunk is not None:
        raise InputError(
            f"train.encode_chunk: BatchNorm of {config.encoder.name} would see {chunk} images in the place of the "
            "batch; set encoder.frozen_batchnorm: true, or leave train.encode_chunk out"
        )
    if encoder.trains_batchnorm and config.train.compile:
        raise InputError(
            f"train.compile: BatchNorm of {config.encoder.name} is taken over several processes, which cannot be "
            "compiled; set encoder.frozen_batchnorm: true, or train.compile: false"
        )
    random = draws_random_numbers(encoder.backbone, config.data.image_size)
    if random and device.type == "mps":
        raise InputError(
            f"train.encode_chunk: {config.encoder.name} draws random numbers, which cannot be repeated on mps; "
            "train on cuda or cpu, or leave train.encode_chunk out"
        )
    return Encoding(chunk, random, processes)


def new_run_folder(config: Config, stamp: str, out: Path | None = None) -> RunFolder:
    """Makes ``runs/<dataset>-<method>-seed<seed>-<stamp>`` with its recipe.

    A number is added to the name if there is such a folder already.

    Args:
        config: The run.
        stamp: The time, or another text that tells runs of one recipe apart.
        out: The folder, in the place of the one that is named so.

    Raises:
        InputError: If it cannot be written, or ``out`` exists and is not empty.
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
    raise AssertionError("numbers do not end")
