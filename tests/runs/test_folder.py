import os
from contextlib import suppress

import pytest

from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.runs.folder import RunFolder

RECIPE = {"seed": 1, "data": {"name": "digits"}}


@pytest.fixture
def folder(tmp_path):
    return RunFolder.create(tmp_path / "runs" / "one", RECIPE)


def test_a_folder_appears_with_its_recipe_and_nothing_beside_it(folder):
    assert folder.read_recipe() == RECIPE
    assert os.listdir(folder.path) == ["config.yaml"]
    assert os.listdir(folder.path.parent) == ["one"]
    with pytest.raises(FileExistsError):
        RunFolder.create(folder.path, {"seed": 2})
    assert folder.read_recipe() == RECIPE


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"run folder .*file/one cannot be made: Not a directory"):
        RunFolder.create(tmp_path / "file" / "one", RECIPE)


def test_how_far_a_run_is(folder):
    assert folder.state == "pending"
    folder.write_text(folder.log, "")
    assert folder.state == "pending"
    for file, state in ((folder.checkpoint, "unfinished"), (folder.result, "finished")):
        folder.write_text(file, "")
        assert folder.state == state


def test_a_folder_without_a_recipe_is_not_a_runs(tmp_path):
    with pytest.raises(InputError, match=r"it has no config\.yaml"):
        RunFolder.open(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(folder):
    folder.write_text(folder.metrics, "old")
    with suppress(KeyboardInterrupt), folder.writing(folder.metrics) as path:
        path.write_text("new, but half of")
        raise KeyboardInterrupt
    assert folder.metrics.read_text() == "old\n"
    assert sorted(os.listdir(folder.path)) == ["config.yaml", "metrics.csv"]


def test_a_file_that_cannot_be_written_is_named(folder):
    folder.recipe.unlink()
    folder.path.rmdir()
    with pytest.raises(RunError, match=r"metrics\.csv cannot be written: No such file"):
        folder.write_text(folder.metrics, "")


def test_a_run_is_carried_out_by_one_process_at_a_time(folder):
    with folder.locked(), pytest.raises(InputError, match="another process"), folder.locked():
        pass
    with folder.locked():
        pass


def test_a_folder_that_is_read_only_is_not_resumed(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with pytest.raises(RunError, match=r"one cannot be written: it is read-only.*resume"), folder.locked():
        pass
