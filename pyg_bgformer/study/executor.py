"""Parts of a study as processes of their own: some at a time on this machine, or as jobs of a Slurm cluster."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml

from pyg_bgformer.errors import InputError, Interrupted, RunError
from pyg_bgformer.report.progress import Display


@dataclass(frozen=True)
class Job:
    """A command that can be stopped, and resumed by the same command.

    Args:
        name: What messages call it.
        command: Arguments of the Python interpreter.
        log: File that gets what the command prints.
        outcome: Says in a few words what came out of it. It raises :class:`RunError` if that must not be used.
        prepare: Makes what the command needs, just before it starts.
        devices: Number of processes on each machine, each with a GPU of its own if there is one.
        nodes: Number of machines.
    """

    name: str
    command: Sequence[str]
    log: Path
    outcome: Callable[[], str]
    prepare: Callable[[], None] = lambda: None
    devices: int = 1
    nodes: int = 1


class Failure(NamedTuple):
    """A job that failed, and why, in one line."""

    name: str
    log: Path
    reason: str


def execute(jobs: Sequence[Job], at_once: int, display: Display) -> list[Failure]:
    """Carries out jobs on this machine and returns those that failed.

    A line is shown for each job that ends, with the time left. The jobs that are under way divide the threads of
    this process among them. However this function ends, they have been asked to stop, and have stopped.

    Args:
        jobs: The jobs, in the order in which they start.
        at_once: How many are under way at a time.
        display: Shows the progress.

    Raises:
        InputError: A job could not be prepared.
        Interrupted: Ctrl-C or SIGTERM.
    """
    threads = max(1, torch.get_num_threads() // at_once)
    children: set[subprocess.Popen[bytes]] = set()
    stopping = threading.Event()
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C

    def carry_out(job: Job) -> int:
        child = start(job, threads)
        children.add(child)
        if stopping.is_set():
            child.terminate()
        code = child.wait()
        children.discard(child)
        return code

    failed: list[Failure] = []
    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            futures = {pool.submit(carry_out, job): job for job in jobs}
            for number, future in enumerate(as_completed(futures), start=1):
                job = futures[future]
                try:
                    outcome = outcome_of(job, future.result())
                except RunError as error:
                    failed.append(Failure(job.name, job.log, str(error)))
                    outcome = "failed"
                left = (time.monotonic() - started) / number * (len(jobs) - number)
                display.line(
                    f"{number}/{len(jobs)}: {job.name} {outcome}; {timedelta(seconds=round(left))} left"
                )
        except BaseException as error:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            try:
                for child in list(children):
                    child.terminate()
                pool.shutdown()
            finally:  # a second signal does not wait
                for child in list(children):
                    child.kill()
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted from error
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
    return failed


def start(job: Job, threads: int) -> subprocess.Popen[bytes]:
    """Starts the process of a job, which writes to the job's log."""
    job.prepare()
    with open(job.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, *job.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Unbuffered, so that the last line of the log is the last that the job said.
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(max(1, threads // job.devices)),
                "PYTHONUNBUFFERED": "1",
            },
            start_new_session=True,  # a terminal's Ctrl-C reaches it once, from here
        )


def outcome_of(job: Job, code: int) -> str:
    """Returns the outcome of a job that has ended.

    Raises:
        RunError: It failed; the message is the last line of its log.
    """
    if code == 0:
        return job.outcome()
    lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise RunError(next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}"))


def resources(jobs: Sequence[Job]) -> dict[str, Any]:
    """Returns the parameters of submitit by which jobs get their processes.

    On one machine a job is one task, which starts further processes itself. On several, Slurm starts them all.

    Args:
        jobs: Of one array.

    Raises:
        InputError: They do not need the same.
    """
    needs = {(job.devices, job.nodes) for job in jobs}
    if len(needs) > 1:
        raise InputError(
            "--submit: jobs of an array have the same resources, but rows of this study differ in train.devices "
            "or train.nodes; submit them as studies of their own"
        )
    devices, nodes = next(iter(needs), (1, 1))
    return {} if nodes == 1 else {"nodes": nodes, "tasks_per_node": devices}


def submit(jobs: Sequence[Job], logs: Path, parameters: Sequence[str], cluster: str = "slurm") -> list[Any]:
    """Hands jobs to a cluster as one array, and does not wait for them.

    Args:
        jobs: The jobs.
        logs: Folder of submitit's own files. The cluster's machines must see it and the folders of the jobs.
        parameters: ``KEY=VALUE`` of submitit's ``AutoExecutor``: ``timeout_min=600``, ``slurm_partition=gpu``.
        cluster: ``slurm``, or ``local`` for processes of this machine.

    Returns:
        submitit's jobs.

    Raises:
        InputError: submitit is not installed, there is no Slurm, it knows no such parameter, or jobs need different
            numbers of machines or processes.
    """
    try:
        import submitit
        from submitit.helpers import CommandFunction
    except ImportError as error:
        raise InputError("--submit needs submitit: pip install 'pyg-bgformer[slurm]'") from error
    settings = resources(jobs)
    for given in parameters:
        key, sign, value = given.partition("=")
        if not key or not sign:
            raise InputError(f"--slurm: expected KEY=VALUE, found '{given}'")
        settings[key] = yaml.safe_load(value)
    try:
        executor = submitit.AutoExecutor(folder=logs, cluster=cluster)
        executor.update_parameters(**settings)
    except (RuntimeError, NameError, TypeError, ValueError) as error:
        raise InputError(f"submitit, {cluster}: {' '.join(str(error).split())}") from error
    for job in jobs:
        job.prepare()
    with executor.batch():
        return [executor.submit(CommandFunction([sys.executable, *job.command])) for job in jobs]
