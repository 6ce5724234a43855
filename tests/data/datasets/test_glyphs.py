import os
import unicodedata
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from pyg_bgformer.data import load_dataset
from pyg_bgformer.data.datasets import glyphs
from pyg_bgformer.data.datasets.glyphs import Glyphs
from pyg_bgformer.errors import InputError


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path_factory.mktemp("home")))
        yield Path(os.environ["HOME"])


@pytest.fixture(scope="module")
def dataset(home):
    assert not (home / ".cache").exists()
    return load_dataset("glyphs")


def cache_file(home):
    (file,) = (home / ".cache" / "pyg_bgformer").iterdir()
    return file


def test_latin_letters_train_and_four_other_scripts_test(dataset):
    by_split = dataset.table.groupby("split")["super_class"].unique()
    assert list(by_split["train"]) == ["Latin"]
    assert list(by_split["test"]) == ["Greek", "Cyrillic", "Armenian", "Georgian"]
    counts = dataset.counts()
    # The exact number may change with FreeType, which draws the letters.
    assert counts["train"].classes == pytest.approx(291, abs=5)
    assert counts["test"].classes == pytest.approx(264, abs=10)
    assert dataset.verify(workers=0).ok


def test_letters_have_no_diacritics_and_are_no_variants(dataset):
    letters = {chr(int(path.split("/")[1][2:], 16)) for path in dataset.table["path"]}
    assert {"A", "ß", "Ω", "Ж", "Ա"} <= letters
    for letter in letters:
        assert len(unicodedata.normalize("NFKD", letter)) == 1
    assert not letters & set("ÉйΆﬁ𝐀")


def test_a_letter_that_looks_like_an_earlier_one_is_left_out(dataset):
    names = set(dataset.table["original_class"])
    assert "LATIN CAPITAL LETTER A" in names
    assert (
        not {"GREEK CAPITAL LETTER ALPHA", "CYRILLIC CAPITAL LETTER A", "ARMENIAN CAPITAL LETTER OH"} & names
    )


def test_no_image_belongs_to_two_classes(dataset):
    owner = {}
    for label, pixels in zip(dataset.table["label"], dataset.pixels, strict=True):
        assert owner.setdefault(pixels.tobytes(), label) == label
    sizes = dataset.table["label"].value_counts()
    assert sizes.min() >= glyphs.LEAST_IMAGES
    assert sizes.max() == len(glyphs.FACES)


def test_letters_are_whole_and_centred(dataset):
    for row in range(0, len(dataset), 211):
        image = np.asarray(dataset.image(row))
        assert image.shape == (32, 32, 3)
        inked = np.argwhere(image[..., 0] > 0)
        assert np.abs(inked.min(0) + inked.max(0) - 31).max() <= 3
    assert dataset.pixels.max() == 255


def test_the_second_time_the_letters_are_read_from_the_cache(dataset, home, monkeypatch):
    written = cache_file(home).stat().st_mtime_ns
    monkeypatch.setattr(glyphs, "render_letters", None)
    again = load_dataset("glyphs")
    assert again.manifest_hash == dataset.manifest_hash
    assert again.source_stamp() == dataset.source_stamp()
    assert cache_file(home).stat().st_mtime_ns == written


def test_rendering_is_deterministic_and_a_damaged_cache_is_made_again(dataset, home, monkeypatch):
    whole = cache_file(home).read_bytes()
    scripts = ("Georgian",)
    few = Glyphs(*glyphs.render_letters(glyphs.find_fonts(), scripts))
    monkeypatch.setattr(glyphs, "render_letters", lambda _: (few.table["path"].tolist(), few.pixels))
    same = dataset.pixels[(dataset.table["super_class"] == "Georgian").to_numpy()]
    assert np.array_equal(same, few.pixels)
    for damaged in (whole[:-5000], whole[:5000] + bytes(9) + whole[5009:], b"x"):
        cache_file(home).write_bytes(damaged)
        assert len(glyphs.load()) == len(few)
        assert len(glyphs.load()) == len(few)
    cache_file(home).write_bytes(whole)


def test_where_the_cache_cannot_be_written_the_letters_are_rendered_again(dataset, tmp_path, monkeypatch):
    rendered = dataset.table["path"].tolist(), dataset.pixels
    (tmp_path / ".cache").write_text("a file")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(glyphs, "render_letters", lambda _: rendered)
    with pytest.warns(UserWarning, match=r"glyphs-\w+\.npz cannot be written"):
        assert len(glyphs.load()) == len(dataset)


def test_the_cache_is_of_these_fonts_and_versions(monkeypatch):
    fonts = glyphs.find_fonts()
    key = glyphs.cache_key(fonts)
    assert key == glyphs.cache_key(fonts)
    monkeypatch.setattr(glyphs, "renderer_versions", lambda: {"pillow": "1", "freetype": "2"})
    assert key != glyphs.cache_key(fonts)


def test_versions_of_the_renderer_are_named(dataset):
    assert set(dataset.versions) == {"pillow", "freetype"}


def test_missing_fonts_are_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setattr(matplotlib, "get_data_path", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"DejaVuSans\.ttf: no such font"):
        glyphs.load()
