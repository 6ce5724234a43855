"""Models by name."""

import pytest
import torch
import torch.nn.functional as F

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.deploy.load_model import is_backbone, load_model
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.errors import InputError


@pytest.mark.parametrize("name", ["conv4", "timm/resnet18", "torchvision/mobilenet_v2"])
def test_a_backbone_embeds_by_its_pooled_features(name):
    before = torch.get_rng_state()
    model = load_model(name, weights="null", image_size=64)
    assert torch.equal(torch.get_rng_state(), before)
    assert (model.image_size, model.resize, model.dim) == (64, 73, model.encoder.feature_dim)
    images = torch.rand(3, 3, 64, 64)
    features = model.encoder.backbone((images - model.mean) / model.std)
    torch.testing.assert_close(model(images), F.normalize(features, dim=1))


def test_a_backbone_takes_its_weights_from_a_file_and_its_size_from_its_library(tmp_path):
    torch.manual_seed(1)
    backbone = build_encoder("timm/resnet18").backbone
    torch.save(backbone.net.state_dict(), tmp_path / "weights.pth")
    model = load_model("timm/resnet18", weights=tmp_path / "weights.pth")
    assert (model.image_size, model.resize) == (224, 256)
    for name, value in backbone.net.state_dict().items():
        assert torch.equal(model.encoder.backbone.net.state_dict()[name], value), name


def test_a_saved_backbone_is_loaded_like_any_model(tmp_path):
    model = load_model("conv4", weights="null", image_size=32)
    model.save_pretrained(tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.embed(images), model.embed(images))
    assert isinstance(loaded, EmbeddingModel)


def test_a_folder_of_that_name_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert is_backbone("conv4")
    assert is_backbone("timm/resnet50")
    assert not is_backbone("me/resnet50")
    (tmp_path / "conv4").mkdir()
    assert not is_backbone("conv4")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("timm/nonesuch", {}, "timm has no model 'nonesuch'"),
        ("nowhere", {}, "no model 'nowhere': there is no such folder"),
        ("nowhere", {"weights": "x.pth"}, "has its own weights and image size"),
        ("timm/resnet18", {"weights": "x.pth"}, r"weights file 'x\.pth' does not exist"),
        ("conv4", {"weights": "null", "image_size": 2}, "does not take images of 2 px"),
    ],
)
def test_no_model_is_one_line(name, options, said, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=said) as caught:
        load_model(name, **options)
    assert "\n" not in str(caught.value)
