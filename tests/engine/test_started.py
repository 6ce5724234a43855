from pyg_bgformer.engine.started import is_follower, started_outside


def test_processes_that_torchrun_or_slurm_has_started(outside, monkeypatch):
    assert started_outside() == (4, 2, outside)
    assert not is_follower()
    monkeypatch.setenv("RANK" if outside == "torchrun" else "SLURM_PROCID", "3")
    assert is_follower()


def test_one_task_of_slurm_is_not_several_processes(monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"):
        monkeypatch.setenv(name, "1")
    assert started_outside() is None
    assert not is_follower()
