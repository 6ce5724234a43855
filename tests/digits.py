"""Fewer digits, so that a run in this process takes a second."""

from contextlib import contextmanager

import pytest


@contextmanager
def quarter_of_the_digits():
    """Lets the dataset ``digits`` have a quarter of its images; yields its counts by split."""
    from sklearn.datasets import load_digits
    from sklearn.utils import Bunch

    from pyg_bgformer.data import SplitCount

    digits = load_digits()
    images, target = digits.images[:450], digits.target[:450]
    train = int((target < 5).sum())
    counts = {"train": SplitCount(5, train), "test": SplitCount(5, len(target) - train)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn.datasets.load_digits", lambda: Bunch(images=images, target=target))
        patch.setattr("pyg_bgformer.data.datasets.digits.OFFICIAL", counts)
        yield counts
