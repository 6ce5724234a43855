from collections import Counter
from typing import Any

import numpy as np
import pytest

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.data import HierarchicalSampler, ImageDataset, load_dataset
from pyg_bgformer.engine.setup import build_sampler
from pyg_bgformer.errors import InputError

# 20 classes of 6 images: 4 bikes, 6 lamps, 10 mugs, in shuffled order.
ORDER = np.random.default_rng(0).permutation(120)
LABELS = np.repeat(np.arange(20), 6)[ORDER]
KINDS = np.repeat(["bike", "lamp", "mug"], [24, 36, 60])[ORDER]


def sampler(**changes: Any) -> HierarchicalSampler:
    values = {
        "labels": LABELS,
        "super_classes": KINDS,
        "classes_per_batch": 6,
        "samples_per_class": 3,
        "super_classes_per_batch": 2,
        "seed": 5,
        **changes,
    }
    return HierarchicalSampler(**values)


def test_a_batch_is_of_few_super_classes_with_equal_shares():
    plan = sampler(batches_per_epoch=30).plan(0)
    assert len(plan) == 30
    for batch in plan:
        positions = [position for position, _ in batch]
        classes = LABELS[positions].reshape(6, 3)
        assert (classes == classes[:, :1]).all()
        assert len(set(classes[:, 0])) == 6
        assert len(set(positions)) == 18
        assert sorted(Counter(KINDS[positions]).values()) == [9, 9]


def test_super_classes_and_the_classes_within_them_are_used_equally_often():
    plan = sampler(batches_per_epoch=30).plan(0)
    drawn = [position for batch in plan for position, _ in batch]
    assert set(Counter(KINDS[drawn]).values()) == {180}
    for kind, classes in (("bike", 4), ("lamp", 6), ("mug", 10)):
        counts = Counter(label for label in LABELS[drawn] if KINDS[label == LABELS][0] == kind)
        assert len(counts) == classes
        assert max(counts.values()) - min(counts.values()) <= 3  # once, times the 3 images


def test_plans_are_of_seed_and_epoch_alone():
    first = sampler()
    assert len(first) == 6
    assert first.plan(3) == sampler().plan(3)
    assert first.plan(3) != first.plan(4)
    assert first.plan(3) != sampler(seed=6).plan(3)
    first.set_epoch(3)
    walked = iter(first)
    next(walked)
    resumed = sampler()
    resumed.load_state_dict(first.state_dict())
    assert list(resumed) == first.plan(3)[1:]


def test_one_super_class_a_batch_and_all_of_them():
    for count in (1, 3):
        some = sampler(classes_per_batch=3, super_classes_per_batch=count)
        for batch in some.plan(0):
            assert len(set(KINDS[[position for position, _ in batch]])) == count


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"super_classes_per_batch": 4}, "classes_per_batch is 6, super_classes_per_batch 4; expected"),
        ({"super_classes_per_batch": 0}, "expected at least 1 super-class"),
        ({"super_classes_per_batch": 6}, "super_classes_per_batch is 6, but there are 3 super-classes"),
        ({"classes_per_batch": 10}, "takes 5 classes of a super-class, but the smallest has 4"),
        ({"super_classes": np.roll(KINDS, 1)}, r"class \d+ is in more than one super-class"),
        ({"samples_per_class": 0}, "samples_per_class is 0"),
        ({"classes_per_batch": 22}, "classes_per_batch is 22, but there are 20 classes"),
    ],
)
def test_what_cannot_be_drawn(changes: dict[str, Any], said: str):
    with pytest.raises(InputError, match=said) as caught:
        sampler(**changes)
    assert "\n" not in str(caught.value)


def test_a_recipe_chooses_it_by_name():
    given = ["--data.name", "omniglot", "--sampler.name", "hierarchical", "--sampler.super_classes", "2"]
    config = read_config([*given, "--sampler.classes", "4", "--sampler.samples", "3"])
    records = [
        {"path": f"{split}{kind}{name}{image}", "original_class": name, "split": split, "super_class": kind}
        for split, kind, names in (("train", "x", "abc"), ("train", "y", "def"), ("test", "z", "gh"))
        for name in names
        for image in range(4)
    ]
    chosen = build_sampler(config, ImageDataset("tiny", records))
    assert isinstance(chosen, HierarchicalSampler)
    assert len({position // 12 for position, _ in chosen.plan(0)[0]}) == 2
    with pytest.raises(InputError, match="needs super-classes, which digits has none of"):
        build_sampler(config, load_dataset("digits"))


@pytest.mark.parametrize("given", [["name", "hierarchical"], ["super_classes", "2"]])
def test_its_key_is_for_its_name(given: list[str]):
    with pytest.raises(InputError, match=r"sampler\.super_classes: found (None|2) with name"):
        read_config([f"--sampler.{given[0]}", given[1]])
