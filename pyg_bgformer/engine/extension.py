"""Resuming a run, also a finished one to more epochs."""

from collections.abc import Sequence
from dataclasses import replace

import yaml

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Config
from pyg_bgformer.engine.launch import started_outside
from pyg_bgformer.errors import InputError
from pyg_bgformer.runs.diff import differing
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result

ANY_NUMBER = {"train.devices", "train.nodes"}
"""Keys of a recipe on which results do not depend."""


def resumed_config(folder: RunFolder, settings: Sequence[str] = ()) -> Config:
    """Returns the configuration of a run that is to be resumed.

    It may be resumed on another number of processes. Those that torchrun or Slurm has started are taken.

    Args:
        folder: The run's folder.
        settings: ``--train.epochs N``, to extend a finished run; ``--train.devices N``, ``--train.nodes N``.

    Raises:
        InputError: Something else is set, or the run is not finished and the number of epochs differs.
    """
    recipe = ["--config", str(folder.recipe)]
    own, config = read_config(recipe), read_config([*recipe, *settings])
    changed = differing(own.as_dict(), config.as_dict()).keys() - ANY_NUMBER
    if others := changed - {"train.epochs"}:
        raise InputError(
            f"--resume takes --train.epochs N, --train.devices N, --train.nodes N and no other setting: its recipe "
            f"is in {folder}; found {min(others)}"
        )
    if changed and folder.state != "finished":
        raise InputError(
            f"{folder} is not finished: first resume it without --train.epochs, to its {own.train.epochs} epochs"
        )
    if config.train == own.train and started_outside() is not None:
        return replace(config, train=replace(config.train, devices=None, nodes=1))
    return config


def check_extension(folder: RunFolder, epochs: int) -> None:
    """Refuses to resume a finished run, unless to more epochs and from its checkpoint.

    Args:
        folder: A finished run's folder.
        epochs: Number of its last epoch from now on.

    Raises:
        InputError: The run has as many epochs already, or no checkpoint.
    """
    done = read_result(folder).epochs
    if epochs <= done:
        raise InputError(
            f"{folder} is finished: it was trained for {done} epochs. To train longer, extend it: "
            f"--resume {folder} --train.epochs N, with N above {done}"
        )
    if not folder.checkpoint.exists():
        raise InputError(
            f"{folder} has no {folder.checkpoint.name} to train on from; a run keeps it with "
            f"train.keep_checkpoint: true. Start a new run from its encoder: --encoder.weights {folder}/"
        )


def reopen(folder: RunFolder, config: Config) -> None:
    """Makes a finished run an unfinished one with more epochs; its checkpoint stays.

    The learning rates of the further epochs are those that a run of so many epochs has there. With the schedules
    ``constant`` and ``step`` the extended run equals such a run. With ``cosine`` the rate rises again first.

    Args:
        folder: The run's folder.
        config: The run, with more epochs.
    """
    recipe = {**folder.read_recipe(), "train": config.as_dict()["train"]}
    folder.write_text(folder.recipe, yaml.safe_dump(recipe, sort_keys=False).rstrip())
    with folder.errors(folder.result):
        folder.result.unlink()
