import pytest
import torch

from pyg_bgformer.data import ImageSamples, eval_transform, load_dataset, train_transform
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.engine.frozen import frozen_samples

CPU = torch.device("cpu")
NORM = {"mean": (0.5,) * 3, "std": (0.5,) * 3}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return build_encoder("conv4", frozen=True)


def digits(transform):
    dataset = load_dataset("digits")
    return ImageSamples(dataset, dataset.rows("train")[:70], transform)


def test_features_are_the_backbones_outputs_in_the_order_of_the_samples(encoder):
    samples = digits(eval_transform(16, resize=16, **NORM))
    frozen = frozen_samples(samples, encoder, device=CPU)
    assert len(frozen) == 70
    for place in (0, 65, 69):
        image, label, row = samples[place]
        with torch.no_grad():
            expected = encoder.backbone.eval()(image[None])[0]
        feature, found_label, found_row = frozen[place]
        assert torch.allclose(feature, expected, atol=1e-6)
        assert (found_label, found_row) == (label, row)


def test_views_are_augmented_and_repeatable(encoder):
    samples = digits(train_transform(16, **NORM))
    views = frozen_samples(samples, encoder, views=3, device=CPU).features
    assert views.shape == (70, 3, 64)
    assert not torch.allclose(views[:, 0], views[:, 1])
    assert torch.equal(frozen_samples(samples, encoder, views=3, device=CPU).features, views)
    assert not torch.allclose(frozen_samples(samples, encoder, views=3, seed=1, device=CPU).features, views)


def test_the_file_is_used_again_and_not_for_another_backbone(encoder, tmp_path):
    samples = digits(eval_transform(16, resize=16, **NORM))
    batches = []
    options = {"device": CPU, "folder": tmp_path, "on_batch": lambda done, total: batches.append(done)}
    first = frozen_samples(samples, encoder, **options).features
    assert batches == [1, 2]
    assert torch.equal(frozen_samples(samples, encoder, **options).features, first)
    assert batches == [1, 2]
    other = build_encoder("conv4", frozen=True)
    assert not torch.equal(frozen_samples(samples, other, **options).features, first)
    assert batches == [1, 2, 1, 2]
