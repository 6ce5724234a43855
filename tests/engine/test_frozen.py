import pytest
import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.data import ImageSamples, eval_transform, load_dataset, train_transform
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.engine.frozen import frozen_samples
from pyg_bgformer.engine.run import run
from pyg_bgformer.engine.setup import build_dataset, build_parts
from pyg_bgformer.engine.trained import training_images
from pyg_bgformer.errors import InputError
from pyg_bgformer.report.progress import Display

pytestmark = pytest.mark.usefixtures("few_digits")

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


FROZEN = """
data: {name: digits, image_size: 16, resize: 16, workers: 0, cache: null, views: 2, feature_cache: null}
sampler: {name: classes, classes: 5, samples: 4}
encoder: {name: conv4, frozen: true, pca_dim: 32, embedding_dim: 16, feature_norm: batch}
loss: {name: pairwise_cross_entropy}
method: {name: bgformer, k: 5, heads: 4}
train: {epochs: 1}
evaluation: {clustering: false}
"""


def test_a_run_trains_the_head_and_deploys_the_whole_encoder(tmp_path):
    recipe = tmp_path / "frozen.yaml"
    recipe.write_text(FROZEN)
    folder = run(read_config(["--config", str(recipe), "--runs", str(tmp_path)]), Display())
    encoder = EmbeddingModel.from_pretrained(getattr(folder, "path", folder)).encoder
    torch.manual_seed(0)
    start = build_encoder("conv4", frozen=True, pca_dim=32, embedding_dim=16)
    for name, value in start.backbone.state_dict().items():
        assert torch.equal(value, encoder.backbone.state_dict()[name])
    assert not torch.equal(start.head.weight, encoder.head.weight)
    assert encoder.features(torch.rand(2, 3, 16, 16)).shape == (2, 32)


def test_views_need_a_frozen_encoder():
    with pytest.raises(InputError, match="set encoder"):
        read_config(["--data.views=3"])


def test_pictures_show_the_views_whose_features_were_trained_on(tmp_path):
    recipe = tmp_path / "frozen.yaml"
    recipe.write_text(FROZEN)
    config = read_config(["--config", str(recipe), "--seed", "1"])
    parts = build_parts(config, build_dataset(config.data), Display())
    features, labels, _ = next(iter(parts.train_loader))
    images, same_labels = training_images(config, parts.tested, parts.method.encoder, 0)
    assert torch.equal(labels, same_labels)
    with torch.no_grad():
        assert torch.allclose(parts.method.encoder.backbone.eval()(images), features, atol=1e-5)
