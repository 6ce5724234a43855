"""Measures whether the embedding of an image depends on the other images of its batch."""

from collections.abc import Callable

import torch
from torch import Tensor

from pyg_bgformer.errors import InputError


def batch_dependence(embed: Callable[[Tensor], Tensor], images: Tensor) -> float:
    """Returns the largest change of an image's embedding when its batch changes, relative to the embedding's norm.

    If embeddings depend on the batch, retrieval scores depend on which images are tested together. The function
    embeds all images in one batch, then in reversed order, then in two batches, and then one by one. It compares
    each result with the first. Rounding causes a change of about 1e-6. Infinity means that an embedding of norm 0
    changed.

    Args:
        embed: Maps images ``(b, ...)`` to embeddings ``(b, D)``, in evaluation mode. It runs without gradients.
        images: ``(B, ...)``, at least two.

    Raises:
        InputError: If there are fewer than two images, or an output is NaN, infinite or not ``(b, D)``.
    """
    if len(images) < 2:
        raise InputError(
            f"images: found {len(images)}, expected at least 2: an image is embedded with and without others"
        )
    half = (len(images) + 1) // 2
    together = _embedded(embed, [images])
    others = (
        _embedded(embed, [images.flip(0)]).flip(0),
        _embedded(embed, list(torch.split(images, half))),
        _embedded(embed, list(torch.split(images, 1))),
    )
    change = torch.stack([torch.linalg.vector_norm(other - together, dim=1) for other in others]).amax(dim=0)
    norm = torch.linalg.vector_norm(together, dim=1)
    return float(torch.where(change > 0, change / norm, 0).max())


def _embedded(embed: Callable[[Tensor], Tensor], batches: list[Tensor]) -> Tensor:
    with torch.no_grad():
        parts = [embed(batch) for batch in batches]
    for batch, part in zip(batches, parts, strict=True):
        if part.ndim != 2 or len(part) != len(batch):
            raise InputError(f"embed: found an output of {tuple(part.shape)}, expected ({len(batch)}, D)")
    whole = torch.cat(parts).double()
    if not bool(whole.isfinite().all()):
        raise InputError("embed: found NaN or infinity in the embeddings, expected finite numbers")
    return whole
