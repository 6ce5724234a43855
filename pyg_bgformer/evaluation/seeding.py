"""First centres for k-means, at a speed that allows thousands of clusters."""

import math

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.evaluation.search import BLOCK_ENTRIES, first_largest, similarity_blocks

ROUNDS = 64
"""Draws of candidates from which on the clusters came out as good as with a draw for every centre."""

NEIGHBOURS = 16
"""Nearest points by which candidates are judged where clusters are small; 32 and 64 gave clusters as good."""


def greedy_seeds(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns rows to start k-means from, chosen by greedy k-means++.

    Greedy k-means++ (Arthur and Vassilvitskii, "k-means++: The Advantages of Careful Seeding", 2007; the
    default of scikit-learn) draws ``2 + log(count)`` candidates for each centre with probability in proportion
    to the squared distance to the nearest centre so far, and keeps the one that leaves the smallest sum of
    squared distances. That is a product of N points with ``count * (2 + log(count))`` candidates. Where these are
    more than the points, the distances among all points are computed instead, once.

    Args:
        points: ``(N, D)`` float32, centred: distances are taken from norms and dot products. The products run on
            the points' device.
        count: Number of centres, at most N.
        generator: Of the draws, on the CPU; equal generators give equal rows.

    Returns:
        ``(count,)`` int64 row numbers, distinct unless there are fewer distinct points.
    """
    trials = 2 + int(math.log(count))
    if count * trials > len(points):
        return seeds_by_neighbours(points, count, trials, generator)
    return seeds_by_distances(points, count, trials, generator)


def seeds_by_neighbours(points: Tensor, count: int, trials: int, generator: torch.Generator) -> Tensor:
    """Returns the rows of greedy k-means++ for clusters of a few points.

    A candidate is judged by what it leaves of the squared distances of its :data:`NEIGHBOURS` nearest points. The
    distances of all other points are brought up to date after every ``count / ROUNDS`` centres.

    Args:
        points: ``(N, D)`` float32, centred.
        count: Number of centres.
        trials: Candidates for each centre.
        generator: Of the draws.
    """
    neighbours, distances = nearest_points(points, min(NEIGHBOURS, len(points)))
    norms = points.square().sum(dim=1)
    chosen = torch.randint(len(points), (1,), generator=generator)
    nearest = squared_distances(points, norms, chosen)[0].cpu()
    while len(chosen) < count:
        draws = min(max(1, count // ROUNDS), count - len(chosen))
        rivals = draw(nearest, draws * trials, generator).view(draws, trials).numpy()
        left, new = nearest.numpy(), torch.empty(draws, dtype=torch.int64)
        for number, candidates in enumerate(rivals):
            gains = (left[neighbours[candidates]] - distances[candidates]).clip(min=0).sum(axis=1)
            best = candidates[gains.argmax()]
            left[neighbours[best]] = np.minimum(left[neighbours[best]], distances[best])
            new[number] = int(best)
        chosen = torch.cat([chosen, new])
        nearest = torch.minimum(nearest, squared_distances(points, norms, new).amin(dim=0).cpu())
    return chosen


def nearest_points(points: Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the k nearest points of each point and their squared distances, both ``(N, k)``.

    The first of them is the point itself, or one at the same place.

    Args:
        points: ``(N, D)``.
        k: At most N.
    """
    norms = points.square().sum(dim=1, keepdim=True)
    queries = torch.cat([points, torch.ones_like(norms)], dim=1)
    gallery = torch.cat([2 * points, -norms], dim=1)
    rows, distances = [], []
    for part, closeness in similarity_blocks(queries, gallery, None):
        largest, columns = first_largest(closeness, k)
        rows.append(columns.cpu())
        distances.append((norms[part] - largest).clamp_(min=0).cpu())
    return torch.cat(rows).numpy(), torch.cat(distances).numpy()


def seeds_by_distances(points: Tensor, count: int, trials: int, generator: torch.Generator) -> Tensor:
    """Returns the rows of greedy k-means++, with the distances of all candidates to all points.

    The candidates of up to ``count / ROUNDS`` centres are drawn together, so that their distances are one matrix
    product; the choice among them is made one centre after the other, with exact distances. Below ``2 * ROUNDS``
    centres nothing differs from drawing for each centre.

    Args:
        points: ``(N, D)`` float32, centred.
        count: Number of centres.
        trials: Candidates for each centre.
        generator: Of the draws.
    """
    rows = len(points)
    together = max(1, min(count // ROUNDS, BLOCK_ENTRIES // (trials * rows)))
    norms = points.square().sum(dim=1)
    chosen = torch.randint(rows, (1,), generator=generator)
    nearest = squared_distances(points, norms, chosen)[0].cpu()
    while len(chosen) < count:
        draws = min(together, count - len(chosen))
        candidates = draw(nearest, draws * trials, generator)
        distances = squared_distances(points, norms, candidates).cpu().view(draws, trials, rows)
        best, nearest = choose(distances, nearest)
        chosen = torch.cat([chosen, candidates.view(draws, trials).gather(1, best[:, None])[:, 0]])
    return chosen


def choose(distances: Tensor, nearest: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the best candidate of each draw, given those chosen before it.

    In NumPy: the steps are many and short, and torch spends more on sharing one among threads than on it.

    Args:
        distances: ``(draws, trials, N)`` squared distances of the candidates, overwritten.
        nearest: ``(N,)`` squared distance to the nearest centre so far.

    Returns:
        Which of the trials, ``(draws,)`` int64, and the new ``nearest``.
    """
    best = np.empty(len(distances), dtype=np.int64)
    left = nearest.numpy()
    for draw, rivals in enumerate(distances.numpy()):
        np.minimum(rivals, left, out=rivals)
        best[draw] = rivals.sum(axis=1).argmin()
        left = rivals[best[draw]]
    return torch.from_numpy(best), torch.from_numpy(left.copy())


def squared_distances(points: Tensor, norms: Tensor, rows: Tensor) -> Tensor:
    """Returns squared Euclidean distances ``(len(rows), N)`` from some of the points to all."""
    rows = rows.to(points.device)
    distances = torch.addmm(norms, points[rows], points.T, alpha=-2).add_(norms[rows, None]).clamp_(min=0)
    return distances.scatter_(1, rows[:, None], 0)


def draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns row numbers ``(count,)`` drawn in proportion to the weights; uniformly where all weights are 0."""
    cumulative = weights.double().cumsum(0)
    if cumulative[-1] == 0:
        return torch.randint(len(weights), (count,), generator=generator)
    thresholds = cumulative[-1] * (1 - torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.searchsorted(cumulative, thresholds)
