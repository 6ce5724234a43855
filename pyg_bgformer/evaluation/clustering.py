"""NMI, AMI, ARI and pair-counting F1 of k-means clusters."""

from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from torch import Tensor

from pyg_bgformer.evaluation.agreement import adjusted_mutual_information, pair_f1
from pyg_bgformer.evaluation.inputs import Embeddings, Labels, checked_embeddings, checked_labels, unit_rows
from pyg_bgformer.evaluation.k_means import k_means
from pyg_bgformer.evaluation.seeding import greedy_seeds


@dataclass(frozen=True)
class ClusteringResult:
    """Agreement of k-means clusters with the classes.

    Attributes:
        nmi: Normalised mutual information (arithmetic mean), from 0 to 1.
        ami: Mutual information adjusted for chance, at most 1, about 0 for random clusters.
        ari: Rand index adjusted for chance, at most 1, about 0 for random clusters.
        pair_f1: F1 of the pairs in one cluster against the pairs of one class, from 0 to 1. It is NaN if no two
            items share a class or a cluster.
        clusters: Number of clusters that k-means started with, which is the number of classes.
        found: Number of clusters with at least one item.
        iterations: Number of iterations of Lloyd's algorithm.
        assignment: ``(N,)`` int64, the cluster of each item in the given order.
    """

    nmi: float
    ami: float
    ari: float
    pair_f1: float
    clusters: int
    found: int
    iterations: int
    assignment: np.ndarray

    def as_dict(self) -> dict[str, float | int]:
        """Returns scores and counts as plain numbers by name."""
        names = ("nmi", "ami", "ari", "pair_f1", "clusters", "found", "iterations")
        return {name: getattr(self, name) for name in names}


def clustering(
    embeddings: Embeddings, labels: Labels, *, seed: int = 0, normalize: bool = True
) -> ClusteringResult:
    """Returns the scores of k-means with as many clusters as there are classes.

    Lloyd's algorithm runs once. Its first centres are chosen by
    :func:`~pyg_bgformer.evaluation.seeding.greedy_seeds`, as in scikit-learn. For thousands of clusters,
    scikit-learn's ``KMeans`` takes hours, because each iteration compares every point with every centre.

    Args:
        embeddings: ``(N, D)``, floating point of any precision. They are clustered in float32 on their device.
        labels: ``(N,)`` whole numbers.
        seed: Seed of the first centres. Equal seeds give equal clusters.
        normalize: Whether to L2-normalise the rows first.

    Raises:
        InputError: If shapes do not fit, or an embedding is NaN or infinite.
    """
    rows = checked_embeddings(embeddings)
    truth = checked_labels(labels, len(rows)).cpu().numpy()
    points = _centred(unit_rows(rows) if normalize else rows)
    clusters = len(np.unique(truth))
    generator = torch.Generator().manual_seed(seed)
    first = greedy_seeds(points, clusters, generator).to(points.device)
    found = k_means(points, points[first])
    assignment = found.assignment.cpu().numpy()
    return ClusteringResult(
        nmi=float(normalized_mutual_info_score(truth, assignment)),
        ami=adjusted_mutual_information(truth, assignment),
        ari=float(adjusted_rand_score(truth, assignment)),
        pair_f1=pair_f1(truth, assignment),
        clusters=clusters,
        found=len(np.unique(assignment)),
        iterations=found.iterations,
        assignment=assignment,
    )


def _centred(rows: Tensor) -> Tensor:
    """Returns the rows, scaled together and shifted to mean 0. The clusters stay, and rounding errors shrink."""
    scaled = rows / rows.abs().max().clamp(min=torch.finfo(rows.dtype).tiny)
    return scaled - scaled.mean(dim=0)
