"""First centres for k-means, fast enough for thousands of clusters."""

import math

import numpy as np
import torch
from torch import Tensor

from pyg_bgformer.evaluation.search import BLOCK_ENTRIES, first_largest, similarity_blocks

ROUNDS = 64
"""Number of times that candidates are drawn. More draws did not improve the clusters in our measurements."""

NEIGHBOURS = 16
"""Number of nearest points that judge a candidate if clusters are small. 32 and 64 gave no better clusters."""


def greedy_seeds(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns the rows of the first centres for k-means, chosen by greedy k-means++.

    Greedy k-means++ is the default of scikit-learn (Arthur and Vassilvitskii, "k-means++: The Advantages of Careful
    Seeding", 2007). It draws ``2 + log(count)`` candidates for each centre. The probability of a point is
    proportional to its squared distance to the nearest centre so far. The candidate that leaves the smallest sum of
    squared distances becomes the centre.

    This takes the distances of N points to ``count * (2 + log(count))`` candidates. If there are more candidates
    than points, the distances between all points are computed once instead.

    Args:
        points: ``(N, D)`` float32, centred, because distances are computed from norms and dot products. The
            products run on the points' device.
        count: Number of centres, from 1 to N.
        generator: Draws the candidates on the CPU. Equal generators give equal rows.

    Returns:
        ``(count,)`` int64 row numbers. They are distinct if there are enough distinct points.
    """
    trials = 2 + int(math.log(count))
    if count * trials > len(points):
        return seeds_by_neighbours(points, count, trials, generator)
    return seeds_by_distances(points, count, trials, generator)


def seeds_by_neighbours(points: Tensor, count: int, trials: int, generator: torch.Generator) -> Tensor:
    """Returns the rows of greedy k-means++ for clusters of a few points.

    A candidate is judged by how much it reduces the squared distances of its :data:`NEIGHBOURS` nearest points. The
    distances of all other points are updated after every ``count / ROUNDS`` centres.

    Args:
        points: ``(N, D)`` float32, centred.
        count: Number of centres, from 1 to N.
        trials: Number of candidates for each centre.
        generator: Draws the candidates on the CPU.

    Returns:
        ``(count,)`` int64 row numbers.
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

    The first one is the point itself, or a point with the same coordinates.

    Args:
        points: ``(N, D)`` float32.
        k: From 1 to N.
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

    The candidates of up to ``count / ROUNDS`` centres are drawn together. Their distances are then one matrix
    product. The centres are chosen one by one, with exact distances. Below ``2 * ROUNDS`` centres, candidates are
    drawn for each centre, as in the original algorithm.

    Args:
        points: ``(N, D)`` float32, centred.
        count: Number of centres, from 1 to N.
        trials: Number of candidates for each centre.
        generator: Draws the candidates on the CPU.

    Returns:
        ``(count,)`` int64 row numbers.
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
    """Returns the best candidate of each draw, given the candidates chosen before it.

    The function uses NumPy because its steps are many and short. PyTorch would spend most of the time on threads.

    Args:
        distances: ``(draws, trials, N)``, squared distances of the candidates. **Overwritten.**
        nearest: ``(N,)``, squared distance to the nearest centre so far.

    Returns:
        The number of the best trial ``(draws,)`` int64, and the new ``nearest`` ``(N,)``.
    """
    best = np.empty(len(distances), dtype=np.int64)
    left = nearest.numpy()
    for draw, rivals in enumerate(distances.numpy()):
        np.minimum(rivals, left, out=rivals)
        best[draw] = rivals.sum(axis=1).argmin()
        left = rivals[best[draw]]
    return torch.from_numpy(best), torch.from_numpy(left.copy())


def squared_distances(points: Tensor, norms: Tensor, rows: Tensor) -> Tensor:
    """Returns squared Euclidean distances ``(R, N)`` from some of the points to all.

    Args:
        points: ``(N, D)``.
        norms: ``(N,)``, squared norms of the points.
        rows: ``(R,)`` int64, the points to measure from.
    """
    rows = rows.to(points.device)
    distances = torch.addmm(norms, points[rows], points.T, alpha=-2).add_(norms[rows, None]).clamp_(min=0)
    return distances.scatter_(1, rows[:, None], 0)


def draw(weights: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Returns row numbers ``(count,)`` int64, drawn with probability proportional to their weights.

    Args:
        weights: ``(N,)``, from 0. If all are 0, every row is equally likely.
        count: Number of draws, with replacement.
        generator: Draws the rows on the CPU.
    """
    cumulative = weights.double().cumsum(0)
    if cumulative[-1] == 0:
        return torch.randint(len(weights), (count,), generator=generator)
    thresholds = cumulative[-1] * (1 - torch.rand(count, generator=generator, dtype=torch.float64))
    return torch.searchsorted(cumulative, thresholds)
