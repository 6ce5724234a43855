from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyg_bgformer.data import PKSampler
from tests.data.samplers.drawing import LABELS, drawn, shuffled_labels


@given(shuffled_labels(), st.integers(1, 9), st.integers(1, 6))
def test_batches_hold_p_distinct_classes_with_k_images_each(labels, classes, samples):
    sampler = PKSampler(labels, classes=classes, samples=samples, seed=0)
    sizes = Counter(labels.tolist())
    assert sampler.classes == min(classes, len(sizes))
    for batch in drawn(sampler):
        in_batch = labels[batch].reshape(sampler.classes, samples)
        assert (in_batch == in_batch[:, :1]).all()
        assert len(set(in_batch[:, 0])) == sampler.classes
        for label, images in zip(in_batch[:, 0], np.reshape(batch, in_batch.shape), strict=True):
            # Nothing is repeated, unless the class has fewer than K images: then all of them are there.
            assert len(set(images)) == min(samples, sizes[label])


@given(shuffled_labels(), st.integers(1, 9), st.integers(1, 30))
def test_classes_are_used_equally_often_to_within_one(labels, classes, batches):
    sampler = PKSampler(labels, classes=classes, samples=2, seed=1, batches_per_epoch=batches)
    used = Counter(int(label) for batch in drawn(sampler) for label in labels[batch[::2]])
    times = [used[label] for label in set(labels.tolist())]
    assert max(times) - min(times) <= 1


def test_images_of_a_class_are_used_equally_often_to_within_one():
    used: Counter[int] = Counter()
    for batch in drawn(PKSampler(LABELS, classes=7, samples=2, seed=2, batches_per_epoch=50)):
        used.update(batch)
        for label in set(LABELS):
            times = [used[position] for position in np.flatnonzero(label == LABELS)]
            assert max(times) - min(times) <= 1


@pytest.mark.parametrize(("classes", "samples", "batches"), [(3, 4, 45 // 12), (7, 40, 1)])
def test_by_default_an_epoch_is_what_the_images_fill(classes, samples, batches):
    assert len(PKSampler(LABELS, classes=classes, samples=samples, seed=0)) == batches


def test_fewer_classes_than_asked_for_make_smaller_batches_and_a_note():
    sampler = PKSampler(LABELS, classes=20, samples=5, seed=0)
    assert (sampler.classes, sampler.batch_size, len(sampler)) == (7, 35, 1)
    assert sampler.plan(0) == PKSampler(LABELS, classes=7, samples=5, seed=0).plan(0)
    assert sampler.notes == [
        "sampler.classes is 20, but the training images have 7 classes: a batch has 7 classes with 5 images each"
    ]
    assert PKSampler(LABELS, classes=7, samples=5, seed=0).notes == []
