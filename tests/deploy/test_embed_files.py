"""Image files to a file of vectors, and what is left of it when it is interrupted."""

import os

import numpy as np
import pandas as pd
import pytest
import torch

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.deploy import shards as shards_module
from pyg_bgformer.deploy.embed_files import embed_files
from pyg_bgformer.deploy.shards import Shards
from pyg_bgformer.deploy.vectors import read_vectors
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.errors import InputError
from tests.photos import picture, write_photos


def a_model(seed=0):
    torch.manual_seed(seed)
    return EmbeddingModel(build_encoder("conv4", embedding_dim=8), image_size=16, resize=18)


@pytest.fixture
def photos(tmp_path):
    """Ten images at two depths, one of them grey."""
    root = write_photos(tmp_path / "photos", ["a", "b/deep"])
    for number in (1, 2):
        picture(90 + number).save(root / f"{number}.jpg")
    return root


def paths_in(photos):
    return sorted(str(path) for path in photos.rglob("*.*"))


class Stopping(EmbeddingModel):
    """Stands for a process that is interrupted after some images."""

    after = 4

    def embed_batches(self, images, **options):
        done = 0
        for positions, vectors in super().embed_batches(images, **options):
            yield positions, vectors
            done += len(positions)
            if done >= self.after:
                raise KeyboardInterrupt


def stopping_model():
    torch.manual_seed(0)
    return Stopping(build_encoder("conv4", embedding_dim=8), image_size=16, resize=18)


def test_every_image_at_any_depth_has_the_vector_of_the_model(photos, tmp_path):
    seen = []
    done = embed_files(
        a_model(), [photos], tmp_path / "v.npz", batch_size=3, progress=lambda *at: seen.append(at)
    )
    table = read_vectors(tmp_path / "v.npz")
    assert sorted(table.paths) == paths_in(photos)
    expected = a_model().embed(table.paths)
    torch.testing.assert_close(torch.from_numpy(table.vectors), expected)
    assert table.model == a_model().sha256
    assert (done.images, done.reused, done.bad) == (10, 0, [])
    assert seen == [(3, 10), (6, 10), (9, 10), (10, 10)]
    assert sorted(os.listdir(tmp_path)) == ["photos", "v.npz"]


def test_files_and_folders_are_taken_together_and_each_image_once(photos, tmp_path):
    embed_files(a_model(), [photos / "2.jpg", photos / "a", photos / "2.jpg"], tmp_path / "v.csv")
    names = [path.rpartition("/")[2] for path in pd.read_csv(tmp_path / "v.csv")["path"]]
    assert names == ["2.jpg", "0.png", "1.png", "2.png", "3.png"]


def test_interrupted_work_is_continued_and_the_result_is_the_same(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(shards_module, "SHARD", 2)
    out = tmp_path / "v.npz"
    for reused in (0, 4):
        with pytest.raises(KeyboardInterrupt):
            embed_files(stopping_model(), [photos], out, batch_size=2)
        assert not out.exists()
        assert len(Shards(out, a_model().sha256).embedded()) == reused + 4
    done = embed_files(a_model(), [photos], out, batch_size=2)
    assert (done.images, done.reused) == (10, 8)
    embed_files(a_model(), [photos], tmp_path / "whole.npz", batch_size=2)
    resumed, whole = read_vectors(out), read_vectors(tmp_path / "whole.npz")
    assert resumed.paths == whole.paths
    assert np.array_equal(resumed.vectors, whole.vectors)
    assert sorted(os.listdir(tmp_path)) == ["photos", "v.npz", "whole.npz"]


def test_images_that_changed_since_are_embedded_again(photos, tmp_path):
    out = tmp_path / "v.npz"
    with pytest.raises(KeyboardInterrupt):
        embed_files(stopping_model(), [photos], out, batch_size=4)
    first = next(iter(Shards(out, a_model().sha256).embedded()))
    picture(77, "L").save(first)
    (photos / "a" / "3.png").unlink()
    assert embed_files(a_model(), [photos], out).images == 9
    table = read_vectors(out)
    torch.testing.assert_close(torch.from_numpy(table.vectors), a_model().embed(table.paths))


def test_unfinished_work_of_another_model_is_refused(photos, tmp_path):
    out = tmp_path / "v.npz"
    with pytest.raises(KeyboardInterrupt):
        embed_files(stopping_model(), [photos], out, batch_size=4)
    with pytest.raises(
        InputError, match=r"\.v\.npz\.shards has unfinished work of the model .*; remove that folder"
    ):
        embed_files(a_model(seed=1), [photos], out)


def test_bad_images_are_named_or_left_out(photos, tmp_path):
    (photos / "a" / "bad.jpg").write_bytes(b"no image")
    (photos / "b" / "phone.heic").write_bytes(b"not read")
    with pytest.raises(InputError, match=r"phone\.heic: \.heic images are not read"):
        embed_files(a_model(), [photos], tmp_path / "v.npz")
    (photos / "b" / "phone.heic").rename(tmp_path / "phone.heic")
    with pytest.raises(
        InputError, match=r"a/bad\.jpg: not an image.*; leave such images out with --skip-bad"
    ):
        embed_files(a_model(), [photos], tmp_path / "v.npz")
    (tmp_path / "phone.heic").rename(photos / "b" / "phone.heic")
    done = embed_files(a_model(), [photos], tmp_path / "v.npz", skip_bad=True, batch_size=2)
    assert sorted(str(error).rpartition("/")[2].partition(":")[0] for error in done.bad) == [
        "bad.jpg",
        "phone.heic",
    ]
    table = read_vectors(tmp_path / "v.npz")
    assert len(table) == done.images == 10
    torch.testing.assert_close(torch.from_numpy(table.vectors), a_model().embed(table.paths))


def test_nothing_is_written_when_no_image_can_be_read(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "bad.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 1 images can be read: .*the file is empty"):
        embed_files(a_model(), [tmp_path / "photos"], tmp_path / "v.npz", skip_bad=True)
    assert os.listdir(tmp_path) == ["photos"]


def test_a_name_that_is_not_text_is_a_bad_image(photos, tmp_path):
    picture(1).save(tmp_path / "x.png")
    os.rename(os.fsencode(tmp_path / "x.png"), os.fsencode(photos) + b"/\xff.png")
    with pytest.raises(InputError, match="its name is not UTF-8; rename it"):
        embed_files(a_model(), [photos], tmp_path / "v.npz")
    assert embed_files(a_model(), [photos], tmp_path / "v.npz", skip_bad=True).images == 10


@pytest.mark.parametrize(
    ("out", "options", "said"),
    [
        ("v.txt", {}, "unknown ending '.txt'"),
        ("nowhere/v.npz", {}, "there is no folder"),
        ("photos.npz", {}, "it is a folder"),
        ("v.npz", {"engine": "ray"}, "expected the ending .parquet with the engine ray"),
        ("v.npz", {"device": "quantum"}, "device 'quantum' cannot be used"),
        ("v.npz", {"batch_size": 0}, "batch_size: found 0"),
    ],
)
def test_wrong_places_and_options_are_one_line(photos, tmp_path, out, options, said):
    (tmp_path / "photos.npz").mkdir()
    with pytest.raises(InputError, match=said) as caught:
        embed_files(a_model(), [photos], tmp_path / out, **options)
    assert "\n" not in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["photos", "photos.npz"]


def test_two_processes_do_not_write_one_file(photos, tmp_path):
    with (
        Shards.opened(tmp_path / "v.npz", a_model().sha256),
        pytest.raises(InputError, match="is in use: another process writes it"),
    ):
        embed_files(a_model(), [photos], tmp_path / "v.npz")


def test_shards_of_ray_become_one_folder_with_each_image_once(tmp_path):
    """A shard of a killed process may hold what a later one embedded again."""
    pytest.importorskip("pyarrow")
    rows = {name: (name, "", np.float32([number, 0])) for number, name in enumerate("abcd")}
    with Shards.opened(tmp_path / "v.parquet", "model", by_ray=True) as shards:
        for chosen in ("abc", "cd", "b"):
            shards.write([rows[name] for name in chosen])
        assert shards.publish(["a", "b", "c"]) == 3
    table = read_vectors(tmp_path / "v.parquet")
    assert sorted(table.paths) == ["a", "b", "c"]
    for path, vector in zip(table.paths, table.vectors, strict=True):
        assert np.array_equal(vector, rows[path][2])
    assert os.listdir(tmp_path) == ["v.parquet"]
