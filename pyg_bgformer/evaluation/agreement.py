"""Agreement of two partitions where scikit-learn lacks the score or takes minutes at thousands of clusters."""

import numpy as np
from scipy.special import gammaln
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix


def pair_f1(labels: np.ndarray, assignment: np.ndarray) -> float:
    """Returns the F1 of the pairs in one cluster against the pairs of one class; NaN when there is neither.

    Counted from the sparse contingency table: no pair is visited.
    """
    (_, only_cluster), (only_class, both) = pair_confusion_matrix(labels, assignment).tolist()
    pairs = 2 * both + only_cluster + only_class
    return 2 * both / pairs if pairs else float("nan")


def adjusted_mutual_information(labels: np.ndarray, assignment: np.ndarray) -> float:
    """Returns mutual information adjusted for chance (arithmetic mean): 1 for equal partitions, around 0 by chance.

    Equals ``sklearn.metrics.adjusted_mutual_info_score``, which visits every pair of class and cluster, 128
    million at 11,316 of each; the expectation depends on their sizes alone, and few sizes differ.
    (Vinh, Epps and Bailey, "Information Theoretic Measures for Clusterings Comparison", JMLR 2010.)
    """
    table = contingency_matrix(labels, assignment, sparse=True, dtype=np.int64)
    if table.shape[0] == table.shape[1] == table.nnz:
        return 1.0
    classes, clusters = (np.ravel(table.sum(axis=axis)) for axis in (1, 0))
    expected = expected_mutual_information(classes, clusters)
    ceiling = (entropy(classes) + entropy(clusters)) / 2
    return float((mutual_info_score(None, None, contingency=table) - expected) / (ceiling - expected))


def expected_mutual_information(classes: np.ndarray, clusters: np.ndarray) -> float:
    """Returns the mutual information expected of random partitions, in nats (JMLR 2010, equation 24a).

    Args:
        classes: Sizes of the classes, whole numbers from 1.
        clusters: Sizes of the clusters, with the same sum.
    """
    total = int(classes.sum())
    log_factorial = gammaln(np.arange(total + 1) + 1.0)
    expected = 0.0
    for a, classes_like_it in zip(*np.unique(classes, return_counts=True), strict=True):
        for b, clusters_like_it in zip(*np.unique(clusters, return_counts=True), strict=True):
            share = _expected_share(int(a), int(b), total, log_factorial)
            expected += float(classes_like_it * clusters_like_it) * share
    return expected


def _expected_share(a: int, b: int, total: int, log_factorial: np.ndarray) -> float:
    """Returns what a class of ``a`` and a cluster of ``b`` items contribute; their overlap is hypergeometric."""
    overlap = np.arange(max(1, a + b - total), min(a, b) + 1)
    margins = log_factorial[[a, b, total - a, total - b]].sum() - log_factorial[total]
    cells = log_factorial[overlap] + log_factorial[a - overlap] + log_factorial[b - overlap]
    probability = np.exp(margins - cells - log_factorial[total - a - b + overlap])
    return float((overlap / total * np.log(total * overlap / (a * b)) * probability).sum())
