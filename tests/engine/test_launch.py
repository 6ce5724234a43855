import sys
from dataclasses import replace

import pytest
import torch

from pyg_bgformer.engine.launch import Launcher, Replicated, build_fabric, processes_asked
from pyg_bgformer.errors import InputError


def test_a_device_that_is_not_there_is_refused(tiny):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"train\.device: found no cuda device"):
        build_fabric(replace(tiny.train, device="cuda"))


def test_mps_is_refused_where_torch_has_none(tiny, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(InputError, match=r"train\.device: found no mps device"):
        build_fabric(replace(tiny.train, device="mps"))


def test_the_recipe_says_how_many_processes_start(tiny):
    train = replace(tiny.train, device="cpu")
    assert processes_asked(train) == (1, 1)
    several = replace(train, devices=3, nodes=2)
    assert processes_asked(several) == (3, 2)
    assert isinstance(build_fabric(several).strategy, Replicated)
    assert build_fabric(several, alone=True).world_size == build_fabric(train).world_size == 1


def test_processes_that_torchrun_or_slurm_has_started_are_taken(tiny, outside):
    assert processes_asked(tiny.train) == processes_asked(replace(tiny.train, devices=2, nodes=2)) == (2, 2)
    with pytest.raises(
        InputError, match=rf"devices x train.nodes is 3 x 1, but {outside} started 4 processes"
    ):
        processes_asked(replace(tiny.train, devices=3))


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_NTASKS"])
def test_one_process_that_is_told_of_several_is_refused(tiny, monkeypatch, name):
    monkeypatch.setenv(name, "2")
    with pytest.raises(InputError, match=rf"{name} is 2, but there is only one process"):
        build_fabric(tiny.train)
    monkeypatch.setenv(name, "1")
    build_fabric(tiny.train)


def test_one_task_of_slurm_may_start_further_processes_itself(tiny, monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "1")
    assert processes_asked(replace(tiny.train, devices=2)) == (2, 1)


def test_a_program_that_cannot_start_again_is_refused(tiny, monkeypatch):
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)
    fabric = build_fabric(replace(tiny.train, device="cpu", devices=2))
    assert isinstance(fabric.strategy.launcher, Launcher)
    with pytest.raises(InputError, match=r"train\.devices: .* cannot start from a notebook"):
        fabric.launch()
