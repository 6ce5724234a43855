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

    There the run has the names of its folder and of the folder above as identifier, so that a resumed run continues
    its curves. Environment variables of Weights & Biases hold the key and say whether to send:
    ``WANDB_MODE=offline`` keeps all in the run's folder.

    Args:
        project: Name of the project.
        folder: The run's folder.

    Raises:
        InputError: If wandb is not installed, or refuses to start.
    """

    def __init__(self, project: str, folder: RunFolder) -> None:
        self.library = wandb_library()
        self.project = project
        name = "-".join(folder.path.resolve().parts[-2:])  # rows of two studies can have the same name
        name = re.sub(r"[:;,#?/'\\]", "-", name)  # not allowed in an identifier
        try:
            self.run = self.library.init(
                project=project,
                id=name,
                name=name,
                dir=str(folder.path),
                resume="allow",
                settings={"quiet": True},  # else it prints all curves and scores once more
            )
        except (self.library.Error, OSError, ValueError) as error:
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
            metrics: By name.
            step: The epoch; :obj:`None` for numbers of the whole run, which go to its summary. A curve would not
                go on after them when the run is extended.
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
            name: Its name.
            image: uint8 ``(H, W, 3)``.
        """
        self.run.summary.update({name: self.library.Image(image)})

    def finalize(self, status: str) -> None:
        """Ends the connection.

        Args:
            status: ``success``, or what else happened.
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
            "report.wandb needs Weights & Biases: pip install wandb, or leave report.wandb out"
        ) from error
    return wandb
