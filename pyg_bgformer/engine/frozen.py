"""Training on a frozen backbone: its outputs are computed once a view and take the place of the images."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pyg_bgformer.data.features import FeatureSamples, cached_features, view_seeds
from pyg_bgformer.data.noise import NoisySamples
from pyg_bgformer.data.samples import ImageSamples
from pyg_bgformer.encoders import Encoder
from pyg_bgformer.encoders.weights import tensors_hash

BATCH_SIZE = 64
"""Images that the backbone sees at a time."""


def frozen_samples(
    samples: ImageSamples,
    encoder: Encoder,
    *,
    views: int | None = None,
    seed: int = 0,
    device: torch.device,
    workers: int = 0,
    folder: Path | None = None,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureSamples:
    """Returns the backbone's outputs of all samples, from a file where they have been computed before.

    Args:
        samples: Images with their transform.
        encoder: Its backbone is used in evaluation mode and left on ``device``.
        views: Augmented views of each image; :obj:`None` for a transform without randomness.
        seed: Decides the augmentation of the views.
        device: Where the backbone runs.
        workers: Processes that load images.
        folder: Where the file is kept; :obj:`None` for none.
        on_batch: Told how many batches are done, and of how many.
    """
    rows = [int(row) for row in samples.rows]
    draws: list[Any] = list(range(len(rows)))
    if views is not None:
        draws = [(place, s) for place, row in enumerate(rows) for s in view_seeds(row, views, seed)]

    def compute() -> Tensor:
        batches = [draws[i : i + BATCH_SIZE] for i in range(0, len(draws), BATCH_SIZE)]
        loader = DataLoader(samples, batch_sampler=batches, num_workers=workers)
        backbone = encoder.backbone.to(device).eval()
        parts = []
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            for images, _, _ in loader:
                parts.append(backbone(images.to(device)).float().cpu())
                on_batch(len(parts), len(loader))
        return torch.cat(parts).view(len(rows), views or 1, -1)

    if folder is None:
        features = compute()
    else:
        features = cached_features(folder, _origin(samples, encoder, views, seed), compute)
    return FeatureSamples(features, samples.labels, samples.rows, samples)


def _origin(samples: ImageSamples, encoder: Encoder, views: int | None, seed: int) -> dict[str, Any]:
    """Returns everything on which the outputs depend."""
    noise = (
        [samples.seed, samples.size, *sorted(samples.noisy_rows)] if isinstance(samples, NoisySamples) else []
    )
    return {
        "images": samples.dataset.manifest_hash,
        "files": samples.dataset.source_stamp(),
        "rows": hashlib.sha256(samples.rows.tobytes()).hexdigest(),
        "noise": noise,
        "transform": str(samples.transform),
        "encoder": [encoder.spec.name, encoder.spec.pooling],
        "backbone": tensors_hash(encoder.backbone.state_dict()),
        "views": None if views is None else [views, seed],
    }
