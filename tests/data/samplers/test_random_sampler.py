import numpy as np
import pytest

from pyg_bgformer.data import RandomSampler
from pyg_bgformer.errors import InputError
from tests.data.samplers.drawing import drawn

LABELS = np.repeat([3, 5, 8], [4, 9, 6])


@pytest.mark.parametrize(("classes", "samples", "batches"), [(8, 1, 2), (2, 3, 3), (19, 1, 1)])
def test_an_epoch_shows_each_image_at_most_once_in_whole_batches(classes, samples, batches):
    plan = drawn(RandomSampler(LABELS, classes=classes, samples=samples, seed=0))
    assert [len(batch) for batch in plan] == [classes * samples] * batches
    shown = [position for batch in plan for position in batch]
    assert len(set(shown)) == len(shown)


def test_every_image_is_as_likely_as_any_other():
    sampler = RandomSampler(LABELS, classes=5, samples=1, seed=0)
    times = np.zeros(len(LABELS))
    for epoch in range(600):
        for batch in drawn(sampler, epoch):
            times[batch] += 1
    assert np.abs(times / 600 - 15 / 19).max() < 0.07


def test_a_batch_larger_than_the_images_is_refused():
    with pytest.raises(InputError, match="a batch has 20 x 1 images, but there are 19"):
        RandomSampler(LABELS, classes=20, samples=1, seed=0)
