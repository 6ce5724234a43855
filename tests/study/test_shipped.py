"""Every shipped study and the recipe of each of its rows, read as a run would read them."""

from pathlib import Path

import pytest
import yaml

from pyg_bgformer.study.definition import read_study

STUDIES = sorted((Path(__file__).parents[2] / "experiments" / "studies").glob("*.yaml"))
SIZES = [(path, size) for path in STUDIES for size in yaml.safe_load(path.read_text())["sizes"]]


@pytest.mark.parametrize(("path", "size"), SIZES, ids=lambda given: getattr(given, "stem", given))
def test_the_rows_of_a_study_differ_in_what_it_asks_and_in_nothing_else(path, size):
    study = read_study(path, size)
    configs = [row.config for row in study.rows]
    assert all(configs[i] not in configs[:i] for i in range(len(configs)))
    assert len({config.data.name for config in configs}) == 1
    assert study.results == path.parent / ".." / "results"
    if size == "full":
        assert {config.data.image_size for config in configs} == {224}
        assert all(len(row.seeds) >= 5 for row in study.rows)
    if path.stem != "published":  # there each row is trained as its authors do
        assert len({config.train.epochs for config in configs}) == 1
        assert len({(c.encoder.name, c.encoder.options["embedding_dim"]) for c in configs}) == 1
    if study.budget is not None:
        assert set.intersection(*(set(row.space) for row in study.rows)) >= {
            "train.lr",
            "encoder.feature_norm",
        }
