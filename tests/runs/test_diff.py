import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.runs.folder import RunFolder
from tests.results import a_result, write_run

RECIPE = {"method": {"name": "bgformer", "k": 5}, "train": {"epochs": 3}, "seed": 0}


@pytest.fixture
def write(tmp_path):
    def write_one(name, recipe=RECIPE, **changes):
        config = {**recipe, "runs": str(tmp_path / name)}
        return str(write_run(tmp_path / name, a_result(config=config, **changes)))

    return write_one


def test_equal_runs_have_no_difference_whatever_they_scored(write, capsys):
    assert main(["diff", write("one", recall=0.5), write("other", recall=0.7)]) == 0
    assert capsys.readouterr().out == "no difference\n"


def test_each_difference_is_a_line(write, capsys):
    recipe = {"method": {"name": "plain"}, "train": {"epochs": 4}, "seed": 0}
    origin = {"packages": {"torch": "2.10.0", "timm": "1.0"}, "device": "NVIDIA H200"}
    assert main(["diff", write("one"), write("other", recipe, origin=origin)]) == 1
    assert sorted(capsys.readouterr().out.splitlines()) == [
        "device: cpu | NVIDIA H200",
        "packages.torch: 2.9.0 | 2.10.0",
        "recipe.method.k: 5 | (absent)",
        "recipe.method.name: bgformer | plain",
        "recipe.train.epochs: 3 | 4",
    ]


def test_of_unfinished_runs_the_recipes_are_compared(write, tmp_path, capsys):
    begun = [str(RunFolder.create(tmp_path / name, RECIPE)) for name in ("begun", "begun too")]
    assert main(["diff", *begun]) == 0
    assert "only their recipes" in capsys.readouterr().err
    assert main(["diff", begun[0], write("finished")]) == 1
    assert capsys.readouterr().out == "finished: no | yes\n"


def test_a_folder_that_is_no_run_is_named(write, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    damaged = write("damaged")
    RunFolder(damaged).result.write_text("{")
    for second, words in ((str(tmp_path / "empty"), "empty is not the folder"), (damaged, "damaged")):
        assert main(["diff", write(f"for {words}"), second]) == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert len(lines) == 1
        assert words in lines[0]
    assert main(["diff", damaged]) == 2
