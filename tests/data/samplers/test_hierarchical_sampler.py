from collections import Counter
from typing import Any

import numpy as np
import pytest

from pyg_bgformer.data import HierarchicalSampler
from pyg_bgformer.errors import InputError
from tests.data.samplers.drawing import drawn

# 20 classes of 6 images: 4 bikes, 6 lamps, 10 mugs, in shuffled order.
ORDER = np.random.default_rng(0).permutation(120)
LABELS = np.repeat(np.arange(20), 6)[ORDER]
KINDS = np.repeat(["bike", "lamp", "mug"], [24, 36, 60])[ORDER]


def sampler(**changes: Any) -> HierarchicalSampler:
    values = {
        "super_class_labels": KINDS,
        "classes": 6,
        "samples": 3,
        "super_classes": 2,
        "seed": 5,
        **changes,
    }
    return HierarchicalSampler(LABELS, **values)


def test_a_batch_is_of_few_super_classes_with_equal_shares():
    plan = drawn(sampler(batches_per_epoch=30))
    assert len(plan) == 30
    for positions in plan:
        classes = LABELS[positions].reshape(6, 3)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == 6
        assert len(set(positions)) == 18
        assert sorted(Counter(KINDS[positions]).values()) == [9, 9]


def test_super_classes_and_the_classes_within_them_are_used_equally_often():
    images = [position for batch in drawn(sampler(batches_per_epoch=30)) for position in batch]
    assert set(Counter(KINDS[images]).values()) == {180}
    for kind, classes in (("bike", 4), ("lamp", 6), ("mug", 10)):
        counts = Counter(label for label in LABELS[images] if KINDS[label == LABELS][0] == kind)
        assert len(counts) == classes
        assert max(counts.values()) - min(counts.values()) <= 3  # once, times the 3 images


@pytest.mark.parametrize("count", [1, 3])
def test_one_super_class_a_batch_and_all_of_them(count):
    for batch in drawn(sampler(classes=3, super_classes=count)):
        assert len(set(KINDS[batch])) == count


def test_fewer_classes_than_asked_for_keep_equal_shares():
    few = sampler(super_class_labels=np.where(LABELS % 2, "odd", "even"), classes=50)
    assert few.classes == 20
    assert "sampler.classes is 50, but the training images have 20 classes" in few.notes[0]
    for batch in drawn(few):
        assert len(set(LABELS[batch])) == 20


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"super_classes": 4}, "sampler.classes is 6 and sampler.super_classes is 4; expected"),
        ({"super_classes": 6}, "sampler.super_classes is 6, but the training images have 3"),
        ({"classes": 10}, "takes 5 classes of a super-class, but the smallest has 4"),
        ({"super_class_labels": np.roll(KINDS, 1)}, r"class \d+ is in more than one super-class"),
    ],
)
def test_what_cannot_be_drawn(changes: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said) as caught:
        sampler(**changes)
    assert "\n" not in str(caught.value)
