import shutil

import pytest

from pyg_bgformer.errors import InputError
from pyg_bgformer.report.search_page import write_search_page
from tests.deploy.photos import write_photos
from tests.report.html_page import Page


def test_images_that_are_gone_are_named_without_a_picture(tmp_path):
    photos = [str(path) for path in write_photos(tmp_path / "photos", 3)]
    shutil.rmtree(tmp_path / "photos" / "blue")
    write_search_page(tmp_path / "x.html", photos[:1], [[(photos[1], 0.5), (photos[2], -0.25)]], "<shop>")
    page = Page((tmp_path / "x.html").read_text(encoding="utf-8"))
    assert [image["alt"] for image in page.images] == ["red/0.png", "green/1.png"]
    assert "Search in <shop>" in page.text
    assert "no longer there -0.250 blue/ 2.png" in page.text


def test_a_page_that_cannot_be_written_is_one_line(tmp_path):
    (photo,) = write_photos(tmp_path, 1)
    with pytest.raises(InputError, match="cannot be written"):
        write_search_page(tmp_path / "no" / "x.html", [str(photo)], [[]], "shop")
