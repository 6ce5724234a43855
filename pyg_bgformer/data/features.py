"""Features of a frozen backbone. They are computed once, stored in a file, and used instead of images."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils.data import Dataset

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path

ROWS, FEATURES = "rows", "features"


class FeatureSamples(Dataset[tuple[Tensor, int, int]]):
    """Samples ``(feature, label, row)``, which are used instead of samples ``(image, label, row)``.

    ``samples[(position, seed)]`` is one view of an image, which the seed of the augmentation chooses.
    ``samples[position]`` is the first view.

    Args:
        features: ``(N, V, F)``, V views of each of N images.
        labels: ``(N,)`` int64.
        rows: ``(N,)`` int64, the rows of the images in their dataset.
        images: The samples of images from which the features were computed.
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


def view_seeds(row: int, views: int, seed: int = 0) -> list[int]:
    """Returns the augmentation seed of each view of an image. They depend on its row and the seed alone."""
    words = np.random.SeedSequence([seed, row]).generate_state(views, np.uint64)
    return [int(word) >> 1 for word in words]  # torch takes seeds below 2 ** 63


def cached_features(
    folder: Path, origin: Mapping[str, Any], rows: np.ndarray, compute: Callable[[np.ndarray], Tensor]
) -> Tensor:
    """Returns the features ``(N, V, F)`` of images, from a file as far as they are known.

    Missing features are computed and added to the file. So runs on other parts of a dataset can use them too.

    Args:
        folder: Folder of the files. It is made if it is missing.
        origin: Plain values on which the features depend: images, backbone and augmentation. Different values have
            different files.
        rows: ``(N,)`` int64, distinct rows of the images.
        compute: A function from rows ``(n,)`` to their features ``(n, V, F)``.

    Raises:
        InputError: If the file cannot be written.
    """
    key = hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()
    path = folder / f"features-{key[:16]}.safetensors"
    known, features = _read(path, key)
    absent = np.setdiff1d(rows, known)
    if len(absent):
        added = compute(absent)
        known = np.concatenate([known, absent])
        features = torch.cat([features, added]) if len(features) else added.contiguous()
        told = {"key": key, "sha256": _digest(known, features)}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as partial:
                save_file({ROWS: torch.from_numpy(known), FEATURES: features}, partial, told)
        except (OSError, SafetensorError) as error:
            raise InputError(
                f"{path}: features cannot be written ({error}); see data.feature_cache"
            ) from error
    places = np.argsort(known)[np.searchsorted(np.sort(known), rows)]
    return features[torch.from_numpy(places)]


def _read(path: Path, key: str) -> tuple[np.ndarray, Tensor]:
    """Returns the rows and features of a file, or none if it is missing, damaged, or of another origin."""
    nothing = np.empty(0, dtype=np.int64), torch.empty(0)
    if not path.is_file():
        return nothing
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            rows, features = file.get_tensor(ROWS).numpy(), file.get_tensor(FEATURES)
    except (SafetensorError, OSError):
        return nothing
    return (rows, features) if told == {"key": key, "sha256": _digest(rows, features)} else nothing


def _digest(rows: np.ndarray, features: Tensor) -> str:
    return hashlib.sha256(rows.tobytes() + features.numpy().tobytes()).hexdigest()
