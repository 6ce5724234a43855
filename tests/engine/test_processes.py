"""What processes exchange, and how they end."""

import os
import signal
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from pyg_bgformer.config.schema import TrainConfig
from pyg_bgformer.engine.launch import build_fabric, processes_of
from pyg_bgformer.engine.processes import ALONE, LostProcess, Processes
from pyg_bgformer.engine.run import resumable
from pyg_bgformer.errors import InputError, Interrupted, RunError
from pyg_bgformer.runs.folder import RunFolder
from tests.groups import FORKS, free_port, on_processes


def joined(count):
    fabric = build_fabric(TrainConfig(devices=count, device="cpu"))
    fabric.launch()
    return processes_of(fabric)


def exchanged(count):
    processes = joined(count)
    rank = processes.rank
    sums = [torch.full((2,), float(rank)), torch.full((1, 3), rank)]
    copies = [torch.full((2,), float(rank + 1))]
    processes.sum(sums)
    processes.copy_first(copies)
    return {
        "gathered": processes.gather(torch.full((rank + 1, 2), float(rank), requires_grad=True)).tolist(),
        "half": processes.gather(torch.full((rank,), rank, dtype=torch.bfloat16)).float().tolist(),
        "sums": [values.tolist() for values in sums],
        "copies": copies[0].tolist(),
        "any": [processes.any(rank == 2), processes.any(False)],
        "shared": processes.share(f"of {rank}"),
        "collected": processes.collect(rank),
    }


def test_processes_exchange_rows_sums_and_values():
    found = on_processes(3, exchanged, 3)
    assert found[0] == found[1] == found[2]
    assert found[0] == {
        "gathered": [[0.0] * 2] + [[1.0] * 2] * 2 + [[2.0] * 2] * 3,
        "half": [1.0, 2.0, 2.0],
        "sums": [[3.0, 3.0], [[3, 3, 3]]],
        "copies": [1.0, 1.0],
        "any": [True, False],
        "shared": "of 0",
        "collected": [0, 1, 2],
    }


def test_one_process_exchanges_nothing():
    rows = torch.rand(3, 2)
    assert torch.equal(ALONE.gather(rows), rows)
    assert (ALONE.any(True), ALONE.any(False), ALONE.share("me"), ALONE.collect(1)) == (
        True,
        False,
        "me",
        [1],
    )


@pytest.mark.parametrize(("total", "count"), [(20, 3), (7, 7), (2, 5)])
def test_parts_are_neighbours_and_equal_to_within_one(total, count):
    parts = [Processes(rank, count).part(total) for rank in range(count)]
    assert [row for part in parts for row in part] == list(range(total))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def ended(count, error, at):
    """How each process ends when one of them meets an error."""
    processes = joined(count)
    try:
        with processes.ending_together():
            if processes.rank == at:
                raise error
            processes.any(False)
    except (InputError, RunError, Interrupted) as told:
        return (type(told).__name__, told.args[0])
    raise AssertionError("nothing ended")


@pytest.mark.parametrize(
    ("error", "at", "first", "code"),
    [
        (InputError("image 3 is damaged"), 1, ("RunError", "image 3 is damaged"), 1),
        (Interrupted("runs/x"), 0, ("Interrupted", "runs/x"), 1),
    ],
)
def test_the_first_process_tells_why_another_one_ends(error, at, first, code):
    found = on_processes(2, ended, 2, error, at)
    assert found == [first, code]


def test_the_death_of_a_process_without_a_word_is_told():
    with pytest.raises(RunError, match="another process of this run died"), Processes(0, 2).ending_together():
        raise LostProcess("another process of this run died (connection closed)")


def killed_first(port, lines):
    """A first process that has started a second one and is killed. Those that report an error send it."""
    rank = 0 if os.fork() else 1
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    processes = Processes(rank, 2, parent=os.getppid() if rank else None)
    try:
        with processes.ending_together(), resumable(RunFolder("runs/x"), processes):
            processes.any(False)
            if rank == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            processes.any(False)
    except RunError as error:
        lines.send(str(error))


@pytest.mark.skipif(sys.platform != "linux", reason="starts the second process by a fork")
def test_the_second_process_tells_of_the_death_of_the_first_and_ends():
    received, lines = FORKS.Pipe(duplex=False)
    first = FORKS.Process(target=killed_first, args=(free_port(), lines))
    first.start()
    lines.close()
    assert received.poll(30)
    told = received.recv()
    with pytest.raises(EOFError):  # nobody tells more, and all processes have ended
        received.recv()
    first.join()
    assert first.exitcode == -signal.SIGKILL
    assert told == "another process of this run died; resume with: --resume runs/x"


HANGING = """
import subprocess, sys, time
from pyg_bgformer.engine import processes
processes.GRACE_SECONDS = 0.1
died = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with processes.Processes(0, 3, [died, left]).ending_together():
    time.sleep(60)
"""


def test_a_process_that_waits_for_a_dead_one_is_ended_too():
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stderr) == (1, "error: another process of this run died\n")
