"""Runs as jobs of a Slurm cluster, by submitit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pyg_bgformer.cli.main import main
from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.study.runs import StudyRun, prepare


def submit(
    runs: Sequence[StudyRun], logs: Path, parameters: Sequence[str], cluster: str = "slurm"
) -> list[Any]:
    """Hands each run to the cluster as a job of one array, and does not wait.

    Args:
        runs: What to run.
        logs: Folder of submitit's own files; the cluster's machines must see it and the runs' folders.
        parameters: ``KEY=VALUE`` of submitit's ``AutoExecutor``: ``timeout_min=600``, ``slurm_partition=gpu``.
        cluster: ``slurm``; or ``local``, processes of this machine.

    Returns:
        submitit's jobs.

    Raises:
        InputError: submitit is not installed, there is no Slurm, or it knows no such parameter.
    """
    try:
        import submitit
    except ImportError as error:
        raise InputError("--submit needs submitit: pip install 'pyg-bgformer[slurm]'") from error
    settings = dict(map(_parameter, parameters))
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(**settings)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise InputError(f"submitit, {cluster}: {' '.join(str(error).split())}") from error
    for run in runs:
        prepare(run)
    return executor.map_array(carry_out, [str(run.folder.resolve()) for run in runs])


def carry_out(folder: str) -> None:
    """Carries out a prepared run, or the rest of it, on whichever machine this is.

    Raises:
        RunError: It failed, or was interrupted; the job's log has its line.
    """
    code = main(["run", "--resume", folder])
    if code:
        raise RunError(f"{folder}: exit code {code}")


def _parameter(given: str) -> tuple[str, Any]:
    key, sign, value = given.partition("=")
    if not key or not sign:
        raise InputError(f"--slurm: expected KEY=VALUE, found '{given}'")
    return key, yaml.safe_load(value)
