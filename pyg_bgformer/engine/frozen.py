"""Training with a frozen backbone: its outputs are computed once for each view and replace the images."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from pyg_bgformer.data.features import FeatureSamples, cached_features, view_seeds
from pyg_bgformer.data.noise import NoisySamples
from pyg_bgformer.data.samples import ImageSamples
from pyg_bgformer.data.workers import leave_signals_to_main
from pyg_bgformer.encoders import Encoder
from pyg_bgformer.encoders.weights import tensors_hash

BATCH_SIZE = 64
"""Number of images that the backbone sees at a time."""


def frozen_samples(
    samples: ImageSamples,
    encoder: Encoder,
    *,
    views: int | None = None,
    seed: int = 0,
    device: torch.device,
    workers: int = 0,
    folder: Path | None = None,
    on_batch: Callable[[int, int], None] = lambda *_: None,
) -> FeatureSamples:
    """Returns the backbone's outputs for all samples. If a file has them already, they are read.

    Args:
        samples: Images with their transform.
        encoder: The encoder. Its backbone stays on ``device`` and in evaluation mode.
        views: Number of augmented views of each image; :obj:`None` for a transform without randomness.
        seed: Decides the augmentation of the views.
        device: The device of the backbone.
        workers: Number of processes that load images.
        folder: Folder of the file; :obj:`None` writes no file.
        on_batch: Called with the number of batches that are done and the number of all batches.
    """

    def compute(rows: np.ndarray) -> Tensor:
        places = {int(row): place for place, row in enumerate(samples.rows)}
        draws: list[Any] = [places[int(row)] for row in rows]
        if views is not None:
            draws = [(places[int(row)], s) for row in rows for s in view_seeds(int(row), views, seed)]
        batches = [draws[i : i + BATCH_SIZE] for i in range(0, len(draws), BATCH_SIZE)]
        loader = DataLoader(
            samples, batch_sampler=batches, num_workers=workers, worker_init_fn=leave_signals_to_main
        )
        backbone = encoder.backbone.to(device).eval()
        parts = []
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            for images, _, _ in loader:
                parts.append(backbone(images.to(device)).float().cpu())
                on_batch(len(parts), len(loader))
        return torch.cat(parts).view(len(rows), views or 1, -1)

    if folder is None:
        features = compute(samples.rows)
    else:
        features = cached_features(folder, _origin(samples, encoder, views, seed), samples.rows, compute)
    return FeatureSamples(features, samples.labels, samples.rows, samples)


def _origin(samples: ImageSamples, encoder: Encoder, views: int | None, seed: int) -> dict[str, Any]:
    """Returns everything that the features of an image depend on. Labels and splits do not matter."""
    dataset = samples.dataset
    paths = "\n".join(dataset.table["path"])
    noise = (
        [samples.seed, samples.size, *sorted(samples.noisy_rows)] if isinstance(samples, NoisySamples) else []
    )
    return {
        "dataset": [
            dataset.name,
            dataset.cropped,
            hashlib.sha256(paths.encode(errors="replace")).hexdigest(),
        ],
        "files": dataset.source_stamp(),
        "noise": noise if noise[2:] else [],
        "transform": str(samples.transform),
        "encoder": [encoder.spec.name, encoder.spec.pooling],
        "backbone": tensors_hash(encoder.backbone.state_dict()),
        "views": None if views is None else [views, seed],
    }
