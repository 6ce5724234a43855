"""Agreement of two partitions, for scores that scikit-learn lacks or computes slowly for many clusters."""

import numpy as np
from scipy.special import gammaln
from scipy.stats import entropy
from sklearn.metrics import mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, pair_confusion_matrix


def pair_f1(labels: np.ndarray, assignment: np.ndarray) -> float:
    """Returns the F1 score of the pairs in one cluster against the pairs of one class, from 0 to 1.

    Pairs are counted from the sparse contingency table. No loop visits them.

    Args:
        labels: ``(N,)`` whole numbers, the class of each item.
        assignment: ``(N,)`` whole numbers, the cluster of each item.

    Returns:
        The score. It is NaN if no two items share a class or a cluster.
    """
    (_, only_cluster), (only_class, both) = pair_confusion_matrix(labels, assignment).tolist()
    pairs = 2 * both + only_cluster + only_class
    return 2 * both / pairs if pairs else float("nan")


def adjusted_mutual_information(labels: np.ndarray, assignment: np.ndarray) -> float:
    """Returns mutual information adjusted for chance: 1 for equal partitions, about 0 for random ones.

    It is normalised by the arithmetic mean of the entropies (Vinh, Epps and Bailey, "Information Theoretic Measures
    for Clusterings Comparison", JMLR 2010). It equals ``sklearn.metrics.adjusted_mutual_info_score``. That function
    visits every pair of class and cluster: 128 million pairs for 11,316 of each. The expected value only depends on
    their sizes, and there are few different sizes. This function visits each pair of sizes once.

    Args:
        labels: ``(N,)`` whole numbers, the class of each item.
        assignment: ``(N,)`` whole numbers, the cluster of each item.
    """
    table = contingency_matrix(labels, assignment, sparse=True, dtype=np.int64)
    if table.shape[0] == table.shape[1] == table.nnz:
        return 1.0
    classes, clusters = (np.ravel(table.sum(axis=axis)) for axis in (1, 0))
    expected = expected_mutual_information(classes, clusters)
    ceiling = (entropy(classes) + entropy(clusters)) / 2
    return float((mutual_info_score(None, None, contingency=table) - expected) / (ceiling - expected))


def expected_mutual_information(classes: np.ndarray, clusters: np.ndarray) -> float:
    """Returns the expected mutual information of random partitions, in nats (JMLR 2010, equation 24a).

    Args:
        classes: ``(C,)``, sizes of the classes, whole numbers from 1.
        clusters: ``(K,)``, sizes of the clusters, whole numbers from 1 with the same sum.
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
    """Returns the share of a class of ``a`` and a cluster of ``b`` items. Their overlap is hypergeometric."""
    overlap = np.arange(max(1, a + b - total), min(a, b) + 1)
    margins = log_factorial[[a, b, total - a, total - b]].sum() - log_factorial[total]
    cells = log_factorial[overlap] + log_factorial[a - overlap] + log_factorial[b - overlap]
    probability = np.exp(margins - cells - log_factorial[total - a - b + overlap])
    return float((overlap / total * np.log(total * overlap / (a * b)) * probability).sum())
