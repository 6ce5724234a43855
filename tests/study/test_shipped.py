"""Every shipped study and the recipe of each of its rows, read as a run would read them."""

from pathlib import Path

import pytest
import yaml

from pyg_bgformer.study.definition import read_study

STUDIES = sorted((Path(__file__).parents[2] / "experiments" / "studies").glob("*.yaml"))
SIZES = [(path, size) for path in STUDIES for size in yaml.safe_load(path.read_text())["sizes"]]


def test_every_study_has_its_sizes():
    sizes = {path.stem: {size for study, size in SIZES if study == path} for path in STUDIES}
    assert sizes.pop("published") == {"cub200", "cars196", "sop", "inshop"}
    assert sizes.pop("contest") == {"frozen", "glyphs", "finetuned"}
    assert sizes.pop("shortcut") == {"glyphs"}
    assert list(sizes) == ["ablation", "batch", "methods", "noise"]
    assert all({"small", "full"} <= of_study for of_study in sizes.values())


@pytest.fixture(scope="module", params=SIZES, ids=lambda given: f"{given[0].stem}-{given[1]}")
def study(request):
    return read_study(*request.param)


def test_every_row_is_read_and_no_two_rows_are_the_same(study):
    configs = [row.config for row in study.rows]
    assert all(configs[i] not in configs[:i] for i in range(len(configs)))
    assert len({row.config.data.name for row in study.rows}) == 1
    assert study.results == STUDIES[0].parent / ".." / "results"


def test_a_full_study_is_of_224_pixels_and_five_seeds(study):
    if study.name.endswith("-full"):
        assert {row.config.data.image_size for row in study.rows} == {224}
        assert all(len(row.seeds) >= 5 for row in study.rows)


def test_rows_of_one_study_are_trained_for_as_many_epochs_with_one_encoder(study):
    if study.name.startswith("published"):
        return  # each row is trained as its authors do
    assert len({row.config.train.epochs for row in study.rows}) == 1
    assert (
        len({(row.config.encoder.name, row.config.encoder.options["embedding_dim"]) for row in study.rows})
        == 1
    )
