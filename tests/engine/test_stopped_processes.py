"""Runs of several processes that are stopped, killed and resumed: as commands, on the CPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")

RECIPE = (
    *("--config", "digits/bgformer", "--data.workers", "0", "--evaluation.clustering", "false"),
    *(
        "--sampler.samples",
        "4",
        "--sampler.batches_per_epoch",
        "6",
        "--train.epochs",
        "40",
        "--report.page",
        "false",
    ),
)
RUN = (sys.executable, "-W", "ignore", "-m", "pyg_bgformer", "run")
TORCHRUN = (sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node", "2", *RUN[3:])


def start(command, *arguments):
    """A command in a process group of its own."""
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def training(runs, epochs):
    """Waits until a run has trained some epochs, and returns its folder."""
    for _ in range(1200):
        time.sleep(0.1)
        found = [path for path in runs.glob("*/metrics.csv") if len(path.read_text().splitlines()) > epochs]
        if found:
            return RunFolder(found[0].parent)
    raise AssertionError("the run does not train")


def child_of(process):
    """The number of the one process that another has started."""
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.slow
def test_a_run_of_several_processes_is_stopped_killed_and_resumed_on_fewer(tmp_path):
    runs = tmp_path / "runs"
    process = start(RUN, *RECIPE, "--train.devices", 2, "--runs", runs)
    folder = training(runs, 2)
    child = child_of(process)
    os.kill(child, signal.SIGTERM)  # to a process that is not the first
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert errors == f"interrupted; resume with: --resume {folder}\n"
    assert not alive(child)
    assert out.count("run folder") == 1

    before = len((folder.path / "metrics.csv").read_text().splitlines())
    process = start(RUN, "--resume", folder)
    training(runs, before + 1)
    child = child_of(process)
    os.kill(child, signal.SIGKILL)
    died = time.monotonic()
    _, errors = process.communicate(timeout=60)
    assert time.monotonic() - died < 30
    assert process.returncode == 1
    assert errors.count("\n") == 1, errors
    assert "another process of this run died" in errors
    assert f"resume with: --resume {folder}" in errors

    before = len((folder.path / "metrics.csv").read_text().splitlines())
    process = start(RUN, "--resume", folder)
    training(runs, before + 1)
    child = child_of(process)
    os.kill(process.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=30)  # until both have ended, as both write to it
    assert process.returncode == -signal.SIGKILL
    assert not alive(child)
    assert errors == f"error: another process of this run died; resume with: --resume {folder}\n"

    _, errors = start(RUN, "--resume", folder, "--train.devices", 1).communicate(timeout=300)
    assert read_result(folder).epochs == 40, errors


def test_torchrun_starts_a_run_of_which_one_process_speaks(tmp_path):
    loss = ("--loss.name", "multi_similarity")
    process = start(TORCHRUN, *RECIPE, *loss, "--train.epochs", 1, "--runs", tmp_path)
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    (folder,) = tmp_path.iterdir()
    assert read_result(RunFolder(folder)).epochs == 1
    for line in ("loss: replaced", "data: digits", "epoch 1/1", "batch independence: OK"):
        assert (out + errors).count(line) == 1, out + errors
