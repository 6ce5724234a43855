"""Lloyd's algorithm for thousands of clusters: it recomputes only what can have changed."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.utils import segment

from pyg_bgformer.evaluation.search import similarity_blocks

MAX_ITERATIONS = 300


class KMeans(NamedTuple):
    """Clusters in which each point belongs to the nearest centre, and each centre is the mean of its points.

    Attributes:
        assignment: ``(N,)`` int64, the cluster of each point.
        centres: ``(clusters, D)``. A cluster without points keeps the centre that it had before.
        iterations: Number of times that points were assigned to centres.
    """

    assignment: Tensor
    centres: Tensor
    iterations: int


def k_means(points: Tensor, centres: Tensor) -> KMeans:
    """Returns the clusters of Lloyd's algorithm, after no point changes its cluster or :data:`MAX_ITERATIONS`.

    In many dimensions few points change their cluster after the second iteration. If a point's own centre did not
    move, the point is compared only with the centres that moved. No other centre can have come closer.

    Args:
        points: ``(N, D)`` float32. The products run on their device.
        centres: ``(clusters, D)``, the first centres.
    """
    closeness, assignment = nearest_centres(points, centres)
    iterations = 1
    while iterations < MAX_ITERATIONS:
        iterations += 1
        last, last_centres = assignment, centres
        centres = means(points, assignment, centres)
        moved = (centres != last_centres).any(dim=1).nonzero()[:, 0]
        own_moved = torch.isin(assignment, moved)
        first, second = own_moved.nonzero()[:, 0], (~own_moved).nonzero()[:, 0]
        closeness, assignment = closeness.clone(), assignment.clone()
        closeness[first], assignment[first] = nearest_centres(points[first], centres)
        closer, place = nearest_centres(points[second], centres[moved])
        better = closer > closeness[second]
        closeness[second[better]] = closer[better]
        assignment[second[better]] = moved[place[better]]
        if torch.equal(assignment, last):
            break
    return KMeans(assignment, centres, iterations)


def nearest_centres(points: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Returns how close the nearest centre of each point is, and which one it is.

    Args:
        points: ``(N, D)``.
        centres: ``(clusters, D)``. There may be none.

    Returns:
        Closeness ``(N,)``, the squared norm of the point minus the squared distance, or minus infinity if there are
        no centres; and the number of the centre ``(N,)`` int64.
    """
    closeness = points.new_full((len(points),), -torch.inf)
    numbers = torch.zeros(len(points), dtype=torch.int64, device=points.device)
    if len(points) and len(centres):
        # |x|² - |x - c|² = 2 x·c - |c|² is one product
        queries = torch.cat([points, points.new_ones(len(points), 1)], dim=1)
        gallery = torch.cat([2 * centres, -centres.square().sum(dim=1, keepdim=True)], dim=1)
        for part, block in similarity_blocks(queries, gallery, None):
            closeness[part], numbers[part] = block.max(dim=1)
    return closeness, numbers


def means(points: Tensor, assignment: Tensor, centres: Tensor) -> Tensor:
    """Returns the mean of each cluster's points, ``(clusters, D)``. Equal clusters get means of equal bits.

    Args:
        points: ``(N, D)``.
        assignment: ``(N,)`` int64, the cluster of each point.
        centres: ``(clusters, D)``, taken for clusters without points.
    """
    sizes = torch.bincount(assignment, minlength=len(centres))
    ends = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    found = segment(points[assignment.argsort(stable=True)], ends, reduce="mean")
    return torch.where(sizes[:, None] > 0, found, centres)
