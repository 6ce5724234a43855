import re
import shutil

import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.study_page import cell, row_runs, study_page, write_study_page
from tests.report.html_page import Page


@pytest.fixture
def study(bgformer_run, plain_run, tmp_path):
    """A folder with a finished run of two rows, and one run that has just begun."""
    folder = tmp_path / "study"
    shutil.copytree(bgformer_run.path, folder / "graph-seed0")
    shutil.copytree(plain_run.path, folder / "plain-seed0")
    shutil.copytree(plain_run.path, folder / "plain-seed1")
    (folder / "plain-seed1" / "result.json").unlink()
    return folder


def test_a_study_has_its_table_its_figure_and_galleries_of_the_same_queries(study):
    page = Page(write_study_page(study).read_text(encoding="utf-8"))
    assert page.open == []
    assert {"scores", "figure", "gallery"} <= page.ids
    for address in page.addresses:
        assert address.startswith(("data:image/", "#")), address
    queries = sum(image["alt"].startswith("query: ") for image in page.images)
    hits = sum(re.match("right: |wrong: ", image["alt"]) is not None for image in page.images)
    assert queries == 4 + 3 + 2
    assert hits == queries * 8 * 2
    assert "1 of 3 runs are not finished" in page.text
    assert "ones of plain with seed 0" in page.text
    assert page.text.count("MAP@R") >= 1


def test_the_reference_can_be_named(study, tmp_path):
    out = tmp_path / "page.html"
    assert write_study_page(study, out, reference="graph", pictures=False) == out
    page = Page(out.read_text(encoding="utf-8"))
    assert "from 'graph'" in page.text
    assert page.images == []
    with pytest.raises(InputError, match="no run of 'graf'"):
        write_study_page(study, out, reference="graf", pictures=False)


def test_rows_are_named_by_their_folders(study):
    (study / "notes-seed3").mkdir()
    assert {row: len(runs) for row, runs in row_runs(study).items()} == {"graph": 1, "plain": 2}


def test_names_of_rows_are_text(runs):
    html = study_page(runs.replace({"row": {"new": "<script>"}}), "<script>")
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_runs_is_no_study(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"{name} is neither a run nor a study"):
        write_study_page(tmp_path / name)


def test_a_bold_difference_has_no_stars_and_its_p_value_apart():
    assert cell("**-2.3 ± 2.0** (p = 0.040)", True) == {"text": "-2.3 ± 2.0", "bold": True, "p": "p = 0.040"}
    assert cell("+0.3", True) == {"text": "+0.3", "bold": False, "p": ""}
    assert cell("BGFormer (dual)", False) == {"text": "BGFormer (dual)", "bold": False, "p": ""}
