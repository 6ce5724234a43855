import shutil

import pytest

from pyg_bgformer.cli.main import main
from pyg_bgformer.deploy.image_index import ImageIndex
from tests.deploy.photos import small_model, write_photos


@pytest.fixture
def model(tmp_path):
    small_model().save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_an_index_is_made_and_added_to(tmp_path, model, capsys):
    photos, out = tmp_path / "photos", tmp_path / "shop.index"
    write_photos(photos)
    assert main(["index", model, str(photos), "--out", str(out)]) == 0
    assert f"{out}: 12 images, 8 dimensions, model " in capsys.readouterr().out
    write_photos(photos, 15)
    assert main(["index", model, str(photos), "--out", str(out), "--add"]) == 0
    printed = capsys.readouterr().out
    assert "3 of 15 images were new" in printed
    assert f"{out}: 15 images" in printed
    assert len(ImageIndex(out)) == 15


def test_an_approximate_index_says_what_it_finds(tmp_path, model, capsys):
    pytest.importorskip("faiss", reason="the extra 'search' is not installed")
    write_photos(tmp_path / "photos")
    command = ["index", model, str(tmp_path / "photos"), "--out", str(tmp_path / "x"), "--approximate"]
    assert main(command) == 0
    assert "the approximate index finds 100.0% of the 10 true neighbours" in capsys.readouterr().out


def test_an_index_of_vectors_that_were_embedded_before(tmp_path, model, capsys):
    photos, vectors, out = tmp_path / "photos", tmp_path / "vectors.npz", tmp_path / "shop.index"
    write_photos(photos)
    assert main(["embed", model, str(photos), "--out", str(vectors)]) == 0
    assert main(["index", model, str(vectors), "--out", str(out)]) == 0
    shutil.rmtree(photos / "blue")
    hits = ImageIndex(out).search(photos / "red" / "0.png", k=12)
    assert hits.names[0][0] == str(photos / "red" / "0.png")
    assert str(photos / "blue" / "2.png") in hits.names[0]
    small_model(seed=1).save_pretrained(tmp_path / "other")
    capsys.readouterr()
    assert main(["index", str(tmp_path / "other"), str(vectors), "--out", str(tmp_path / "x")]) == 2
    assert "vectors of two models cannot be compared" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_broken_photos_are_listed_and_left_out_where_this_is_asked_for(tmp_path, model, capsys):
    photos, out = tmp_path / "photos", tmp_path / "shop.index"
    write_photos(photos)
    (photos / "red" / "1.png").write_bytes(b"no image")
    command = ["index", model, str(photos), "--out", str(out)]
    assert main(command) == 2
    assert not out.exists()
    capsys.readouterr()
    assert main([*command, "--skip-bad"]) == 0
    printed = capsys.readouterr()
    assert printed.err.startswith(f"skipped: {photos / 'red' / '1.png'}: not an image")
    assert "12 images" in printed.out
    shutil.rmtree(photos)
    (photos / "red").mkdir(parents=True)
    (photos / "red" / "1.png").write_bytes(b"no image")
    assert main(["index", model, str(photos), "--out", str(tmp_path / "x"), "--skip-bad"]) == 2
    assert "none of the images can be read" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_mistakes_are_one_line_and_leave_nothing(tmp_path, model, capsys):
    photos, out, other = str(tmp_path / "photos"), str(tmp_path / "index"), str(tmp_path / "other")
    write_photos(tmp_path / "photos")
    small_model(seed=1).save_pretrained(other)
    for command, words in [
        ([model, photos], "--out"),
        ([model, photos, "--out", out, "--add"], "is not an index: index.json cannot be read"),
        ([photos, photos, "--out", out], "encoder.json is missing"),
        ([model, photos, "--out", out, "--device", "nowhere"], "device 'nowhere' cannot be used"),
        ([model, photos, "--out", out, "--batch-size", "0"], "--batch-size must be at least 1, found 0"),
    ]:
        assert main(["index", *command]) == 2
        printed = capsys.readouterr()
        assert words in printed.err
        assert printed.err.count("\n") == 1
        assert not (tmp_path / "index").exists()
    assert main(["index", model, photos, "--out", out]) == 0
    assert main(["index", other, photos, "--out", out, "--add"]) == 2
    assert "vectors of two models cannot be compared" in capsys.readouterr().err
