"""Labels for samplers, as hypothesis draws them, and what their plans are asked for."""

from collections.abc import Iterable

import numpy as np
from hypothesis import strategies as st

from pyg_bgformer.data import PlannedSampler

LABELS = np.repeat([3, 5, 8, 13, 21, 34, 55], [4, 9, 6, 2, 7, 12, 5])
KINDS = np.where(LABELS < 14, "small", "large")

SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=8)


@st.composite
def shuffled_labels(draw: st.DrawFn) -> np.ndarray:
    """Classes of 1 to 12 images, in any order."""
    sizes = draw(SIZES)
    order = np.random.default_rng(draw(st.integers(0, 99))).permutation(sum(sizes))
    return np.repeat(np.arange(len(sizes)) * 3 - 4, sizes)[order]


def positions(plan: Iterable[list[tuple[int, int]]]) -> list[list[int]]:
    return [[position for position, _ in batch] for batch in plan]


def drawn(sampler: PlannedSampler, epoch: int = 0) -> list[list[int]]:
    return positions(sampler.plan(epoch))
