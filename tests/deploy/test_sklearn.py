"""A model inside scikit-learn."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.deploy.sklearn import EmbeddingTransformer
from pyg_bgformer.encoders import build_encoder


@pytest.fixture
def run(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    EmbeddingModel(build_encoder("conv4", embedding_dim=8), image_size=28, resize=28).save_pretrained(
        tmp_path
    )
    return tmp_path


def shades(count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Grey pictures with a bright left or right half, and which half it is."""
    chance = np.random.default_rng(seed)
    labels = chance.integers(0, 2, count)
    pictures = chance.integers(0, 60, (count, 28, 28, 3), dtype=np.uint8)
    for picture, right in zip(pictures, labels, strict=True):
        picture[:, 14 * right : 14 * (right + 1)] += 150
    return list(pictures), labels


def test_a_pipeline_classifies_images(run: Path) -> None:
    pipeline = make_pipeline(EmbeddingTransformer(run), KNeighborsClassifier(1))
    pipeline.fit(*shades(30, seed=0))
    assert pipeline.score(*shades(20, seed=1)) > 0.8


def test_embeddings_are_those_of_the_model(run: Path) -> None:
    pictures, _ = shades(5, seed=0)
    model = EmbeddingModel.from_pretrained(run)
    transformer = clone(EmbeddingTransformer(model, batch_size=2, workers=0)).fit(pictures)
    np.testing.assert_allclose(
        transformer.transform(pictures), model.embed(pictures).numpy(), rtol=1e-5, atol=1e-6
    )
    assert len(transformer.get_feature_names_out()) == 8


def test_it_must_be_fitted_first(run: Path) -> None:
    with pytest.raises(NotFittedError):
        EmbeddingTransformer(run).transform([])
