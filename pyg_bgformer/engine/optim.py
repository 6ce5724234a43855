"""The optimiser and the schedule of the learning rates."""

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

from pyg_bgformer.config.schema import TrainConfig
from pyg_bgformer.errors import InputError
from pyg_bgformer.methods import Method, ParameterGroup


def build_optimizer(method: Method, config: TrainConfig, *, fused: bool = False) -> torch.optim.Optimizer:
    """Returns the recipe's optimiser for all trainable parameters. Each parameter group has its learning rate.

    Args:
        method: The method whose parameter groups are optimised.
        config: The recipe's section.
        fused: Use the fused version of adamw, which is faster on a GPU.

    Raises:
        InputError: If a trainable parameter is in no group, or in several groups.
    """
    groups = [
        {**group, "lr": _learning_rate(group, config), "params": trainable}
        for group in method.parameter_groups()
        if (trainable := [p for p in group["params"] if p.requires_grad])
    ]
    check_complete(method, groups)
    match config.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=config.weight_decay, fused=fused or None)
        case "radam":
            return torch.optim.RAdam(groups, weight_decay=config.weight_decay, decoupled_weight_decay=True)
        case "adam":
            return torch.optim.Adam(groups, weight_decay=config.weight_decay)
        case "sgd":
            return torch.optim.SGD(groups, momentum=config.momentum, weight_decay=config.weight_decay)


def build_schedule(optimizer: torch.optim.Optimizer, config: TrainConfig) -> LRScheduler:
    """Returns the schedule of the learning rates, which is stepped once in each epoch.

    Args:
        optimizer: The optimiser. A parameter group may have its own ``schedule``.
        config: The recipe's section.
    """
    names = [group.get("schedule", config.schedule) for group in optimizer.param_groups]
    return LambdaLR(optimizer, [_factor(name, config) for name in names])


def _factor(schedule: str, config: TrainConfig) -> Callable[[int], float]:
    """Returns the factor of a learning rate as a function of the number of finished epochs."""
    match schedule:
        case "constant":
            return lambda _: 1.0
        case "cosine":
            return lambda epoch: (1 + math.cos(math.pi * epoch / config.epochs)) / 2
        case "step":
            milestones = sorted(config.milestones)
            return lambda epoch: config.gamma ** bisect_right(milestones, epoch)
    raise ValueError(f"schedule must be constant, cosine or step, found {schedule!r}")


def check_complete(method: Method, groups: list[dict[str, Any]]) -> None:
    """Raises an error unless each trainable parameter is in exactly one group.

    Args:
        method: The method.
        groups: Its parameter groups.

    Raises:
        InputError: If a parameter is in no group, or in several groups. It would not be trained, or twice.
    """
    times: dict[int, int] = {}
    for group in groups:
        for parameter in group["params"]:
            times[id(parameter)] = times.get(id(parameter), 0) + 1
    for name, parameter in method.named_parameters():
        count = times.get(id(parameter), 0)
        if parameter.requires_grad and count != 1:
            raise InputError(
                f"trainable parameter {name} is in {count} parameter groups of {type(method).__name__}, "
                "expected 1; see its parameter_groups()"
            )


def _learning_rate(group: ParameterGroup, config: TrainConfig) -> float:
    if "lr" in group:
        return group["lr"]
    own = {"head": config.head_lr, "loss": config.loss_lr}.get(group["name"])
    return config.lr if own is None else own
