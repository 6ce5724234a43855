import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pyg_bgformer.report.statistics import compare, estimate


def trained(row, recalls, seeds=None):
    """Runs of a row that is compared with the row ``plain``."""
    seeds = range(len(recalls)) if seeds is None else seeds
    common = {"row": row, "reference": "plain", "feature": "embedding", "encoder": "trained"}
    return pd.DataFrame(
        [{**common, "seed": s, "recall_at_1": recall} for s, recall in zip(seeds, recalls, strict=True)]
    )


def difference(ours, theirs):
    lines = compare(pd.concat([theirs, ours]))
    assert [line.row for line in lines] == ["plain", "new"]
    return lines[1].differences.get("recall_at_1")


def test_a_difference_is_that_of_the_paired_t_test():
    ours, theirs = np.random.default_rng(0).random((2, 7))
    found = difference(trained("new", ours), trained("plain", theirs))
    expected = stats.ttest_rel(ours, theirs)
    low, high = expected.confidence_interval(0.95)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert found.mean == pytest.approx(50 * (low + high))
    assert found.half_width == pytest.approx(50 * (high - low))
    assert found.clear == (expected.pvalue < 0.05)


def test_only_common_seeds_are_compared():
    found = difference(trained("new", [0.5, 0.7], [0, 5]), trained("plain", [0.1, 0.9, 0.4], [5, 6, 0]))
    assert found.seeds == 2
    assert found.mean == pytest.approx(35)
    assert difference(trained("new", [0.5], [0]), trained("plain", [0.5], [1])) is None


@pytest.mark.filterwarnings("error")
def test_gains_without_spread_have_the_limits_of_the_test():
    same = difference(trained("new", [0.5, 0.25]), trained("plain", [0.5, 0.25]))
    more = difference(trained("new", [0.6, 0.7]), trained("plain", [0.5, 0.6]))  # equal but for rounding
    assert (same.mean, same.half_width, same.p_value, same.clear) == (0.0, 0.0, 1.0, False)
    assert (more.half_width, more.p_value, more.clear) == (0.0, 0.0, True)


def test_a_single_seed_has_neither_interval_nor_p_value():
    found = estimate(pd.Series([10.0]))
    assert math.isinf(found.half_width)
    assert math.isnan(found.p_value)
    assert not found.clear
    assert (found.text(), found.text("+")) == ("10.0", "+10.0")
    assert estimate(pd.Series([1.0, 3.0])).text("+") == "+2.0 ± 12.7"


def test_a_score_that_only_some_rows_have_is_left_out_of_the_others():
    runs = pd.concat([trained("plain", [0.5]).assign(nmi=0.5), trained("new", [0.6])])
    first, second = compare(runs)
    assert set(first.means) == {"recall_at_1", "nmi"}
    assert set(second.means) == set(second.differences) == {"recall_at_1"}


def test_a_feature_that_the_reference_lacks_has_no_difference():
    runs = pd.concat(
        [trained("plain", [0.5]), trained("new", [0.6]), trained("new", [0.7]).assign(feature="r")]
    )
    assert [(line.feature, line.row, len(line.differences)) for line in compare(runs)] == [
        ("embedding", "plain", 0),
        ("embedding", "new", 1),
        ("r", "new", 0),
    ]
