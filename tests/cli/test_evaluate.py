"""``pyg-bgformer evaluate`` as a stranger uses it."""

import json
import re

import pytest

from pyg_bgformer.cli.main import main
from tests.photos import write_photos

BACKBONE = ["evaluate", "conv4", "--weights", "null", "--image-size", "16", "--data.workers", "0"]


@pytest.fixture
def photos(tmp_path):
    return write_photos(tmp_path / "photos", "abc")


def test_the_table_is_that_of_a_run(photos, capsys):
    assert main([*BACKBONE, str(photos), "--verbose"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"MAP@R on 3 test classes: \d+\.\d, R@1 \d+\.\d \(embedding\)", printed)
    assert "R-precision" in printed
    assert "an existing model, not trained here" in printed


def test_json_is_printed_alone_and_written(photos, tmp_path, capsys):
    assert main([*BACKBONE, str(photos), "--json", "--out", str(tmp_path / "scores.json")]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((tmp_path / "scores.json").read_text())
    assert printed["trained"]["embedding"]["classes"] == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["evaluate"], "MODEL"),
        (["evaluate", "conv4", "PHOTOS", "--out", "nowhere/x.json"], "nowhere/x.json cannot be written"),
        (["evaluate", "conv4", "PHOTOS"], "has no published weights"),
        (["evaluate", "conv4", "PHOTOS", "--weights", "null", "--evaluation.recal", "1"], "unknown key"),
    ],
)
def test_mistakes_are_one_line(photos, capsys, arguments, said):
    assert main([str(photos) if one == "PHOTOS" else one for one in arguments]) == 2
    line = capsys.readouterr().err.strip()
    assert said in line
    assert "\n" not in line
