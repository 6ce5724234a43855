import importlib.util
from pathlib import Path

import pytest

from pyg_bgformer.deploy.embed_files import embed_files
from pyg_bgformer.deploy.image_index import ImageIndex, find_images
from tests.deploy.photos import small_model, write_photos

pytest.importorskip("lancedb", reason="lancedb is not installed")
pytest.importorskip("pyarrow", reason="the extra 'search' is not installed")
SCRIPT = Path(__file__).parents[2] / "examples" / "vector_database.py"


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("vector_database", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_vector_database_finds_what_the_index_finds(script, tmp_path, capsys):
    model = small_model()
    model.save_pretrained(tmp_path / "model")
    photo = write_photos(tmp_path / "photos")[4]
    vectors = tmp_path / "vectors.parquet"
    embed_files(model, [tmp_path / "photos"], vectors)
    database = ["--database", str(tmp_path / "photos.lancedb")]
    script.main([str(tmp_path / "model"), str(vectors), str(photo), "-k", "5", *database])
    found = [line.split() for line in capsys.readouterr().out.splitlines()]
    hits = ImageIndex.create(tmp_path / "index", model, find_images([tmp_path / "photos"])).search(photo, k=5)
    assert [path for _, path in found] == hits.names[0]
    assert [float(value) for value, _ in found] == pytest.approx(hits.similarities[0].tolist(), abs=1e-3)

    small_model(seed=1).save_pretrained(tmp_path / "other")
    with pytest.raises(SystemExit, match="vectors of another model"):
        script.main([str(tmp_path / "other"), str(vectors), str(photo), *database])
