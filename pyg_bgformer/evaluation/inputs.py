"""What evaluation accepts: embeddings and labels, checked once, in one line of complaint each."""

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.errors import InputError

Embeddings = Tensor | np.ndarray
Labels = Tensor | np.ndarray | list[int]


def checked_embeddings(embeddings: Embeddings, name: str = "embeddings") -> Tensor:
    """Embeddings as finite float32 ``(N, D)`` on the device they are on.

    Args:
        embeddings: ``(N, D)`` floating point of any precision (half precision is computed in float32).
        name: how an error calls them.

    Raises:
        InputError: not two-dimensional, empty, not floating point, or some rows hold NaN or infinity.
    """
    rows = torch.as_tensor(embeddings).detach()
    if rows.ndim != 2 or not rows.is_floating_point() or rows.numel() == 0:
        raise InputError(
            f"{name}: found shape {tuple(rows.shape)} of {rows.dtype}, expected a non-empty (N, D) of floats"
        )
    rows = rows.float()
    broken = int((~rows.isfinite().all(dim=1)).sum())
    if broken:
        raise InputError(
            f"{name}: {broken} of {len(rows)} rows hold NaN or infinity, expected finite numbers: "
            "the encoder has diverged, or its output left the range of float32"
        )
    return rows


def checked_labels(labels: Labels, count: int, name: str = "labels") -> Tensor:
    """Labels as int64 ``(N,)``, one for each of ``count`` embeddings.

    Raises:
        InputError: not one whole number for each embedding.
    """
    found = torch.as_tensor(labels)
    if found.shape != (count,) or found.is_floating_point() or found.is_complex():
        raise InputError(
            f"{name}: found shape {tuple(found.shape)} of {found.dtype}, "
            f"expected ({count},) whole numbers, one for each embedding"
        )
    return found.long()


def unit_rows(rows: Tensor) -> Tensor:
    """Rows of ``(N, D)`` float32 divided by their Euclidean norm; a zero row stays zero.

    Each row is first divided by its largest entry: squares of very large or very small entries
    would leave the range of float32.
    """
    largest = rows.abs().amax(dim=1, keepdim=True)
    scaled = rows / torch.where(largest > 0, largest, 1)
    norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled.div_(torch.where(norm > 0, norm, 1))
