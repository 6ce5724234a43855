"""Weights & Biases as a logger of Lightning Fabric."""

import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import numpy as np
from lightning_fabric.loggers.logger import Logger

from pyg_bgformer.errors import InputError, one_line
from pyg_bgformer.runs.folder import RunFolder


class WandbLogger(Logger):
    """Sends curves, settings, scores and pictures of a run to a project of Weights & Biases.

    The identifier of the run is made of the name of its folder and of the folder above. A resumed run has the same
    identifier, and continues its curves. Weights & Biases takes its key and mode from environment variables:
    ``WANDB_MODE=offline`` sends nothing and writes to the run's folder.

    Args:
        project: Name of the project.
        folder: The run's folder.

    Raises:
        InputError: If wandb is not installed, or refuses to start.
    """

    def __init__(self, project: str, folder: RunFolder) -> None:
        self.wandb = wandb_library()
        self.project = project
        name = "-".join(folder.path.resolve().parts[-2:])  # rows of two studies can have the same name
        name = re.sub(r"[:;,#?/'\\]", "-", name)  # not allowed in an identifier
        try:
            self.run = self.wandb.init(
                project=project,
                id=name,
                name=name,
                dir=str(folder.path),
                resume="allow",
                settings={"quiet": True},  # otherwise it prints all curves and scores again
            )
        except (self.wandb.Error, OSError, ValueError) as error:
            raise InputError(f"report.wandb: Weights & Biases does not start: {one_line(error)}") from error

    @property
    def name(self) -> str:
        """The project."""
        return self.project

    @property
    def version(self) -> str:
        """The run's identifier."""
        return str(self.run.id)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Sends numbers of an epoch, or of the whole run.

        Args:
            metrics: Numbers by name.
            step: The epoch. :obj:`None` sends numbers of the whole run to its summary. As a curve, they would keep
                an extended run from continuing its other curves.
        """
        if step is None:
            self.run.summary.update(dict(metrics))
        else:
            self.run.log(dict(metrics), step=step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **__: Any) -> None:
        """Sends settings.

        Args:
            params: Settings by name.
        """
        settings = params if isinstance(params, dict) else vars(params)
        self.run.config.update(settings, allow_val_change=True)

    def log_image(self, name: str, image: np.ndarray) -> None:
        """Sends a picture of the whole run to its summary.

        Args:
            name: Name of the picture.
            image: ``(H, W, 3)`` uint8, RGB.
        """
        self.run.summary.update({name: self.wandb.Image(image)})

    def finalize(self, status: str) -> None:
        """Ends the connection.

        Args:
            status: ``"success"``, or another word if the run failed.
        """
        self.run.finish(exit_code=int(status != "success"))


def wandb_library() -> Any:
    """Returns the library of Weights & Biases.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            "report.wandb needs Weights & Biases: pip install wandb, or set report.wandb to null"
        ) from error
    return wandb
