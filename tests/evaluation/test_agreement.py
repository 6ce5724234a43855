import math
from itertools import combinations

import numpy as np
import pytest
from sklearn.metrics import adjusted_mutual_info_score

from pyg_bgformer.evaluation.agreement import adjusted_mutual_information, pair_f1


def partitions(rows: int, classes: int, clusters: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(rows)
    labels = generator.integers(classes, size=rows)
    kept = generator.random(rows) < 0.6
    return labels, np.where(kept, labels % clusters, generator.integers(clusters, size=rows))


SHAPES = [(60, 5, 5), (200, 40, 25), (90, 2, 60), (30, 1, 4), (30, 4, 1), (30, 1, 1)]


@pytest.mark.parametrize(("rows", "classes", "clusters"), SHAPES)
def test_pair_f1_equals_a_loop_over_pairs(rows, classes, clusters):
    labels, assignment = partitions(rows, classes, clusters)
    both = one = 0
    for i, j in combinations(range(rows), 2):
        same_class, same_cluster = labels[i] == labels[j], assignment[i] == assignment[j]
        both += bool(same_class and same_cluster)
        one += int(same_class) + int(same_cluster)
    assert pair_f1(labels, assignment) == pytest.approx(2 * both / one)


def test_pair_f1_without_any_pair_is_undefined():
    assert math.isnan(pair_f1(np.arange(5), np.arange(5)))


@pytest.mark.parametrize(("rows", "classes", "clusters"), [*SHAPES, (3000, 600, 550)])
def test_adjusted_mutual_information_equals_scikit_learn(rows, classes, clusters):
    labels, assignment = partitions(rows, classes, clusters)
    expected = adjusted_mutual_info_score(labels, assignment)
    assert adjusted_mutual_information(labels, assignment) == pytest.approx(expected, abs=1e-10)


def test_adjusted_mutual_information_of_single_items():
    assert adjusted_mutual_information(np.arange(6), np.arange(6)[::-1]) == 1
    assert adjusted_mutual_information(np.arange(6), np.array([0, 0, 1, 2, 3, 4])) == pytest.approx(
        0, abs=1e-9
    )
