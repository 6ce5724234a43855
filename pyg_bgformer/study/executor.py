"""Runs as processes of their own on this machine, some at a time."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

import torch

from pyg_bgformer.engine.interruption import Interrupted, stop_on_signal
from pyg_bgformer.report.progress import Display
from pyg_bgformer.study.runs import StudyRun, fault, prepare

LOG = "log.txt"
"""What a run prints, in its folder."""

POLL_SECONDS = 0.2


class Failure(NamedTuple):
    """A run that has no result to be compared, and why, in one line."""

    run: StudyRun
    reason: str


@dataclass
class Child:
    """A process that carries out a run."""

    run: StudyRun
    process: subprocess.Popen[bytes]
    started: float

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.started


def execute(todo: Sequence[StudyRun], done: int, jobs: int, display: Display) -> list[Failure]:
    """Carries out runs, or the rest of those that were interrupted.

    Args:
        todo: The runs.
        done: How many of the study are finished already.
        jobs: How many are carried out at a time; they divide the processor's cores among them.
        display: Is given a line for each run that ends, with the time left.

    Returns:
        Those that failed; the others are finished.

    Raises:
        Interrupted: A signal asked to stop; the runs that were under way can be gone on with.
    """
    total, waiting = done + len(todo), list(todo)
    children: list[Child] = []
    failed: list[Failure] = []
    times: list[float] = []
    with stop_on_signal() as stop:
        try:
            while (waiting or children) and not stop.asked:
                while waiting and len(children) < jobs:
                    children.append(_start(waiting.pop(0), jobs))
                for child in [child for child in children if child.process.poll() is not None]:
                    children.remove(child)
                    times.append(child.seconds)
                    problem = _problem(child)
                    if problem is not None:
                        failed.append(Failure(child.run, problem))
                    left = _time_left(times, len(waiting), children, jobs)
                    display.line(f"{done + len(times)}/{total} runs: {_outcome(child.run, problem)}; {left}")
                time.sleep(POLL_SECONDS)
            for child in children:
                child.process.terminate()
            for child in children:
                child.process.wait()
        finally:
            for child in children:  # after a second signal, which does not wait
                child.process.kill()
    if stop.asked:
        raise Interrupted(f"after {done + len(times) - len(failed)} of {total} runs")
    return failed


def command(folder: Path) -> list[str]:
    """The command line that carries out a prepared run."""
    return [sys.executable, "-m", "pyg_bgformer", "run", "--resume", str(folder)]


def _start(run: StudyRun, jobs: int) -> Child:
    prepare(run)
    threads = max(1, torch.get_num_threads() // jobs)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONUNBUFFERED": "1"}
    with open(run.folder / LOG, "ab") as log:
        process = subprocess.Popen(
            command(run.folder),
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,  # unbuffered, so that the last line is the last
            start_new_session=True,  # so that Ctrl-C does not reach it beside the signal from here
        )
    return Child(run, process, time.monotonic())


def _problem(child: Child) -> str | None:
    """Why a run that has ended must not be counted."""
    if child.process.returncode == 0:
        return fault(child.run)
    lines = (child.run.folder / LOG).read_text(encoding="utf-8", errors="replace").split("\n")
    return next(
        (line.strip() for line in reversed(lines) if line.strip()), f"exit code {child.process.returncode}"
    )


def _outcome(run: StudyRun, problem: str | None) -> str:
    if problem is not None:
        return f"{run} failed"
    return f"{run} has MAP@R {100 * run.result()['trained']['embedding']['map_at_r']:.1f}"


def _time_left(times: Sequence[float], waiting: int, children: Sequence[Child], jobs: int) -> str:
    mean = sum(times) / len(times)
    seconds = mean * waiting + sum(max(0.0, mean - child.seconds) for child in children)
    return f"{timedelta(seconds=round(seconds / jobs))} left"
