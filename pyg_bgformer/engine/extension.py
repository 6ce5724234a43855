"""Resumes a run, and extends a finished run to more epochs."""

from collections.abc import Sequence
from dataclasses import replace

import yaml

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import Config
from pyg_bgformer.engine.started import started_outside
from pyg_bgformer.errors import InputError
from pyg_bgformer.runs.diff import differing
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result

ANY_NUMBER = {"train.devices", "train.nodes"}
"""Keys of a recipe that do not change the results."""


def resumed_config(folder: RunFolder, settings: Sequence[str] = ()) -> Config:
    """Returns the configuration to resume a run with.

    The number of processes may change. If torchrun or Slurm has started several processes, all of them are used.

    Args:
        folder: The run's folder.
        settings: ``--train.epochs N`` extends a finished run. ``--train.devices N`` and ``--train.nodes N`` change
            the number of processes.

    Raises:
        InputError: If another key is set, or the number of epochs changes and the run is not finished.
    """
    recipe = ["--config", str(folder.recipe)]
    own, config = read_config(recipe), read_config([*recipe, *settings])
    changed = differing(own.as_dict(), config.as_dict()).keys() - ANY_NUMBER
    if others := changed - {"train.epochs"}:
        raise InputError(
            f"--resume takes no settings except --train.epochs N, --train.devices N and --train.nodes N: it "
            f"uses the recipe in {folder}; found {min(others)}"
        )
    if changed and folder.state != "finished":
        raise InputError(
            f"{folder} is not finished; first resume it without --train.epochs, to its {own.train.epochs} epochs"
        )
    if config.train == own.train and started_outside() is not None:
        return replace(config, train=replace(config.train, devices=None, nodes=1))
    return config


def check_extension(folder: RunFolder, epochs: int) -> None:
    """Raises an error unless a finished run can be extended.

    Args:
        folder: A finished run's folder.
        epochs: The new number of epochs.

    Raises:
        InputError: If the run already has this many epochs, or has no checkpoint.
    """
    done = read_result(folder).epochs
    if epochs <= done:
        raise InputError(
            f"{folder} is finished: it was trained for {done} epochs; to train it for more epochs, use "
            f"--resume {folder} --train.epochs N, with N above {done}"
        )
    if not folder.checkpoint.exists():
        raise InputError(
            f"{folder} has no {folder.checkpoint.name}, which a run only keeps with train.keep_checkpoint: true; "
            f"start a new run from its encoder with --encoder.weights {folder}/"
        )


def reopen(folder: RunFolder, config: Config) -> None:
    """Turns a finished run into an unfinished run with more epochs. Its checkpoint stays.

    The new epochs have the learning rates of a run with the new number of epochs. With the schedules ``constant``
    and ``step``, the extended run equals such a run. With ``cosine``, the learning rate first rises again.

    Args:
        folder: The run's folder.
        config: The run, with more epochs.

    Raises:
        RunError: If the folder cannot be written.
    """
    recipe = {**folder.read_recipe(), "train": config.as_dict()["train"]}
    folder.write_text(folder.recipe, yaml.safe_dump(recipe, sort_keys=False).rstrip())
    with folder.errors(folder.result):
        folder.result.unlink()
