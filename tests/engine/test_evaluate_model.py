"""Scores of models that exist."""

import pytest

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.deploy.load_model import load_model
from pyg_bgformer.engine.evaluate_model import evaluate_model
from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import evaluate
from pyg_bgformer.runs.result import read_result
from tests.photos import write_photos

PLAIN = ("--data.workers=0",)


def test_a_run_is_scored_on_its_own_data_as_the_run_did_it(trained, photos):
    expected = read_result(trained)
    for data in (None, photos, trained.path):
        result = evaluate_model(trained.path, data, settings=PLAIN)
        assert result.trained == expected.trained
        assert result.untrained == {}
        assert result.tested == "unseen classes"
        assert result.config["encoder"]["embedding_dim"] == 8
        assert result.config["method"]["name"] == "plain"


def test_a_moved_model_is_scored_alike_and_knows_its_data_by_their_hash(trained, photos, tmp_path):
    EmbeddingModel.from_pretrained(trained.path).save_pretrained(tmp_path / "model")
    result = evaluate_model(tmp_path / "model", trained.path, settings=PLAIN)
    assert (result.trained, result.tested) == (read_result(trained).trained, "unseen classes")


def test_all_classes_of_another_folder_are_scored(trained, tmp_path):
    photos = write_photos(tmp_path / "others", "uvw")
    write_photos(tmp_path / "others", ["single"], images=1)
    result = evaluate_model(trained.path, photos, settings=PLAIN)
    scores = result.trained["embedding"]
    assert (result.tested, scores["classes"], scores["queries"]) == ("test classes", 3, 12)
    model = EmbeddingModel.from_pretrained(trained.path)
    paths = [path for name in "uvw" for path in sorted((photos / name).iterdir())]
    naive = evaluate(model.embed(paths, workers=0), [i // 4 for i in range(12)], ks=(1,), clustering=False)
    assert scores["recall_at_1"] == naive.recall[1]
    assert scores["map_at_r"] == pytest.approx(naive.map_at_r)


def test_folders_of_splits_are_scored_as_they_are_laid_out(tmp_path):
    photos = write_photos(tmp_path / "photos", ["train/a", "train/b", "query/c", "gallery/c", "gallery/d"])
    result = evaluate_model("conv4", photos, weights="null", image_size=16, settings=PLAIN)
    assert result.trained["embedding"]["queries"] == 4
    assert result.trained["embedding"]["gallery"] == 8


def test_a_backbone_is_scored_by_name_on_a_dataset_or_recipe():
    settings = [*PLAIN, "--evaluation.clustering", "false"]
    first, second = (
        evaluate_model("conv4", data, weights="null", image_size=16, settings=settings)
        for data in ("digits", "digits/bgformer")
    )
    assert first.trained.keys() == {"embedding"}  # the features are the embedding
    assert first.trained == second.trained
    assert first.config["method"]["name"] == "untrained"
    model = load_model("conv4", weights="null", image_size=16)
    assert first.config["encoder"]["embedding_dim"] == model.dim == 64


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("conv4", None, "'conv4' is not the folder of a run; give the data that it is scored on"),
        ("conv4", "nowhere", "no data 'nowhere': expected a folder, a run, a recipe or a dataset"),
        ("conv4", "digit", "did you mean 'digits'"),
        ("conv4", "EMPTY", "train has 0 of the at least 2 classes"),
        ("EMPTY", "digits", r"no model in .*: encoder\.json is missing"),
    ],
)
def test_no_model_or_no_data_is_one_line(tmp_path, model, data, said):
    with pytest.raises(InputError, match=said) as caught:
        evaluate_model(*(str(tmp_path) if one == "EMPTY" else one for one in (model, data)), settings=PLAIN)
    assert "\n" not in str(caught.value)
