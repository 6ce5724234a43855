import json

import pytest
import yaml

from pyg_bgformer.cli.main import main

RECIPE = {"method": {"name": "bgformer", "k": 5}, "train": {"epochs": 3}, "seed": 0}
RESULT = {
    "dataset_manifest_sha256": "abc",
    "weights": "random",
    "packages": {"torch": "2.9.0", "timm": "1.0"},
    "git_commit": "0123",
    "device": "cpu",
    "trained": {"embedding": {"recall_at_1": 0.5}},
}


@pytest.fixture
def write(tmp_path):
    def write_run(name, recipe=RECIPE, result=RESULT):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.yaml").write_text(yaml.safe_dump({**recipe, "runs": str(folder)}))
        if result is not None:
            (folder / "result.json").write_text(json.dumps(result))
        return str(folder)

    return write_run


def test_equal_runs_have_no_difference_whatever_they_scored(write, capsys):
    scored = {**RESULT, "trained": {"embedding": {"recall_at_1": 0.7}}}
    assert main(["diff", write("one"), write("other", result=scored)]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_each_difference_is_a_line(write, capsys):
    recipe = {"method": {"name": "plain"}, "train": {"epochs": 4}, "seed": 0}
    result = {**RESULT, "packages": {"torch": "2.10.0", "timm": "1.0"}, "device": "NVIDIA H200"}
    assert main(["diff", write("one"), write("other", recipe, result)]) == 1
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "device: cpu | NVIDIA H200",
        "packages.torch: 2.9.0 | 2.10.0",
        "recipe.method.k: 5 | (absent)",
        "recipe.method.name: bgformer | plain",
        "recipe.train.epochs: 3 | 4",
    ]


def test_of_unfinished_runs_the_recipes_are_compared(write, capsys):
    assert main(["diff", write("one", result=None), write("other", result=None)]) == 0
    assert "recipes alone" in capsys.readouterr().err
    assert main(["diff", write("third", result=None), write("fourth")]) == 1
    assert capsys.readouterr().out == "finished: no | yes\n"


def test_a_folder_that_is_no_run_is_named(write, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    damaged = write("damaged")
    (tmp_path / "damaged" / "result.json").write_text("{")
    for second, words in ((str(tmp_path / "empty"), "empty is not the folder"), (damaged, "damaged")):
        assert main(["diff", write(f"for {words}"), second]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert words in lines[0]
    assert main(["diff", damaged]) == 2
