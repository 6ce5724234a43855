"""A model as a step of a scikit-learn pipeline."""

from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from pyg_bgformer.deploy.embedding_model import EmbeddingModel


class EmbeddingTransformer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Turns images into embeddings. Fitting does not train the model.

    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> nearest = make_pipeline(EmbeddingTransformer("runs/mine"), KNeighborsClassifier())  # doctest: +SKIP
    >>> nearest.fit(paths, labels).predict(others)                                          # doctest: +SKIP

    Euclidean distances between unit vectors have the same order as their cosines. In the Poincare ball they only
    approximate the distances of the geometry. Train on the sphere for such pipelines.

    Args:
        model: A model, or a folder or name for :meth:`EmbeddingModel.from_pretrained`.
        batch_size: Number of images that the encoder sees at a time, from 1.
        device: The device to compute on. ``None`` does not move the model.
        workers: Number of threads that read and resize images. 0 uses no threads, ``None`` one for each CPU.
    """

    def __init__(
        self,
        model: EmbeddingModel | str | Path,
        *,
        batch_size: int = 64,
        device: str | torch.device | None = None,
        workers: int | None = None,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.device = device
        self.workers = workers

    def fit(self, X: Any, y: Any = None) -> Self:
        """Loads the model if it is given by a folder or name.

        Args:
            X: Not used.
            y: Not used.

        Raises:
            InputError: If there is no such model, or it is damaged.
        """
        del X, y  # scikit-learn gives them to every step
        loaded = isinstance(self.model, EmbeddingModel)
        self.model_ = self.model if loaded else EmbeddingModel.from_pretrained(self.model)  # type: ignore[arg-type]
        self._n_features_out = self.model_.dim  # type: ignore[union-attr]
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Returns the embeddings of images, ``(N, D)`` float32.

        Args:
            X: Images, see :meth:`EmbeddingModel.embed`.

        Raises:
            InputError: See :meth:`EmbeddingModel.embed`.
        """
        check_is_fitted(self)
        model: EmbeddingModel = self.model_  # type: ignore[assignment]
        embeddings = model.embed(X, batch_size=self.batch_size, device=self.device, workers=self.workers)
        vectors: np.ndarray = embeddings.numpy()
        return vectors
