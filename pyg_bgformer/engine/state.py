"""The state of a training, and the checkpoint that resumes it exactly."""

import hashlib
import io
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from pyg_bgformer.errors import InputError, one_line
from pyg_bgformer.methods import Method
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.typed import checked


@dataclass
class TrainState:
    """Everything that training changes.

    Args:
        method: Model and loss.
        optimizer: The method's optimiser.
        schedule: Learning rates by epoch.
        epoch: Number of finished epochs.
        batch: Number of finished batches in the current epoch.
        seconds: Duration of the training so far.
        sums: Sum of each logged scalar over the current epoch.
        insight: Measurements on the first batch of the current epoch.
        first_spread: Spread of the features of the first batch of the run.
        history: One row of logged scalars for each finished epoch.
        best: The method's state after the best epoch, on the CPU. Empty if the protocol keeps no best epoch.
    """

    method: Method
    optimizer: torch.optim.Optimizer
    schedule: LRScheduler
    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    insight: dict[str, float] = field(default_factory=dict)
    first_spread: float | None = None
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)


COUNTED = ("epoch", "batch", "seconds", "sums", "insight", "first_spread", "history", "best")
"""Attributes of a :class:`TrainState` that a checkpoint stores unchanged."""


@dataclass(frozen=True)
class Origin:
    """The method and the dataset that a checkpoint belongs to.

    Args:
        method: Name of the method.
        manifest: SHA-256 of the dataset's table.
    """

    method: str
    manifest: str


@dataclass
class Checkpoint:
    """The content of ``checkpoint.pt``: tensors and plain values only.

    Args:
        origin: The method and the dataset that it belongs to.
        method: State of the method.
        optimizer: State of the optimiser.
        schedule: State of the schedule.
        scaler: State of the gradient scaler. Empty if there is none.
        rng: Torch's random state on the CPU.
        cuda_rng: Torch's random state on the GPU. Empty if there is none.
        epoch, batch, seconds, sums, insight, first_spread, history, best: See :class:`TrainState`.
    """

    origin: Origin
    method: dict[str, Tensor]
    optimizer: dict[str, Any]
    schedule: dict[str, Any]
    scaler: dict[str, Any]
    rng: Tensor
    cuda_rng: list[Tensor]
    epoch: int
    batch: int
    seconds: float
    sums: dict[str, float]
    insight: dict[str, float]
    first_spread: float | None
    history: list[dict[str, float]]
    best: dict[str, Tensor]


def save_checkpoint(fabric: Fabric, state: TrainState, folder: RunFolder, origin: Origin) -> None:
    """Writes ``checkpoint.pt`` with a checksum, whole or not at all.

    Args:
        fabric: Device and precision.
        state: The training.
        folder: The run's folder.
        origin: The method and the dataset that the checkpoint belongs to.

    Raises:
        RunError: If the file cannot be written.
    """
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    checkpoint = Checkpoint(
        origin=origin,
        method=dict(state.method.state_dict()),
        optimizer=state.optimizer.state_dict(),
        schedule=state.schedule.state_dict(),
        scaler=scaler.state_dict() if scaler is not None else {},
        rng=torch.get_rng_state(),
        cuda_rng=[torch.cuda.get_rng_state(fabric.device)] if fabric.device.type == "cuda" else [],
        **{name: getattr(state, name) for name in COUNTED},
    )
    content = {part.name: getattr(checkpoint, part.name) for part in fields(checkpoint)}
    content["origin"] = asdict(origin)
    with folder.writing(folder.checkpoint) as path:
        try:
            torch.save(content, path)
        except RuntimeError as error:  # torch raises it for a full disk
            raise OSError("the disk may be full") from error
        seal(path)


def load_checkpoint(fabric: Fabric, state: TrainState, folder: RunFolder, origin: Origin) -> None:
    """Restores a training and torch's random state from the checkpoint that :func:`save_checkpoint` wrote.

    Args:
        fabric: Device and precision.
        state: The training, changed in place.
        folder: The run's folder.
        origin: The method and the dataset that the checkpoint must belong to.

    Raises:
        InputError: If there is no checkpoint, it is damaged, or it does not belong to this recipe and data.
    """
    path = folder.checkpoint
    checkpoint = read_checkpoint(path)
    found = checkpoint.origin
    if found.method != origin.method:
        raise InputError(
            f"{path}: found method '{found.method}', expected '{origin.method}' as in the recipe"
        )
    if found.manifest != origin.manifest:
        raise InputError(
            f"the dataset has changed since {path} was written (its table's hash was {found.manifest[:12]} and is "
            f"now {origin.manifest[:12]}); restore the images and their classes, or start a new run"
        )
    try:
        state.method.load_state_dict(checkpoint.method)
        state.optimizer.load_state_dict(checkpoint.optimizer)
        state.schedule.load_state_dict(checkpoint.schedule)
        if checkpoint.scaler:
            fabric.strategy.precision.scaler.load_state_dict(checkpoint.scaler)  # type: ignore[attr-defined]
        torch.set_rng_state(checkpoint.rng)
        if checkpoint.cuda_rng:
            torch.cuda.set_rng_state(checkpoint.cuda_rng[0], fabric.device)
        follow_schedule(state)
    except Exception as error:  # torch raises many kinds of errors for the states of another model
        line = shorten(one_line(error), 300, placeholder=" ...")  # torch names every tensor
        raise InputError(f"{path} does not fit the recipe beside it: {line}") from error
    for name in COUNTED:
        setattr(state, name, getattr(checkpoint, name))


def follow_schedule(state: TrainState) -> None:
    """Sets the learning rates to those of the schedule for the next epoch.

    They only differ from the checkpoint's if the number of epochs has changed since.

    Args:
        state: The training, changed in place.
    """
    schedule: Any = state.schedule
    rates = [
        base * factor(state.schedule.last_epoch)
        for base, factor in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
    ]
    for group, rate in zip(state.optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    schedule._last_lr = rates


def read_checkpoint(path: Path) -> Checkpoint:
    """Returns the content of a checkpoint. Only tensors and plain values are unpickled.

    Args:
        path: The file.

    Raises:
        InputError: If the file is missing, damaged or not a checkpoint.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing, because the run stopped before it wrote one; start a new run")
    content = path.read_bytes()
    if not is_sealed(content):
        raise InputError(f"{path} is damaged: its content does not match its checksum; start a new run")
    try:
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors for files that it cannot read
        raise InputError(f"{path} is not a checkpoint ({type(error).__name__}); start a new run") from error
    checkpoint: Checkpoint = checked(values, Checkpoint, f"checkpoint {path}")
    if checkpoint.epoch != len(checkpoint.history) or checkpoint.batch < 0:
        raise InputError(
            f"checkpoint {path} is after epoch {checkpoint.epoch}, batch {checkpoint.batch}, but has the log of "
            f"{len(checkpoint.history)} epochs: it is damaged; start a new run"
        )
    return checkpoint


SEAL_LENGTH = 64
"""Number of hexadecimal digits of a SHA-256."""


def seal(path: Path) -> None:
    """Appends the SHA-256 of a zip file as its comment, which the zip format allows at the end of a file.

    PyTorch can still read the file. It does not verify the checksums of the zip format, so they are not enough.

    Args:
        path: A file that :func:`torch.save` wrote.
    """
    with open(path, "r+b") as file:
        file.seek(-2, os.SEEK_END)
        file.write(SEAL_LENGTH.to_bytes(2, "little"))  # the last field of a zip file is the comment's length
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.write(digest.encode())


def is_sealed(content: bytes) -> bool:
    """Returns whether a file ends with the SHA-256 of everything before it.

    Args:
        content: All bytes of the file.
    """
    body, digest = memoryview(content)[:-SEAL_LENGTH], content[-SEAL_LENGTH:]
    return hashlib.sha256(body).hexdigest().encode() == digest
