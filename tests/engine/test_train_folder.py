"""Training on a folder of photos."""

import pytest

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.engine.train_folder import folder_config, train_folder
from pyg_bgformer.errors import InputError
from pyg_bgformer.methods import METHODS
from pyg_bgformer.runs.result import read_result
from tests.photos import QUICK, write_photos


def test_a_run_is_scored_on_held_out_classes_and_leaves_a_model(trained, photos):
    result = read_result(trained)
    assert (result.tested, result.trained["embedding"]["classes"]) == ("unseen classes", 2)
    assert result.config["data"]["root"] == str(photos.resolve())
    model = EmbeddingModel.from_pretrained(trained.path)
    assert model.training_facts["tested"] == "unseen classes"
    assert "recall_at_1" in model.scores
    assert trained.checkpoint.exists()  # so that it can be extended


def test_all_classes_can_be_trained_on_and_the_model_then_carries_no_scores(photos, tmp_path):
    folder = train_folder(photos, method="plain", holdout=0, settings=QUICK, out=tmp_path / "run")
    result = read_result(folder)
    assert (result.tested, result.trained["embedding"]["classes"]) == ("training images", 6)
    assert EmbeddingModel.from_pretrained(folder.path).scores == {}


@pytest.mark.parametrize(
    ("names", "tested", "queries"),
    [
        (["train/a", "train/b", "test/a", "test/b"], "seen classes", 8),
        (["train/a", "train/b", "query/c", "query/d", "gallery/c", "gallery/d"], "unseen classes", 8),
        (["train/a", "train/b", "query/a", "gallery/a", "gallery/b"], "seen classes", 4),
    ],
)
def test_layouts_are_scored_as_they_are(tmp_path, names, tested, queries):
    photos = write_photos(tmp_path / "photos", names)
    result = read_result(train_folder(photos, settings=QUICK, out=tmp_path / "run"))
    assert (result.tested, result.trained["embedding"]["queries"]) == (tested, queries)


def test_training_starts_from_an_earlier_run_with_new_classes(trained, tmp_path):
    photos = write_photos(tmp_path / "more", "uvwxyz")
    settings = ["--data.workers=0", "--report.page=false", "--train.lr=0", "--train.head_lr=0"]
    settings += ["--evaluation.clustering=false", "--evaluation.recall_at=[1]"]
    folder = train_folder(photos, init=trained.path, epochs=1, settings=settings, out=tmp_path / "run")
    earlier, later = (EmbeddingModel.from_pretrained(one.path) for one in (trained, folder))
    assert later.encoder.spec == earlier.encoder.spec
    assert (later.image_size, later.resize) == (16, 18)
    for name, value in earlier.encoder.backbone.named_parameters():
        assert later.encoder.backbone.get_parameter(name).equal(value), name
    assert later.encoder.head.weight.equal(earlier.encoder.head.weight)


def test_every_method_has_a_recipe_and_options_become_its_keys(photos):
    for method in METHODS:
        config = folder_config(photos, method=method, image_size=96, epochs=3, holdout=0.5)
        assert (config.method.name, config.data.holdout, config.train.epochs) == (method, 0.5, 3)
        assert (config.data.image_size, config.data.resize) == (96, 108)
        assert config.encoder.options["feature_norm"] != "none"


@pytest.mark.parametrize(
    ("encoder", "weights", "frozen_batchnorm"),
    [
        ("timm/vit_tiny_patch16_224", "pretrained", False),
        ("torchvision/mobilenet_v2", "DEFAULT", True),
        ("conv4", None, False),
    ],
)
def test_another_encoder_is_pretrained_and_normalised_too(photos, encoder, weights, frozen_batchnorm):
    said = []
    config = folder_config(photos, encoder=encoder, settings=["--loss.name", "triplet"], say=said.append)
    options = config.encoder.options
    assert (config.encoder.name, options["weights"], options["frozen_batchnorm"]) == (
        encoder,
        weights,
        frozen_batchnorm,
    )
    assert options["feature_norm"] == "layer"
    assert options["embedding_dim"] == {"timm/vit_tiny_patch16_224": 192, "conv4": 64}.get(encoder, 512)
    assert [line.partition(":")[0] for line in said] == ["loss"]


@pytest.mark.parametrize(
    ("choices", "said"),
    [
        ({"method": "nonesuch"}, "unknown method 'nonesuch'"),
        ({"encoder": "timm/nonesuch"}, "timm has no model 'nonesuch'"),
        ({"weights": "no/file.pth"}, "weights file 'no/file.pth' does not exist"),
        ({"init": "no/such/model"}, "no model 'no/such/model'"),
        ({"init": "x", "weights": "y"}, "leave encoder and weights out"),
        ({"image_size": 0}, "data.image_size: expected"),
        ({"holdout": 1.5}, "data.holdout: expected"),
        ({"settings": ["--train.lrr", "1"]}, "unknown key 'train.lrr'"),
    ],
)
def test_wrong_choices_are_one_line_and_leave_nothing(photos, tmp_path, choices, said):
    with pytest.raises(InputError, match=said) as caught:
        train_folder(photos, out=tmp_path / "run", **choices)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_bad_images_are_named_before_training(tmp_path):
    photos = write_photos(tmp_path / "photos", "abcd")
    for name in "ac":
        (photos / name / "0.png").write_bytes((photos / name / "1.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"a/0\.png: damaged image .*\(and 1 more\)"):
        train_folder(photos, settings=QUICK, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_taken_is_refused(photos, trained):
    with pytest.raises(InputError, match="exists already; choose another folder for the run"):
        train_folder(photos, settings=QUICK, out=trained.path)
