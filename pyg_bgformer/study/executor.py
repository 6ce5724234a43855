"""Runs the jobs of a study as processes on this machine, or as jobs of a Slurm cluster."""

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
    """A command that can be stopped, and that the same command resumes.

    Args:
        name: What messages call the job.
        command: Arguments of the Python interpreter.
        log: File for the output of the command.
        outcome: Returns the result of the finished command in a few words. It raises :class:`RunError` if the
            result must not be used.
        prepare: Called just before the command starts, to make what it needs.
        devices: Number of processes on each machine. Each has its own GPU if there are GPUs.
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
    """A job that failed.

    Attributes:
        name: Name of the job.
        log: Its log.
        reason: One line that says why it failed.
    """

    name: str
    log: Path
    reason: str


def execute(jobs: Sequence[Job], at_once: int, display: Display) -> list[Failure]:
    """Runs jobs on this machine and returns the jobs that failed.

    When a job ends, a line shows its outcome and the time left. Running jobs divide the threads of this process
    among them. If this function ends early, it first stops all running jobs.

    Args:
        jobs: The jobs in the order in which they start.
        at_once: Number of jobs that run at a time.
        display: Shows the progress.

    Raises:
        InputError: If a job cannot be prepared.
        Interrupted: After Ctrl-C or SIGTERM.
    """
    running = Running(max(1, torch.get_num_threads() // at_once))
    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C
    failed: list[Failure] = []
    started = time.monotonic()
    with ThreadPoolExecutor(at_once) as pool:
        try:
            futures = {pool.submit(running.carry_out, job): job for job in jobs}
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
            running.stop(pool)
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted from error
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
    return failed


class Running:
    """The processes of running jobs, which threads carry out and one thread can stop.

    Args:
        threads: Number of threads for each job.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.children: set[subprocess.Popen[bytes]] = set()
        self.stopping = threading.Event()

    def carry_out(self, job: Job) -> int:
        """Runs a job and returns its exit code."""
        child = start(job, self.threads)
        self.children.add(child)
        if self.stopping.is_set():
            child.terminate()
        code = child.wait()
        self.children.discard(child)
        return code

    def stop(self, pool: ThreadPoolExecutor) -> None:
        """Starts no other job, asks the running ones to stop, and waits for them.

        Args:
            pool: The threads that carry out the jobs.
        """
        self.stopping.set()
        pool.shutdown(wait=False, cancel_futures=True)
        try:
            for child in list(self.children):
                child.terminate()
            pool.shutdown()
        finally:  # a second signal ends the wait
            for child in list(self.children):
                child.kill()


def start(job: Job, threads: int) -> subprocess.Popen[bytes]:
    """Starts the process of a job, which writes to the job's log."""
    job.prepare()
    with open(job.log, "ab") as log:
        return subprocess.Popen(
            [sys.executable, *job.command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Unbuffered, so that the log has the last line of a job that is killed.
            env={
                **os.environ,
                "OMP_NUM_THREADS": str(max(1, threads // job.devices)),
                "PYTHONUNBUFFERED": "1",
            },
            start_new_session=True,  # Ctrl-C of a terminal does not reach the job; this process stops it
        )


def outcome_of(job: Job, code: int) -> str:
    """Returns the outcome of a finished job.

    Raises:
        RunError: If the job failed. The message is the last line of its log.
    """
    if code == 0:
        return job.outcome()
    lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
    raise RunError(next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}"))


def resources(jobs: Sequence[Job]) -> dict[str, Any]:
    """Returns the parameters of submitit for the processes of jobs.

    On one machine a job is one task, which starts its other processes itself. On several machines, Slurm starts all
    processes.

    Args:
        jobs: The jobs of an array.

    Raises:
        InputError: If the jobs need different numbers of processes or machines.
    """
    needs = {(job.devices, job.nodes) for job in jobs}
    if len(needs) > 1:
        raise InputError(
            "--submit: the rows of this study differ in train.devices or train.nodes, but jobs of an array have "
            "the same resources; submit these rows as separate studies"
        )
    devices, nodes = next(iter(needs), (1, 1))
    if nodes == 1:
        return {}
    # The death of one task ends the others.
    return {"nodes": nodes, "tasks_per_node": devices, "slurm_srun_args": ["--kill-on-bad-exit=1"]}


def submit(jobs: Sequence[Job], logs: Path, parameters: Sequence[str], cluster: str = "slurm") -> list[Any]:
    """Submits jobs to a cluster as one array, and does not wait for them.

    Args:
        jobs: The jobs.
        logs: Folder of submitit's own files. The cluster's machines must see it and the folders of the jobs.
        parameters: Parameters ``KEY=VALUE`` of submitit's ``AutoExecutor``, for example ``timeout_min=600`` or
            ``slurm_partition=gpu``.
        cluster: ``"slurm"``, or ``"local"`` for processes of this machine.

    Returns:
        submitit's jobs.

    Raises:
        InputError: If submitit is not installed, there is no Slurm, a parameter is wrong or unknown, or the jobs
            need different numbers of machines or processes.
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
