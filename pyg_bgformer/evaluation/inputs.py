"""Checks embeddings and labels that are given to evaluation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.errors import InputError

Embeddings = Tensor | np.ndarray | Sequence[Sequence[float]]
Labels = Tensor | np.ndarray | Sequence[int]


def checked_embeddings(embeddings: Embeddings, name: str = "embeddings") -> Tensor:
    """Returns embeddings as finite float32 ``(N, D)`` on the device they are on.

    Args:
        embeddings: ``(N, D)`` floating point of any precision (half precision is computed in float32).
        name: How an error calls them.

    Raises:
        InputError: If they are not two-dimensional, empty, not floating point, or some rows hold NaN or infinity.
    """
    rows = _as_tensor(embeddings, name, "(N, D) of floats")
    if rows.ndim != 2 or not rows.is_floating_point() or rows.numel() == 0:
        raise InputError(
            f"{name}: found shape {tuple(rows.shape)} of {rows.dtype}, expected a non-empty (N, D) of floats"
        )
    rows = rows.float()
    smallest, largest = rows.aminmax(dim=1)  # NaN wins in both
    broken = int((~(smallest.isfinite() & largest.isfinite())).sum())
    if broken:
        raise InputError(
            f"{name}: {broken} of {len(rows)} rows hold NaN or infinity, expected finite numbers: "
            "the encoder has diverged, or its output left the range of float32"
        )
    return rows


def checked_pair(queries: Embeddings, gallery: Embeddings) -> tuple[Tensor, Tensor]:
    """Returns queries and gallery as finite float32 of one dimension, on the queries' device.

    Args:
        queries: ``(N, D)``.
        gallery: ``(n, D)``; the same object as ``queries`` is checked once.

    Raises:
        InputError: If one of them is not as :func:`checked_embeddings` expects, or their dimensions differ.
    """
    rows = checked_embeddings(queries)
    if gallery is queries:
        return rows, rows
    items = checked_embeddings(gallery, "gallery").to(rows.device)
    if items.shape[1] != rows.shape[1]:
        raise InputError(
            f"gallery: found {items.shape[1]} dimensions, expected {rows.shape[1]} as the queries have"
        )
    return rows, items


def checked_labels(labels: Labels, count: int, name: str = "labels") -> Tensor:
    """Returns labels as int64 ``(N,)``.

    Args:
        labels: One whole number for each embedding: a tensor, an array or a list.
        count: Number of embeddings.
        name: How an error calls them.

    Raises:
        InputError: If there is not one whole number for each embedding.
    """
    expected = f"({count},) whole numbers, one for each embedding"
    found = _as_tensor(labels, name, expected)
    if found.shape != (count,) or found.is_floating_point() or found.is_complex():
        raise InputError(f"{name}: found shape {tuple(found.shape)} of {found.dtype}, expected {expected}")
    return found.long()


def unit_rows(rows: Tensor) -> Tensor:
    """Returns the rows of ``(N, D)`` float32 divided by their Euclidean norm; a zero row stays zero.

    Each row is first divided by its largest entry: squares of very large or very small entries
    would leave the range of float32.
    """
    smallest, greatest = rows.aminmax(dim=1, keepdim=True)
    largest = torch.maximum(greatest, -smallest)
    scaled = rows / torch.where(largest > 0, largest, 1)
    norm = torch.linalg.vector_norm(scaled, dim=1, keepdim=True)
    return scaled.div_(torch.where(norm > 0, norm, 1))


def _as_tensor(values: Any, name: str, expected: str) -> Tensor:
    if isinstance(values, Tensor):
        return values.detach()
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise InputError(f"{name}: found rows of different lengths, expected {expected}") from error
    if array.dtype.kind not in "biufc":
        found = "strings" if array.dtype.kind in "US" else f"objects such as {array.flat[0]!r:.40}"
        raise InputError(
            f"{name}: found {found}, expected {expected}; "
            "numpy.unique(names, return_inverse=True) turns class names into numbers"
        )
    # torch takes neither negative strides nor foreign byte orders
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
