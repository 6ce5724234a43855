import json

import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from tests.deploy.photos import small_model, write_photos
from tests.report.html_page import Page


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Twelve photos; beside their folder is their index."""
    folder = tmp_path_factory.mktemp("shop")
    paths = write_photos(folder / "photos")
    ImageIndex.create(folder / "index", small_model(), find_images([folder / "photos"]))
    return [str(path) for path in paths]


@pytest.fixture
def index(photos):
    return photos[0].removesuffix("/photos/red/0.png") + "/index"


def test_a_table_has_paths_and_similarities(index, photos, capsys):
    assert main(["search", index, *photos[:2], "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert lines[::4] == photos[:2]
    assert lines[1].split() == ["1", "1.0000", photos[0]]


def test_json_has_the_same_and_nothing_else_is_printed(index, photos, tmp_path, capsys):
    assert main(["search", index, photos[4], "--json", "--html", str(tmp_path / "page.html")]) == 0
    (answer,) = json.loads(capsys.readouterr().out)
    assert answer["query"] == photos[4]
    assert len(answer["neighbours"]) == 8
    assert answer["neighbours"][0] == {"path": photos[4], "similarity": pytest.approx(1)}


def test_a_page_has_a_picture_of_each_and_needs_no_file(index, photos, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["search", index, *photos[:2], "-k", "3", "--html", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"page: {out} (")
    page = Page(out.read_text(encoding="utf-8"))
    assert page.open == []
    assert len(page.images) == 8
    assert all(image["src"].startswith("data:image/webp;base64,") for image in page.images)
    assert "red/ 0.png" in page.text
    assert "1.000" in page.text


def test_a_small_index_shows_all_it_has_unless_k_is_given(tmp_path, capsys):
    write_photos(tmp_path / "photos", 3)
    ImageIndex.create(tmp_path / "index", small_model(), find_images([tmp_path / "photos"]))
    command = ["search", str(tmp_path / "index"), str(tmp_path / "photos" / "red" / "0.png")]
    assert main(command) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4
    assert main([*command, "-k", "4"]) == 2
    assert "k: found 4, expected 1 to 3: the index has 3 entries" in capsys.readouterr().err


def test_mistakes_are_one_line(index, photos, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    page = tmp_path / "no" / "page.html"
    for command, words in [
        ([str(tmp_path), photos[0]], "is not an index: index.json cannot be read"),
        ([index, str(tmp_path / "notes.txt")], "expected a photo or a folder of photos"),
        ([index, str(tmp_path / "broken.jpg")], "broken.jpg: not an image"),
        ([index, photos[0], "-k", "0"], "k: found 0, expected 1 to 12"),
        ([index, photos[0], "--html", str(page)], "page.html cannot be written: No such file or directory"),
        ([index, photos[0], "--model", str(tmp_path)], "no model in"),
    ]:
        assert main(["search", *command]) == 2
        printed = capsys.readouterr()
        assert words in printed.err
        assert printed.err.count("\n") == 1
        assert printed.out == ""
