import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pyg_bgformer.report.statistics import compare, difference, estimate


def scores(values, seeds=None):
    return pd.DataFrame({"seed": range(len(values)) if seeds is None else seeds, "recall_at_1": values})


def test_a_difference_is_that_of_the_paired_t_test():
    generator = np.random.default_rng(0)
    ours, theirs = generator.random((2, 7))
    found = difference(scores(ours), scores(theirs), "recall_at_1")
    expected = stats.ttest_rel(ours, theirs)
    low, high = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.estimate.mean == pytest.approx(50 * (low + high))
    assert found.estimate.half_width == pytest.approx(50 * (high - low))
    assert found.clear == (expected.pvalue < 0.05)


def test_only_common_seeds_are_compared():
    found = difference(scores([0.5, 0.7], [0, 5]), scores([0.1, 0.9, 0.4], [5, 6, 0]), "recall_at_1")
    assert found.estimate.seeds == 2
    assert found.estimate.mean == pytest.approx(35)
    assert difference(scores([0.5], [0]), scores([0.5], [1]), "recall_at_1") is None


def test_gains_without_spread_have_the_limits_of_the_test():
    same = difference(scores([0.5, 0.25]), scores([0.5, 0.25]), "recall_at_1")
    more = difference(scores([0.5, 0.25]), scores([0.25, 0.0]), "recall_at_1")
    assert (same.p_value, same.clear) == (1.0, False)
    assert (more.p_value, more.clear) == (0.0, True)


def test_a_single_seed_has_neither_interval_nor_p_value():
    found = difference(scores([0.6]), scores([0.5]), "recall_at_1")
    assert math.isinf(found.estimate.half_width)
    assert math.isnan(found.p_value)
    assert not found.clear
    assert found.text(p_values=True) == "+10.0"
    assert estimate(pd.Series([50.0])).text(".1f") == "50.0"


def test_a_score_that_only_some_rows_have_is_left_out_of_the_others():
    runs = pd.DataFrame(
        {
            "method": ["a", "b"],
            "seed": [0, 0],
            "feature": "embedding",
            "encoder": "trained",
            "recall_at_1": [0.5, 0.6],
            "nmi": [0.5, None],
        }
    )
    first, second = compare(runs, {"a": "a", "b": "a"})
    assert set(first.estimates) == {"recall_at_1", "nmi"}
    assert set(second.estimates) == set(second.differences) == {"recall_at_1"}
    assert second.cells(["recall_at_1", "nmi"]) == ["60.0", "+10.0", "", ""]
