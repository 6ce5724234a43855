import numpy as np
import pytest
import torch

from pyg_bgformer.data.datasets.digits import Digits
from pyg_bgformer.data.noise import NoisySamples, mislabelled
from pyg_bgformer.data.samples import ImageSamples
from pyg_bgformer.data.splits import validation_part


@pytest.fixture(scope="module")
def digits():
    return Digits()


def labels(dataset, split="train"):
    return dataset.table["label"].to_numpy()[dataset.rows(split)]


def samples(dataset, share, seed=0):
    return NoisySamples(dataset, dataset.rows("train"), lambda x: x, share=share, seed=seed, size=6)


@pytest.mark.parametrize("share", [0.0, 0.333, 1.0])
def test_the_share_of_wrong_labels_is_exact_and_they_are_training_labels(digits, share):
    wrong = labels(mislabelled(digits, share, seed=3))
    assert (wrong != labels(digits)).sum() == round(share * 901)
    assert set(wrong) == set(range(5))


def test_wrong_labels_are_spread_over_all_other_classes(digits):
    wrong = labels(mislabelled(digits, 1.0, seed=0))
    for label in range(5):
        counts = np.bincount(wrong[labels(digits) == label], minlength=5)
        assert counts[label] == 0
        assert np.delete(counts, label).min() > 25  # of 45 expected


def test_test_images_and_the_dataset_itself_are_left_alone(digits):
    before = digits.table.copy()
    noisy = mislabelled(digits, 0.4, seed=0)
    assert (labels(noisy, "test") == labels(digits, "test")).all()
    assert noisy.table.drop(columns="label").equals(digits.table.drop(columns="label"))
    assert digits.table.equals(before)


def test_the_seed_decides_the_labels_and_a_larger_share_keeps_what_a_smaller_one_made_wrong(digits):
    little, again, more, other = (
        labels(mislabelled(digits, share, seed)) for share, seed in ((0.1, 1), (0.1, 1), (0.4, 1), (0.1, 2))
    )
    assert (little == again).all()
    assert (little != other).any()
    changed = little != labels(digits)
    assert (more[changed] == little[changed]).all()


def test_a_validation_part_is_mislabelled_within_the_classes_that_it_trains_on(digits):
    part = validation_part(digits, folds=2, fold=0)
    noisy = mislabelled(part, 0.5, seed=0)
    assert set(labels(noisy)) == {0, 1, 2}
    assert (labels(noisy, "test") == labels(part, "test")).all()


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_the_share_of_noise_is_exact_and_the_other_images_are_theirs(digits, share):
    noisy, clean = samples(digits, share), ImageSamples(digits, digits.rows("train"), lambda x: x)
    assert len(noisy.noisy_rows) == round(share * 901)
    for position in range(0, 901, 30):
        image, label, row = noisy[position]
        assert (label, row) == clean[position][1:]
        assert image.shape == ((3, 6, 6) if row in noisy.noisy_rows else (3, 8, 8))
        assert row in noisy.noisy_rows or torch.equal(image, clean[position][0])


def test_noise_is_uniform_and_another_for_each_image_and_seed(digits):
    noisy, other = samples(digits, 1.0), samples(digits, 1.0, seed=1)
    pixels = torch.stack([noisy[i][0] for i in range(100)]).float()
    assert abs(pixels.mean() - 127.5) < 3
    assert abs(pixels.std() - 73.9) < 2
    assert torch.equal(noisy[5][0], noisy[5][0])
    assert not torch.equal(noisy[5][0], noisy[6][0])
    assert not torch.equal(noisy[5][0], other[5][0])


def test_a_larger_share_keeps_what_was_noise(digits):
    assert samples(digits, 0.1).noisy_rows < samples(digits, 0.4).noisy_rows


def test_which_labels_are_wrong_says_nothing_of_which_images_are_noise(digits):
    wrong = np.flatnonzero(labels(mislabelled(digits, 0.4, 0)) != labels(digits))
    both = len(samples(digits, 0.4).noisy_rows & set(digits.rows("train")[wrong].tolist()))
    assert 110 < both < 180  # 144 expected of independent draws, 360 of one draw
