from dataclasses import replace

import pytest

from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.study.definition import read_study
from pyg_bgformer.study.runs import check_here, study_runs

from .finished import finish


@pytest.fixture
def runs(content, write, tmp_path):
    return study_runs(read_study(write(content)), tmp_path / "runs" / "mine")


def test_each_row_has_its_first_seed_before_any_has_its_second(runs, tmp_path):
    assert [run.folder.path.relative_to(tmp_path).as_posix() for run in runs] == [
        f"runs/mine/{row}-seed{seed}" for seed in (0, 1) for row in ("plain", "with_k=5")
    ]
    assert [run.config.seed for run in runs] == [0, 0, 1, 1]


def test_a_row_with_fewer_seeds_has_fewer_runs(content, write, tmp_path):
    content["rows"][1]["seeds"] = [1]
    runs = study_runs(read_study(write(content)), tmp_path)
    assert [str(run) for run in runs] == ["'plain' seed 0", "'plain' seed 1", "'with k=5' seed 1"]


def test_the_state_of_a_run_is_what_its_folder_holds(runs):
    assert runs[0].state() == "pending"
    runs[0].prepare()
    assert runs[0].state() == "pending"
    runs[0].folder.checkpoint.touch()
    runs[0].prepare()
    assert runs[0].state() == "unfinished"
    finish(runs[0])
    assert runs[0].state() == "finished"
    assert runs[0].folder.read_recipe() == runs[0].config.as_dict()


def test_a_run_by_another_recipe_is_refused_with_what_differs(runs):
    finish(replace(runs[1], config=runs[3].config))
    with pytest.raises(
        InputError, match=r"with_k=5-seed0 has a run with seed: 1, expected 0 as in the study; rem"
    ):
        runs[1].state()


def test_runs_may_be_moved(runs, tmp_path):
    finish(runs[0])
    moved = RunFolder(runs[0].folder.path.rename(tmp_path / "elsewhere"))
    run = replace(runs[0], folder=moved, config=replace(runs[0].config, runs="there"))
    assert run.state() == "finished"


def test_what_would_let_all_runs_fail_is_found_before_the_first(runs):
    config = runs[0].config
    check_here([config])
    no_data = replace(config, data=replace(config.data, name="cub200", root="nowhere"))
    no_images = replace(config, sampler=config.sampler.changed(classes=0))
    for wrong, words in ((no_data, "nowhere"), (no_images, "sampler.classes is 0")):
        with pytest.raises(InputError, match=words):
            check_here([wrong])
    assert not runs[0].folder.path.exists()


def test_a_result_that_depends_on_the_batch_has_no_outcome(runs):
    finish(runs[0])
    finish(runs[1], batch_dependence=0.1)
    assert runs[0].outcome() == "has MAP@R 25.0"
    with pytest.raises(RunError, match=r"1\.0e-01"):
        runs[1].outcome()


def test_a_folder_that_cannot_be_made_is_named(runs, tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(InputError, match=r"run folder .*seed0 cannot be made"):
        runs[0].prepare()


def test_a_run_may_be_carried_out_by_another_number_of_processes(runs):
    runs[0].prepare()
    several = replace(runs[0], config=replace(runs[0].config, train=replace(runs[0].config.train, devices=3)))
    assert several.state() == "pending"
    assert several.job().devices == 3
    assert [*several.job().command][-4:] == ["--train.devices", "3", "--train.nodes", "1"]
