"""Means over seeds with their intervals, and paired differences between the rows of a comparison."""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
from scipy import stats

SCORES = {"recall_at_1": "R@1", "map_at_r": "MAP@R", "nmi": "NMI"}
"""Scores that tables and figures show, in this order, if the runs have them."""


class Estimate(NamedTuple):
    """A mean over seeds, in %.

    Attributes:
        mean: The mean.
        half_width: Half of the width of its 95% interval (Student's t). Infinite for a single value.
        p_value: p-value of the two-sided t-test that the mean is zero. NaN for a single value.
        seeds: Number of values, one for each seed.
    """

    mean: float
    half_width: float
    p_value: float
    seeds: int

    @property
    def clear(self) -> bool:
        """Whether zero is outside the interval."""
        return abs(self.mean) > self.half_width

    def text(self, sign: str = "") -> str:
        """Returns for example ``1.1 ± 0.8``, or ``+1.1 ± 0.8`` if the sign is ``+``, or ``1.1`` for one value."""
        return f"{self.mean:{sign}.1f}" + (f" ± {self.half_width:.1f}" if self.seeds > 1 else "")


@dataclass(frozen=True)
class Line:
    """The numbers of a row of a comparison, for one feature.

    Args:
        feature: The feature.
        row: Name of the row.
        reference: The row that it is compared with. Empty if there is none.
        seeds: Number of runs.
        means: Mean of each measured score.
        differences: Mean difference from the reference for each score, over the seeds that both rows have.
    """

    feature: str
    row: str
    reference: str
    seeds: int
    means: dict[str, Estimate]
    differences: dict[str, Estimate]


def estimate(values: pd.Series) -> Estimate:
    """Returns the mean of values, one for each seed, with its interval and its p-value."""
    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(mean, float("inf"), float("nan"), len(values))
    if values.max() - values.min() < 1e-9:  # equal values: the t-test divides by zero, so its limit is taken
        return Estimate(mean, 0.0, 1.0 if abs(mean) < 1e-9 else 0.0, len(values))
    test = stats.ttest_1samp(values, 0.0)
    low, high = test.confidence_interval(0.95)
    return Estimate(mean, float(high - low) / 2, float(test.pvalue), len(values))


def compare(runs: pd.DataFrame) -> list[Line]:
    """Returns a line for each feature and row. Each feature begins with a line for the untrained encoder.

    Args:
        runs: Runs from :func:`~pyg_bgformer.report.collect.collect`, with the column ``reference``. A row that is
            its own reference has no differences.
    """
    references = dict(zip(runs["row"], runs["reference"], strict=True))
    lines = []
    for feature in runs.loc[runs["encoder"] == "trained", "feature"].unique():
        of_feature = runs[runs["feature"] == feature].set_index("seed")
        trained = of_feature[of_feature["encoder"] == "trained"]
        before = of_feature[of_feature["encoder"] == "untrained"]
        first = before[before["row"] == next(iter(references))]
        groups = [("untrained encoder", "", first)]
        groups += [(row, of, trained[trained["row"] == row]) for row, of in references.items()]
        for row, reference, group in groups:
            measured = [score for score in SCORES if score in group and group[score].notna().any()]
            means = {score: estimate(100 * group[score].dropna()) for score in measured}
            others = trained[trained["row"] == (reference if reference != row else None)]
            gains = {score: (100 * (group[score] - others[score])).dropna() for score in measured}
            differences = {score: estimate(gain) for score, gain in gains.items() if len(gain)}
            against = reference if reference != row else ""
            lines.append(Line(feature, row, against, len(group), means, differences))
    return [line for line in lines if line.seeds]
