"""Who started the processes of a run, according to environment variables."""

import os
from typing import NamedTuple

from pyg_bgformer.errors import InputError


class Started(NamedTuple):
    """Processes that another program has started.

    Attributes:
        number: Number of processes.
        nodes: Number of machines.
        program: Name of the program.
    """

    number: int
    nodes: int
    program: str


def started_outside() -> Started | None:
    """Returns the processes that torchrun or Slurm has started; :obj:`None` if this is the only process.

    Raises:
        InputError: If environment variables name several processes, but no known program has started them.
    """
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:
        number = int(environment["WORLD_SIZE"])
        started = Started(number, number // int(environment["LOCAL_WORLD_SIZE"]), "torchrun")
    elif "LOCAL_RANK" in environment:  # started by Fabric, or in the same way
        return None
    else:
        number = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
        started = Started(number, int(environment.get("SLURM_STEP_NUM_NODES", "1")), "srun")
        for name in ("WORLD_SIZE", "SLURM_NTASKS"):
            if environment.get(name, "1") not in ("1", str(number)):
                raise InputError(
                    f"{name} is {environment[name]}, but there is only one process; start the run with torchrun or "
                    f"srun, or unset {name}"
                )
    return started if started.number > 1 else None


def is_follower() -> bool:
    """Returns whether another process is the first one of the run, according to environment variables."""
    by_slurm = ["SLURM_PROCID"] if os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1" else []
    return any(os.environ.get(name, "0") != "0" for name in ("LOCAL_RANK", "RANK", "NODE_RANK", *by_slurm))
