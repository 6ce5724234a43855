"""The state of a training that is enough to go on exactly where it stopped."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from pyg_bgformer.errors import InputError
from pyg_bgformer.methods import Method
from pyg_bgformer.runs.folder import RunFolder


@dataclass
class TrainState:
    """What training changes.

    Args:
        method: Model and loss.
        optimizer: Its optimiser.
        schedule: Learning rates by epoch.
        epoch: Epochs finished.
        batch: Batches finished of the epoch after those.
        seconds: Time spent in training so far.
        sums: Of each loss term over the unfinished epoch.
        insight: What was measured on the first batch of the unfinished epoch.
        first_spread: Spread of the features of the very first batch.
        history: What was logged of each finished epoch.
        best: The method's state after the best epoch, where the protocol keeps that, on the CPU.
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


def save_checkpoint(fabric: Fabric, state: TrainState, folder: RunFolder, method_name: str) -> None:
    """Writes ``checkpoint.pt``, whole or not at all: tensors and plain values only."""
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    content = {
        "method_name": method_name,
        "method": state.method.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "schedule": state.schedule.state_dict(),
        "scaler": scaler.state_dict() if scaler is not None else {},
        "epoch": state.epoch,
        "batch": state.batch,
        "seconds": state.seconds,
        "sums": state.sums,
        "insight": state.insight,
        "first_spread": state.first_spread,
        "history": state.history,
        "best": state.best,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if fabric.device.type == "cuda" else [],
    }
    with folder.writing(folder.checkpoint) as path:
        torch.save(content, path)


def load_checkpoint(fabric: Fabric, state: TrainState, folder: RunFolder, method_name: str) -> None:
    """Sets ``state``, and torch's random numbers, to what :func:`save_checkpoint` wrote.

    Raises:
        InputError: If there is no checkpoint, it is damaged, or it is another method's.
    """
    content = read_checkpoint(folder.checkpoint)
    found = content["method_name"]
    if found != method_name:
        raise InputError(f"{folder.checkpoint} is of method '{found}', the recipe's is '{method_name}'")
    try:
        state.method.load_state_dict(content["method"])
        state.optimizer.load_state_dict(content["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        line = " ".join(str(error).split())
        raise InputError(f"{folder.checkpoint} does not fit the recipe beside it: {line}") from error
    state.schedule.load_state_dict(content["schedule"])
    if content["scaler"]:
        fabric.strategy.precision.scaler.load_state_dict(content["scaler"])  # type: ignore[attr-defined]
    for name in ("epoch", "batch", "seconds", "sums", "insight", "first_spread", "history", "best"):
        setattr(state, name, content[name])
    torch.set_rng_state(content["rng"].cpu())
    if content["cuda_rng"]:
        torch.cuda.set_rng_state_all([generator.cpu() for generator in content["cuda_rng"]])


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Returns what :func:`save_checkpoint` wrote.

    Args:
        path: The file.

    Raises:
        InputError: If it is missing, damaged, or something else.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: the run stopped before its first checkpoint; start it anew")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds for damaged files, all meaning this
        raise InputError(f"{path} is damaged or not a checkpoint ({type(error).__name__})") from error
    if not isinstance(content, dict) or "method_name" not in content:
        raise InputError(f"{path} is not a checkpoint of pyg_bgformer")
    return content
