from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.encoders import ENCODERS
from pyg_bgformer.engine.encoding import EncodedBatch, Encoding, SplitBatch
from pyg_bgformer.errors import InputError
from pyg_bgformer.methods import METHODS
from tests.training import NoisyConv, Training

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes"


@pytest.fixture(autouse=True)
def noisy(monkeypatch):
    monkeypatch.setitem(ENCODERS.parts, "noisy", NoisyConv)


def config_of(method, encoder="noisy", **train):
    """A method's recipe for digits, of two epochs of two small batches."""
    config = read_config(["--config", str(RECIPES / "digits" / f"{method}.yaml")])
    return replace(
        config,
        sampler=config.sampler.changed(samples=4, batches_per_epoch=2),
        encoder=replace(config.encoder.changed(frozen_batchnorm=True), name=encoder),
        train=replace(config.train, epochs=2, **train),
        data=replace(config.data, workers=0),
    )


def assert_equal_training(config, path, chunk):
    """Trains with a chunk and without, and compares weights, and the random numbers that are left behind."""
    whole = Training(config, path).double().fit()
    left = torch.rand(1)
    chunked = Training(replace(config, train=replace(config.train, encode_chunk=chunk)), path).double().fit()
    assert torch.equal(torch.rand(1), left)
    for name, value in whole.method.state_dict().items():
        torch.testing.assert_close(chunked.method.state_dict()[name], value, rtol=0, atol=1e-6, msg=name)
    for row, again in zip(whole.history, chunked.history, strict=True):
        assert {**row, "seconds": 0} == pytest.approx({**again, "seconds": 0}, rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_pieces_give_the_weights_of_the_whole_batch_with_dropout_and_drop_path(method, tmp_path):
    assert_equal_training(config_of(method), tmp_path, chunk=7)


def test_pieces_give_the_weights_of_the_whole_batch_in_a_warm_up_and_with_features_normalised_over_it(
    tmp_path,
):
    config = config_of("bgformer", warmup_epochs=1)
    config = replace(config, encoder=config.encoder.changed(feature_norm="batch", head_norm=True))
    assert_equal_training(config, tmp_path, chunk=6)


def test_a_chunk_of_the_whole_batch_is_one_piece(tmp_path):
    parts = Training(config_of("plain", encode_chunk=20), tmp_path).parts
    images, labels, _ = next(iter(parts.train_loader))
    assert type(parts.encoding(parts.fabric, parts.method.encoder, images, labels)) is EncodedBatch
    assert type(parts.encoding(parts.fabric, parts.method.encoder, images[:21], labels)) is EncodedBatch
    smaller = Encoding(chunk=19, random=True)
    assert type(smaller(parts.fabric, parts.method.encoder, images, labels)) is SplitBatch


def test_uint8_images_are_normalised_in_pieces_too(tmp_path):
    parts = Training(config_of("plain", encoder="conv4"), tmp_path).parts
    images = torch.randint(256, (12, 3, 16, 16), dtype=torch.uint8)
    features = [
        encoding(parts.fabric, parts.method.encoder, images, torch.zeros(12)).features
        for encoding in (Encoding(), Encoding(chunk=5))
    ]
    torch.testing.assert_close(*features)


class Counting(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.net, self.sizes = backbone, []

    def forward(self, images):
        self.sizes.append((len(images), torch.is_grad_enabled()))
        return self.net(images)


def test_an_update_that_does_not_move_the_encoder_does_not_encode_again(tmp_path):
    parts = Training(config_of("gca_hng", encoder="conv4"), tmp_path).parts
    images, labels, _ = next(iter(parts.train_loader))
    encoder = parts.method.encoder
    encoder.backbone = Counting(encoder.backbone)
    batch = Encoding(chunk=12)(parts.fabric, encoder, images, labels)
    updates = parts.method.updates(batch.features, batch.labels)
    first, *_ = next(updates)
    assert encoder.backbone.sizes == [(12, False), (8, False)]
    batch.backward(first, [p for p in parts.method.parameters() if p.requires_grad])
    assert encoder.backbone.sizes[2:] == [(12, True), (8, True)]
    batch.backward(next(updates).loss, [*parts.method.classifier.parameters()])
    assert len(encoder.backbone.sizes) == 4


def test_bf16_works_in_pieces(tmp_path):
    losses = [
        Training(config_of("bgformer", precision="bf16-mixed", encode_chunk=chunk), tmp_path).fit().history
        for chunk in (None, 7)
    ]
    assert losses[0][0]["loss"] == pytest.approx(losses[1][0]["loss"], rel=1e-2)


def test_pieces_need_a_frozen_batchnorm(tmp_path):
    config = config_of("plain", encode_chunk=8)
    config = replace(config, encoder=config.encoder.changed(frozen_batchnorm=False))
    with pytest.raises(
        InputError, match=r"train\.encode_chunk: BatchNorm of noisy .*encoder.frozen_batchnorm: true"
    ):
        Training(config, tmp_path)
