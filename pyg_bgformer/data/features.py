"""Features of a frozen backbone: computed once, kept in a file, and served as samples in the place of images."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path

TENSOR = "features"


class FeatureSamples(Dataset[tuple[Tensor, int, int]]):
    """Samples ``(feature, label, row)`` that take the place of ``(image, label, row)``.

    ``samples[(position, seed)]`` gives one of the views of an image; the seed of its augmentation decides which.
    ``samples[position]`` gives the first view.

    Args:
        features: ``(N, V, F)``, V views of each of N images.
        labels: ``(N,)`` int64.
        rows: ``(N,)`` int64, the images' rows in their dataset.
        images: The samples of which these are the features.
    """

    def __init__(
        self,
        features: Tensor,
        labels: np.ndarray,
        rows: np.ndarray,
        images: Dataset[tuple[Tensor, int, int]] | None = None,
    ) -> None:
        self.features = features
        self.labels = labels
        self.rows = rows
        self.images = images

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, int, int]:
        position, seed = index if isinstance(index, tuple) else (index, 0)
        feature = self.features[position, seed % self.features.size(1)]
        return feature, int(self.labels[position]), int(self.rows[position])


def view_seeds(row: int, views: int, seed: int) -> list[int]:
    """Returns the augmentation seed of each view of an image; they depend on its row and the run's seed alone."""
    words = np.random.SeedSequence([seed, row]).generate_state(views, np.uint64)
    return [int(word) >> 1 for word in words]  # torch takes seeds below 2 ** 63


def cached_features(folder: Path, origin: Mapping[str, Any], compute: Callable[[], Tensor]) -> Tensor:
    """Returns features from the file of their origin, or computes them and writes that file.

    Args:
        folder: Where the files are. It is made where it is missing.
        origin: Plain values on which the features depend: images, backbone, augmentation. Another value makes
            another file.
        compute: Called where there is no file, or a damaged one.

    Raises:
        InputError: If the file cannot be written.
    """
    key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    path = folder / f"features-{key[:16]}.safetensors"
    if (found := _read(path, key)) is not None:
        return found
    features = compute().contiguous()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as partial:
            save_file({TENSOR: features}, partial, {"key": key, "sha256": _digest(features)})
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path}: features cannot be written ({error}); see data.feature_cache") from error
    return features


def _read(path: Path, key: str) -> Tensor | None:
    """Returns the features of a whole file; nothing where it is missing, of another origin, or damaged."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            features = file.get_tensor(TENSOR)
    except (SafetensorError, OSError):
        return None
    return features if told == {"key": key, "sha256": _digest(features)} else None


def _digest(features: Tensor) -> str:
    return hashlib.sha256(features.numpy().tobytes()).hexdigest()
