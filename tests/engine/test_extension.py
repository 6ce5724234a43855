"""A finished run that is trained further."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from pyg_bgformer.engine import run as run_module
from pyg_bgformer.engine.extension import resumed_config
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.train_folder import folder_config
from pyg_bgformer.errors import InputError, Interrupted
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result
from tests.photos import QUICK, write_photos
from tests.training import Silent


def config_of(path, epochs, schedule):
    photos = path.parent / "photos"
    if not photos.exists():
        write_photos(photos, "abcd")
    config = folder_config(photos, settings=[*QUICK, "--runs", str(path)])
    train = replace(config.train, epochs=epochs, schedule=schedule, milestones=(2,), keep_checkpoint=True)
    return replace(config, train=train)


def extended(path, schedule):
    """The folder of a run of one epoch that was extended to three."""
    folder = run(config_of(path, 1, schedule), Silent())
    return run(resumed_config(folder, ["--train.epochs", "3"]), Silent(), folder)


@pytest.mark.parametrize("schedule", ["constant", "step"])
def test_an_extended_run_equals_one_of_so_many_epochs(tmp_path, schedule):
    folder = extended(tmp_path / "extended", schedule)
    whole = run(config_of(tmp_path / "whole", 3, schedule), Silent())
    ours, theirs = (load_file(one.path / "encoder.safetensors") for one in (folder, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    result, expected = read_result(folder), read_result(whole)
    assert (result.epochs, result.config["train"]["epochs"]) == (3, 3)
    assert (result.untrained, result.trained) == (expected.untrained, expected.trained)


def test_with_cosine_the_rates_are_those_of_the_longer_run_and_it_is_deterministic(tmp_path):
    first, second = (extended(tmp_path / name, "cosine") for name in ("first", "second"))
    rates = [row["lr_head"] for row in _history(first)]
    base = config_of(tmp_path / "first", 1, "cosine").train.lr
    assert rates == pytest.approx([base, 0.75 * base, 0.25 * base])
    ours, theirs = (load_file(one.path / "encoder.safetensors") for one in (first, second))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_an_interrupted_extension_is_resumed_by_the_same_command(tmp_path, monkeypatch):
    folder = run(config_of(tmp_path / "extended", 1, "constant"), Silent())
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "measure_batch_dependence", _interrupt)
        with pytest.raises(Interrupted):
            run(resumed_config(folder, ["--train.epochs", "2"]), Silent(), folder)
    assert folder.state == "unfinished"
    run(resumed_config(folder, ["--train.epochs", "2"]), Silent(), folder)
    whole = run(config_of(tmp_path / "whole", 2, "constant"), Silent())
    assert read_result(folder).trained == read_result(whole).trained


def test_an_extension_that_was_killed_before_it_began_is_resumed(tmp_path):
    """The recipe has the new number of epochs already, and the earlier result is still there."""
    folder = run(config_of(tmp_path / "runs", 1, "constant"), Silent())
    folder.recipe.write_text(folder.recipe.read_text().replace("epochs: 1\n", "epochs: 2\n"))
    assert read_result(run(resumed_config(folder), Silent(), folder)).epochs == 2


def _interrupt(*_):
    raise KeyboardInterrupt


def _history(folder):
    return torch.load(folder.checkpoint, weights_only=True)["history"]


def test_what_cannot_be_extended_is_one_line(tmp_path):
    config = config_of(tmp_path / "runs", 1, "constant")
    folder = run(replace(config, train=replace(config.train, keep_checkpoint=False)), Silent())
    with pytest.raises(InputError, match=r"is finished: it was trained for 1 epochs.*--train\.epochs N"):
        run(resumed_config(folder), Silent(), folder)
    with pytest.raises(InputError, match=r"has no checkpoint\.pt, which a run only keeps"):
        run(resumed_config(folder, ["--train.epochs", "2"]), Silent(), folder)
    with pytest.raises(InputError, match=r"takes no settings except .*found train\.lr"):
        resumed_config(folder, ["--train.lr", "1"])
    assert folder.state == "finished"
    pending = RunFolder.create(tmp_path / "pending", config.as_dict())
    with pytest.raises(InputError, match=r"is not finished; first resume it without --train\.epochs"):
        resumed_config(pending, ["--train.epochs", "5"])
