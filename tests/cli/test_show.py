import shutil

import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.runs.folder import RunFolder
from tests.report.finished import finished
from tests.report.html_page import Page

pytestmark = pytest.mark.usefixtures("few_digits")


@pytest.fixture(scope="module")
def run(few_digits, tmp_path_factory):
    """A finished run of a method with a graph."""
    return finished(tmp_path_factory.mktemp("runs"), "--method.name=bgformer")


def test_show_writes_the_page_of_a_run(run, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["show", str(run), "--out", str(out), "--map", "none", "--no-graph"]) == 0
    assert capsys.readouterr().out == f"{out} ({out.stat().st_size / 1e6:.1f} MB)\n"
    page = Page(out.read_text(encoding="utf-8"))
    assert "gallery" in page.ids
    assert {"embedding-map", "graph"}.isdisjoint(page.ids)


def test_show_of_a_folder_of_runs_compares_them(run, tmp_path, capsys):
    study = tmp_path / "study"
    shutil.copytree(run.path, study / "graph-seed0")
    assert main(["show", str(study), "--no-pictures"]) == 0
    assert str(study / "report.html") in capsys.readouterr().out
    assert "graph" in (study / "report.html").read_text(encoding="utf-8")


def test_without_the_dataset_the_page_has_no_pictures_and_says_so(run, tmp_path, capsys):
    moved = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    recipe = moved.recipe.read_text(encoding="utf-8").replace(
        "name: digits", "name: folder\n  root: /nowhere"
    )
    recipe = recipe.replace("  root: null\n", "")
    moved.recipe.write_text(recipe, encoding="utf-8")
    assert main(["show", str(moved)]) == 0
    assert "the page has no pictures: " in capsys.readouterr().out
    page = Page(moved.page.read_text(encoding="utf-8"))
    assert "/nowhere" in page.text
    assert page.images == []


def test_mistakes_are_one_line(run, tmp_path, capsys):
    unfinished = RunFolder(shutil.copytree(run.path, tmp_path / "unfinished"))
    unfinished.result.unlink()
    damaged = RunFolder(shutil.copytree(run.path, tmp_path / "damaged"))
    damaged.result.write_text("{}", encoding="utf-8")
    for arguments, words in [
        ([str(tmp_path / "nowhere")], "neither a run nor a study"),
        ([str(unfinished)], "is not finished; resume it with: pyg-bgformer run --resume"),
        ([str(damaged)], "result.json has schema None, expected 1"),
        (
            [str(run), "--out", str(tmp_path / "no" / "page.html"), "--no-pictures"],
            "page.html cannot be written",
        ),
        ([str(run), "--map", "pca"], "--map"),
    ]:
        assert main(["show", *arguments]) == 2
        printed = capsys.readouterr()
        assert words in printed.err
        assert printed.err.count("\n") == 1
    assert not unfinished.page.exists()
