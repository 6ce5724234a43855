"""Means over seeds with their intervals, and paired differences between what was compared."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import pandas as pd
from scipy import stats

SCORES = {"recall_at_1": "R@1", "map_at_r": "MAP@R", "nmi": "NMI"}
"""Scores that tables show, in their order, as far as the runs have them."""


class Estimate(NamedTuple):
    """A mean in %, and half of its 95% interval (Student's): infinite for a single value."""

    mean: float
    half_width: float
    seeds: int

    def text(self, form: str) -> str:
        """For example ``+1.1 ± 0.8``; a single value has no interval."""
        return f"{self.mean:{form}}" + (f" ± {self.half_width:.1f}" if self.seeds > 1 else "")


class Difference(NamedTuple):
    """Of one row from another over the seeds that both have, and the p-value of the paired t-test."""

    estimate: Estimate
    p_value: float

    @property
    def clear(self) -> bool:
        """Whether the interval leaves zero out."""
        return abs(self.estimate.mean) > self.estimate.half_width

    def text(self, p_values: bool) -> str:
        """Markdown: bold if clear; a single pair has no p-value."""
        text = self.estimate.text("+.1f")
        text = f"**{text}**" if self.clear else text
        if not p_values or self.estimate.seeds < 2:
            return text
        return f"{text} ({'p < 0.001' if self.p_value < 0.001 else f'p = {self.p_value:.3f}'})"


class Line(NamedTuple):
    """What a table says of one row and feature, by score; without what was not measured."""

    feature: str
    name: str
    seeds: int
    estimates: dict[str, Estimate]
    differences: dict[str, Difference]

    def cells(self, scores: Iterable[str], p_values: bool = False) -> list[str]:
        """For each score the mean and the difference, in Markdown; empty where there is none."""
        cells = []
        for score in scores:
            cells.append(self.estimates[score].text(".1f") if score in self.estimates else "")
            cells.append(self.differences[score].text(p_values) if score in self.differences else "")
        return cells


def compare(runs: pd.DataFrame, references: Mapping[str, str]) -> list[Line]:
    """One line for each feature and row, and before those of a feature the untrained encoder.

    Args:
        runs: From :func:`~pyg_bgformer.report.summary.collect`.
        references: For each row (column ``method``), in the order of the lines, the one that it is compared with;
            a row that is its own reference has no differences.
    """
    first = next(iter(references.values()))
    lines = []
    for feature in runs.loc[runs["encoder"] == "trained", "feature"].unique():
        of_feature = runs[runs["feature"] == feature]
        trained = of_feature[of_feature["encoder"] == "trained"]
        before = of_feature[(of_feature["encoder"] == "untrained") & (of_feature["method"] == first)]
        lines.append(_line(feature, "untrained encoder", before, before[:0]))
        for name, reference in references.items():
            group = trained[trained["method"] == name]
            baseline = trained[trained["method"] == (reference if reference != name else None)]
            lines.append(_line(feature, name, group, baseline))
    return [line for line in lines if line.seeds]


def estimate(values: pd.Series) -> Estimate:
    """The mean of one value a seed, and its interval."""
    if len(values) < 2:
        return Estimate(float(values.mean()), float("inf"), len(values))
    quantile = stats.t.ppf(0.975, len(values) - 1)
    return Estimate(float(values.mean()), float(quantile * _standard_error(values)), len(values))


def difference(group: pd.DataFrame, baseline: pd.DataFrame, score: str) -> Difference | None:
    """Paired by seed; nothing where there is no common one."""
    gains = 100 * (group.set_index("seed")[score] - baseline.set_index("seed")[score]).dropna()
    return None if gains.empty else Difference(estimate(gains), _p_value(gains))


def _line(feature: str, name: str, group: pd.DataFrame, baseline: pd.DataFrame) -> Line:
    measured = [score for score in SCORES if score in group and group[score].notna().any()]
    differences = {score: difference(group, baseline, score) for score in measured}
    return Line(
        feature,
        name,
        len(group),
        {score: estimate(100 * group[score].dropna()) for score in measured},
        {score: gain for score, gain in differences.items() if gain is not None},
    )


def _p_value(gains: pd.Series) -> float:
    """Two-sided, of Student's test that the mean is zero; not a number for a single gain."""
    if len(gains) < 2:
        return float("nan")
    error = _standard_error(gains)
    if error == 0:
        return 1.0 if gains.mean() == 0 else 0.0
    return float(2 * stats.t.sf(abs(gains.mean()) / error, len(gains) - 1))


def _standard_error(values: pd.Series) -> float:
    return float(values.std() / len(values) ** 0.5)
