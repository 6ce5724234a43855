"""Device, precision and processes of a run, with Lightning Fabric."""

import logging
import os
import sys
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.launchers.subprocess_script import _SubprocessScriptLauncher
from lightning_fabric.utilities.distributed import _set_num_threads_if_needed
from torch import nn

from pyg_bgformer.config.schema import TrainConfig
from pyg_bgformer.engine.processes import ALONE, Processes
from pyg_bgformer.engine.started import started_outside
from pyg_bgformer.errors import InputError

PATIENCE = timedelta(days=1)
"""How long a process waits for another one. The first may compute features or scores for hours."""


class Launcher(_SubprocessScriptLauncher):
    """Starts the same command again for each further process of this machine.

    Fabric's own launcher kills the first process when another one dies, before the first one can say why.
    """

    def launch(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Starts the processes and calls a function.

        Raises:
            InputError: If this program cannot be started again, for example because it is a notebook.
        """
        if not self.cluster_environment.creates_processes_externally:
            if not hasattr(sys.modules["__main__"], "__file__"):
                raise InputError(
                    "train.devices: several processes cannot start from a notebook; use pyg-bgformer run"
                )
            self._call_children_scripts()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        return function(*args, **kwargs)


class Replicated(DDPStrategy):
    """Fabric's strategy for several processes, without averaging gradients. The engine sums them itself."""

    def setup_module(self, module: nn.Module) -> nn.Module:  # type: ignore[override]
        """Returns the module unchanged."""
        return module

    def _configure_launcher(self) -> None:
        assert self.cluster_environment is not None
        self._launcher = Launcher(self.cluster_environment, self.num_processes, self.num_nodes)


def processes_asked(train: TrainConfig) -> tuple[int, int]:
    """Returns the number of processes on each machine, and the number of machines.

    Args:
        train: The recipe's section.

    Raises:
        InputError: If the recipe wants another number of processes than torchrun or Slurm has started.
    """
    outside = started_outside()
    if outside is None:
        return train.devices or 1, train.nodes
    if train.devices is not None and train.devices * train.nodes != outside.number:
        raise InputError(
            f"train.devices x train.nodes is {train.devices} x {train.nodes}, but {outside.program} started "
            f"{outside.number} processes; leave train.devices out to use all of them"
        )
    return outside.number // outside.nodes, outside.nodes


def build_fabric(train: TrainConfig, *, alone: bool = False) -> Fabric:
    """Returns a Fabric with the device, precision and processes of the recipe. Its ``launch()`` starts them.

    Args:
        train: The recipe's section.
        alone: Use one process, even if the recipe wants several.

    Raises:
        InputError: If this machine has no such device, the device does not support the precision, or there are more
            processes than devices.
    """
    device = train.device
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device: found no cuda device; use auto or cpu")
    if device == "mps" and not torch.backends.mps.is_available():
        raise InputError("train.device: found no mps device; use auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device != "cuda" and train.precision == "16-mixed":
        raise InputError(
            "train.precision: 16-mixed needs a cuda device; use 32-true or bf16-mixed on other devices"
        )
    devices, nodes = (1, 1) if alone else processes_asked(train)
    if devices * nodes == 1:
        return Fabric(accelerator=device, devices=1, precision=train.precision)
    if device == "mps":
        raise InputError("train.devices: several processes need device cpu or cuda, found mps")
    if device == "cuda" and devices > torch.cuda.device_count():
        raise InputError(
            f"train.devices: found {devices}, but this machine has {torch.cuda.device_count()} cuda devices"
        )
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # no banners
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    return Fabric(
        accelerator=device,
        devices=devices,
        num_nodes=nodes,
        strategy=Replicated(process_group_backend=backend, timeout=PATIENCE),
        precision=train.precision,
        plugins=[] if started_outside() else [LightningEnvironment()],
    )


def processes_of(fabric: Fabric) -> Processes:
    """Returns the processes of a run.

    Args:
        fabric: The run's Fabric, after ``launch()``.
    """
    launcher = fabric.strategy.launcher
    if not isinstance(launcher, Launcher):
        return ALONE
    outside = launcher.cluster_environment.creates_processes_externally and started_outside() is not None
    is_child = not outside and fabric.local_rank > 0
    return Processes(
        fabric.global_rank, fabric.world_size, launcher.procs, os.getppid() if is_child else None
    )
