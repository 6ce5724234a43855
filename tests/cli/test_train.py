"""``pyg-bgformer train`` as a stranger uses it."""

import re

import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.runs.folder import RunFolder
from pyg_bgformer.runs.result import read_result
from tests.photos import QUICK, write_photos


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", "abcdef")


def test_it_prints_the_verdict_the_page_and_the_next_command(photos, tmp_path, capsys):
    run = tmp_path / "run"
    quick = [*QUICK, "--report.page=true"]
    assert (
        main(["train", str(photos), "--method", "plain", "--holdout", "0.5", "--out", str(run), *quick]) == 0
    )
    printed = capsys.readouterr().out
    assert re.search(r"held out: 3 of 6 classes \(\w, \w, \w\)", printed)
    assert re.search(r"MAP@R on 3 unseen classes: \d+\.\d -> \d+\.\d", printed)
    assert f"page: {run / 'report.html'}" in printed
    assert (run / "report.html").exists()
    assert printed.splitlines()[-1] == f"next: pyg-bgformer embed {run} {photos} --out vectors.npz"


def test_without_a_holdout_the_scores_are_marked_and_the_run_is_extended(photos, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", str(photos), "--holdout", "none", "--out", str(run), *QUICK]) == 0
    assert "MAP@R on the training images (6 classes)" in capsys.readouterr().out
    assert main(["train", "--resume", str(run)]) == 2
    assert "is finished" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--train.epochs", "2"]) == 0
    assert read_result(RunFolder(run)).epochs == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "FOLDER is missing"),
        (["nowhere"], "no folder nowhere"),
        (["PHOTOS", "--holdout", "half"], "argument --holdout: invalid share value: 'half'"),
        (["PHOTOS", "--epochs", "few"], "argument --epochs: invalid int value: 'few'"),
        (["PHOTOS", "--lr", "1"], "unknown key 'lr'; did you mean 'train.lr'?"),
        (["--resume", "nowhere"], "nowhere is not the folder of a run"),
        (["PHOTOS", "--resume", "x"], "--resume takes --train.epochs N and no other setting; found folder"),
        (
            ["--resume", "x", "--epochs", "3"],
            "--resume takes --train.epochs N and no other setting; found epochs",
        ),
    ],
)
def test_mistakes_are_one_line(photos, capsys, arguments, said):
    assert main(["train", *(str(photos) if one == "PHOTOS" else one for one in arguments)]) == 2
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line


def test_missing_weights_say_which_file_to_pass(photos, capsys, monkeypatch):
    monkeypatch.setattr("pyg_bgformer.encoders.published.hub_file", no_network)
    assert main(["train", str(photos)]) == 2
    line = capsys.readouterr().err
    assert (
        "weights timm/tf_efficientnet_lite0.in1k are not cached and cannot be downloaded (no route)" in line
    )
    assert re.search(
        r"download https://\S+/tf_efficientnet_lite0\S*/model\.safetensors .*--weights FILE", line
    )


def no_network(*_, **__):
    raise OSError("no route")


def test_an_empty_folder_and_one_of_a_single_class(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    one = write_photos(tmp_path / "one", "a")
    for folder in (tmp_path / "empty", one):
        assert main(["train", str(folder), "--weights", "null"]) == 2
        assert "of the at least 2 classes that are needed" in capsys.readouterr().err
