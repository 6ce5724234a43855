"""How well k-means finds the classes: NMI, AMI, ARI and pair-counting F1."""

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
        nmi: normalised mutual information, arithmetic mean, 0 to 1.
        ami: mutual information adjusted for chance, at most 1, around 0 by chance.
        ari: Rand index adjusted for chance, at most 1, around 0 by chance.
        pair_f1: F1 of the pairs put into one cluster against the pairs of one class, 0 to 1; NaN when there
            is neither such a pair.
        clusters: number of clusters asked for, the number of classes.
        found: number of clusters that hold an item; fewer if there are fewer distinct rows.
        iterations: iterations of Lloyd's algorithm that were run.
        assignment: ``(N,)`` int64, cluster of each item in the order given.
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

    One start from :func:`~pyg_bgformer.evaluation.seeding.greedy_seeds`, as scikit-learn chooses it, then Lloyd's
    algorithm. scikit-learn's ``KMeans`` is not used because its time grows with N x clusters x D for each candidate
    and each iteration: at thousands of clusters it takes hours.

    Args:
        embeddings: ``(N, D)`` of any floating precision; clustered in float32 on their device.
        labels: ``(N,)`` whole numbers.
        seed: Of k-means' first centres; equal seeds give equal clusters.
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
    """Returns rows moved to mean 0 and scaled as a whole to at most 1: same clusters, better rounding."""
    scaled = rows / rows.abs().max().clamp(min=torch.finfo(rows.dtype).tiny)
    return scaled - scaled.mean(dim=0)
