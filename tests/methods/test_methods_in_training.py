"""What holds for every method when it is trained by its own recipe for digits."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.errors import Interrupted
from pyg_bgformer.methods import METHODS
from tests.training import Training

RECIPES = Path(__file__).parents[2] / "experiments" / "recipes"


@pytest.fixture(params=METHODS)
def config(request):
    """The method's recipe for digits, of two epochs of five small batches."""
    config = read_config(["--config", str(RECIPES / "digits" / f"{request.param}.yaml")])
    return replace(
        config,
        sampler=config.sampler.changed(samples=4, batches_per_epoch=5),
        train=replace(config.train, epochs=2, lr=1e-3),
    )


def stop_in_second_epoch(epochs, batches, loss):
    if (epochs, batches) == (1, 2):
        os.kill(os.getpid(), signal.SIGINT)


def objective(row):
    """What training lowers: not every term, as some weigh more from epoch to epoch."""
    return row.get("plain", row.get("pair", row["loss"]))


def test_training_lowers_the_loss(config, tmp_path):
    config = replace(config, sampler=config.sampler.changed(batches_per_epoch=20))
    first, last = Training(config, tmp_path).fit().history
    assert objective(last) < 0.95 * objective(first)


def test_every_trainable_parameter_gets_a_gradient(config, tmp_path):
    told = []
    Training(config, tmp_path).fit(on_idle=told.append)
    assert told == []


def test_a_resumed_training_is_the_uninterrupted_one(config, tmp_path):
    whole = Training(config, tmp_path).fit()
    with pytest.raises(Interrupted):
        Training(config, tmp_path).fit(on_batch=stop_in_second_epoch)
    resumed = Training(config, tmp_path).resume()
    assert (resumed.state.epoch, resumed.state.batch) == (1, 2)
    resumed = resumed.fit()
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name


def test_the_encoder_is_exported_as_it_embeds(config, tmp_path):
    method = Training(config, tmp_path).fit().method.eval()
    EmbeddingModel(method.encoder, method.geometry, image_size=16, resize=16).save_pretrained(tmp_path)
    model = EmbeddingModel.from_pretrained(tmp_path)
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        embeddings = method.embed((images - model.mean) / model.std)
    torch.testing.assert_close(model.embed(images), embeddings)


def test_labels_do_not_enter_the_embedding(config, tmp_path):
    embeddings = []
    for labels in (torch.arange(5).repeat_interleave(4), torch.arange(5).repeat(4)):
        method = Training(config, tmp_path).state.method.train()
        images = torch.rand(20, 3, 16, 16, generator=torch.Generator().manual_seed(0))
        # Moves BatchNorm's statistics, and nothing that has seen the labels.
        method(method.encoder.features(images), labels)
        with torch.no_grad():
            embeddings.append(method.eval().embed(images))
    assert torch.equal(*embeddings)


def test_permuting_images_permutes_their_embeddings(config, tmp_path):
    method = Training(config, tmp_path).state.method.eval()
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([3, 1, 7, 0, 2, 6, 5, 4])
    with torch.no_grad():
        torch.testing.assert_close(method.embed(images[order]), method.embed(images)[order])


def test_training_in_mixed_precision_is_finite_and_near_float32(config, tmp_path):
    config = replace(config, train=replace(config.train, epochs=1))
    half = replace(config, train=replace(config.train, precision="bf16-mixed"))
    rows = [Training(c, tmp_path).fit().history[0] for c in (half, config)]
    assert objective(rows[0]) == pytest.approx(objective(rows[1]), rel=0.1)
    assert all(torch.tensor(value).isfinite() for value in rows[0].values())


@pytest.mark.parametrize("dataset", ["digits", "glyphs", "omniglot", "cub200_cpu"])
@pytest.mark.parametrize("method", METHODS)
def test_recipes_differ_from_plain_in_what_the_method_needs_alone(dataset, method):
    def shared(name):
        recipe = read_config(["--config", str(RECIPES / dataset / f"{name}.yaml")]).as_dict()
        assert recipe.pop("method")["name"] == name
        recipe.pop("loss")
        if name == "gca_hng":  # its head is published with a BatchNorm
            recipe["encoder"].pop("head_norm")
        else:
            assert not recipe["encoder"].pop("head_norm")
        return {**recipe, "train": {k: v for k, v in recipe["train"].items() if k not in OWN}}

    assert shared(method) == shared("plain")


OWN = ("lr", "head_lr", "loss_lr", "clip_norm", "clip_value")
