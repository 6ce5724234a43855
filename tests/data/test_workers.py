"""Worker processes that load images."""

import multiprocessing
import subprocess
import sys

import pytest
from torch.utils.data import DataLoader

from pyg_bgformer.data.workers import leave_signals_to_main

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say who sends a signal")


def begun():
    """A loader that has begun, and its worker process."""
    before = set(multiprocessing.active_children())
    batches = iter(DataLoader(list(range(100)), num_workers=1, worker_init_fn=leave_signals_to_main))
    assert next(batches) == 0
    (worker,) = set(multiprocessing.active_children()) - before
    return batches, worker


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_a_worker_leaves_signals_that_others_send_to_the_main_process(signal):
    batches, worker = begun()
    subprocess.run(["kill", f"-{signal}", str(worker.pid)], check=True)
    assert [int(batch) for batch in batches] == list(range(1, 100))


def test_a_worker_ends_when_the_main_process_terminates_it():
    _, worker = begun()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


def test_a_process_ends_although_something_keeps_its_loader():
    code = (
        "from torch.utils.data import DataLoader\n"
        "from pyg_bgformer.data.workers import leave_signals_to_main\n"
        "kept = iter(DataLoader(list(range(100)), num_workers=1, worker_init_fn=leave_signals_to_main))\n"
        "next(kept)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
