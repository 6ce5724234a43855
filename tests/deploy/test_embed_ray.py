"""Embedding by a local Ray with two workers."""

import os

import pytest
import torch

from pyg_bgformer.deploy import embed_ray
from pyg_bgformer.deploy.embed_files import embed_files
from pyg_bgformer.deploy.vectors import read_vectors
from pyg_bgformer.errors import InputError
from tests.deploy.test_embed_files import a_model, paths_in
from tests.photos import write_photos

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def local_ray():
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    pytest.importorskip("pyarrow")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_two_workers_write_shards_that_are_one_table_and_resume(local_ray, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_ray, "RAY_SHARD", 3)
    photos, out = write_photos(tmp_path / "photos", ["a", "b", "c"]), tmp_path / "vectors.parquet"
    bad = photos / "b" / "bad.png"
    bad.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"bad\.png: not an image"):
        embed_files(a_model(), [photos], out, engine="ray", workers=0)
    assert not out.exists()
    seen = []
    done = embed_files(
        a_model(),
        [photos],
        out,
        engine="ray",
        workers=0,
        skip_bad=True,
        progress=lambda *at: seen.append(at),
    )
    assert (done.images, [str(error).partition(": ")[0] for error in done.bad]) == (12, [str(bad)])
    assert done.reused > 0
    assert seen[-1] == (13, 13)
    table = read_vectors(out)
    assert sorted(table.paths) == [path for path in paths_in(photos) if path != str(bad)]
    torch.testing.assert_close(torch.from_numpy(table.vectors), a_model().embed(table.paths))
    assert sorted(os.listdir(tmp_path)) == ["photos", "vectors.parquet"]
    assert len(os.listdir(out)) > 2
    with pytest.raises(InputError, match="exists already"):
        embed_files(a_model(), [photos], out, engine="ray")
