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
        embeddings: ``(N, D)``, floating point of any precision.
        name: What an error message calls them.

    Raises:
        InputError: If they are not two-dimensional, are empty, are not floating point, or contain NaN or infinity.
    """
    rows = _as_tensor(embeddings, name, "(N, D) of floats")
    if rows.ndim != 2 or not rows.is_floating_point() or rows.numel() == 0:
        raise InputError(
            f"{name}: found shape {tuple(rows.shape)} of {rows.dtype}, expected a non-empty (N, D) of floats"
        )
    rows = rows.float()
    smallest, largest = rows.aminmax(dim=1)  # both are NaN in a row with a NaN
    broken = int((~(smallest.isfinite() & largest.isfinite())).sum())
    if broken:
        raise InputError(
            f"{name}: {broken} of {len(rows)} rows hold NaN or infinity, expected finite numbers; "
            "the encoder has diverged, or its output is outside the range of float32"
        )
    return rows


def checked_pair(queries: Embeddings, gallery: Embeddings) -> tuple[Tensor, Tensor]:
    """Returns queries ``(N, D)`` and gallery ``(n, D)`` as finite float32 on the queries' device.

    Args:
        queries: ``(N, D)``, floating point.
        gallery: ``(n, D)``, floating point. If it is the same object as ``queries``, it is checked once.

    Raises:
        InputError: If :func:`checked_embeddings` refuses one of them, or they differ in D.
    """
    rows = checked_embeddings(queries)
    if gallery is queries:
        return rows, rows
    items = checked_embeddings(gallery, "gallery").to(rows.device)
    if items.shape[1] != rows.shape[1]:
        raise InputError(
            f"gallery: found {items.shape[1]} dimensions, expected {rows.shape[1]} like the queries"
        )
    return rows, items


def checked_labels(labels: Labels, count: int, name: str = "labels") -> Tensor:
    """Returns labels as int64 ``(N,)``.

    Args:
        labels: One whole number for each embedding, as a tensor, an array or a list.
        count: N, the number of embeddings.
        name: What an error message calls the labels.

    Raises:
        InputError: If their number is not N, or they are not whole numbers.
    """
    expected = f"({count},) whole numbers, one for each embedding"
    found = _as_tensor(labels, name, expected)
    if found.shape != (count,) or found.is_floating_point() or found.is_complex():
        raise InputError(f"{name}: found shape {tuple(found.shape)} of {found.dtype}, expected {expected}")
    return found.long()


def unit_rows(rows: Tensor) -> Tensor:
    """Returns the rows of ``(N, D)`` float32 divided by their Euclidean norm; a zero row stays zero.

    Each row is first divided by its largest absolute entry. Otherwise the squares of very large or very small
    entries would be outside the range of float32.
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
    # torch.from_numpy refuses negative strides and foreign byte orders
    return torch.from_numpy(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")))
