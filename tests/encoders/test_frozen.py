import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.errors import InputError


@pytest.fixture
def images():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_a_frozen_backbone_is_not_trained_and_does_not_move(images):
    encoder = build_encoder("conv4", frozen=True)
    before = {name: value.clone() for name, value in encoder.backbone.state_dict().items()}
    encoder.train()
    encoder(images)
    assert not any(p.requires_grad for p in encoder.backbone.parameters())
    assert all(p.requires_grad for p in encoder.head.parameters())
    assert all(torch.equal(value, before[name]) for name, value in encoder.backbone.state_dict().items())
    encoder.freeze_backbone(False)
    assert not any(p.requires_grad for p in encoder.backbone.parameters())


@pytest.mark.parametrize("feature_norm", ["none", "batch"])
def test_outputs_of_the_backbone_take_the_place_of_images(images, feature_norm):
    encoder = build_encoder("conv4", frozen=True, feature_norm=feature_norm).eval()
    assert torch.equal(encoder(encoder.backbone(images)), encoder(images))


def test_pca_is_that_of_scikit_learn(images):
    encoder = build_encoder("conv4", frozen=True, pca_dim=5, embedding_dim=4).eval()
    outputs = encoder.backbone(images)
    encoder.fit_pca(outputs)
    expected = PCA(5, svd_solver="full").fit_transform(outputs.double().numpy())
    found = encoder.features(images).numpy()
    assert found.shape == (12, 5)
    assert encoder.head.in_features == 5
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-5)


def test_the_reduction_is_deployed_with_the_encoder(images, tmp_path):
    encoder = build_encoder("conv4", frozen=True, pca_dim=5).eval()
    encoder.fit_pca(encoder.backbone(images))
    EmbeddingModel(encoder, image_size=16, resize=16).save_pretrained(tmp_path)
    loaded = EmbeddingModel.from_pretrained(tmp_path).encoder
    torch.testing.assert_close(loaded(images), encoder(images))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pca_dim": 5}, "set frozen: true"),
        ({"pca_dim": 65, "frozen": True}, "expected 1 to 64"),
        ({"pca_dim": 0, "frozen": True}, "expected 1 to 64"),
    ],
)
def test_a_reduction_that_cannot_be_is_one_line(options, message):
    with pytest.raises(InputError, match=message):
        build_encoder("conv4", **options)


def test_components_need_as_many_images(images):
    encoder = build_encoder("conv4", frozen=True, pca_dim=20)
    with pytest.raises(InputError, match="expected at most 12: there are 12 training images"):
        encoder.fit_pca(encoder.backbone(images))
