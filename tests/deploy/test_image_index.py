import os
import shutil

import pytest
import torch

from pyg_bgformer.deploy import image_index
from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import PoincareBall
from tests.deploy.photos import small_model, write_photos


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos")
    return find_images([tmp_path / "photos"])


@pytest.mark.parametrize("geometry", [None, PoincareBall()], ids=["sphere", "ball"])
def test_photos_find_what_the_model_says_is_similar(tmp_path, photos, geometry):
    model = small_model(geometry=geometry)
    ImageIndex.create(tmp_path / "index", model, photos)
    index = ImageIndex(tmp_path / "index")
    hits = index.search(photos[:3], k=len(photos))
    vectors = model.embed(photos)
    expected = model.similarity(vectors[:3], vectors).sort(dim=1, descending=True)
    torch.testing.assert_close(hits.similarities, expected.values)
    assert [row[0] for row in hits.names] == photos[:3]


def test_additions_in_parts_are_the_images_that_are_missing(tmp_path, photos, monkeypatch):
    monkeypatch.setattr(image_index, "ROWS", 2)
    told = []
    index = ImageIndex.create(tmp_path / "index", small_model(), photos[:3])
    stale = ImageIndex(tmp_path / "index")
    index.add(photos[2:9], progress=lambda done, total: told.append((done, total)))
    assert told == [(2, 6), (4, 6), (6, 6)]
    assert stale.add(photos) == 3
    assert sorted(ImageIndex(tmp_path / "index").vectors.names) == sorted(photos)


def test_a_broken_photo_leaves_no_index_behind(tmp_path, photos):
    (tmp_path / "photos" / "red" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"broken\.png: not an image"):
        ImageIndex.create(tmp_path / "index", small_model(), find_images([tmp_path / "photos"]))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_another_model_is_refused(tmp_path, photos):
    ImageIndex.create(tmp_path / "index", small_model(), photos)
    with pytest.raises(InputError, match="vectors of two models cannot be compared"):
        ImageIndex(tmp_path / "index", small_model(seed=1))
    shutil.rmtree(tmp_path / "index" / "model")
    with pytest.raises(InputError, match="has no copy of its model; give the model with --model"):
        ImageIndex(tmp_path / "index")
    assert len(ImageIndex(tmp_path / "index", small_model())) == len(photos)


def test_images_are_found_at_any_depth_and_once(tmp_path, photos):
    deep = tmp_path / "photos" / "red" / "more" / "deep.png"
    deep.parent.mkdir()
    shutil.copy(photos[0], deep)
    found = find_images([tmp_path / "photos", photos[0], tmp_path / "photos" / "red"])
    assert sorted(found) == sorted([*photos, str(deep)])


def test_a_name_that_is_no_text_is_refused_or_left_out(tmp_path, photos):
    try:
        shutil.copy(photos[0], os.fsencode(tmp_path / "photos" / "red") + b"/\xff.png")
    except OSError:
        pytest.skip("this file system takes no such name")
    with pytest.raises(InputError, match="its name is not UTF-8; rename it"):
        find_images([tmp_path / "photos"])
    bad = []
    assert sorted(find_images([tmp_path / "photos"], bad)) == sorted(photos)
    assert len(bad) == 1


def test_mistakes_are_one_line(tmp_path, photos):
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "file").write_text("no folder")
    model = small_model()
    index = ImageIndex.create(tmp_path / "index", model, photos)
    mistakes = [
        (lambda: find_images([tmp_path / "empty"]), "found no images in this folder"),
        (lambda: find_images([tmp_path / "nowhere"]), "there is no such file or folder"),
        (lambda: find_images([tmp_path / "notes.txt"]), "expected a photo or a folder of photos"),
        (lambda: ImageIndex.create(tmp_path / "index", model, photos), "add to it with --add"),
        (
            lambda: ImageIndex.create(tmp_path / "empty", model, photos),
            "is not an index; choose another name",
        ),
        (
            lambda: ImageIndex.create(tmp_path / "file" / "x", model, photos),
            "cannot be made: Not a directory",
        ),
        (lambda: index.search(photos[0], k=99), "k: found 99, expected 1 to 12"),
    ]
    for call, message in mistakes:
        with pytest.raises(InputError, match=message):
            call()
