import os
import signal
from dataclasses import replace

import pytest
import torch

from pyg_bgformer.engine.build import (
    build_dataset,
    build_fabric,
    build_method,
    build_sampler,
    build_train_loader,
)
from pyg_bgformer.engine.fit import check_finite, fit
from pyg_bgformer.engine.interruption import Interrupted
from pyg_bgformer.engine.optimisers import build_optimizer, build_schedule
from pyg_bgformer.engine.state import TrainState, load_checkpoint
from pyg_bgformer.errors import RunError


class Training:
    """Everything :func:`fit` needs, made anew as a new process would."""

    def __init__(self, config, folder):
        self.config, self.folder = config, folder
        self.fabric = build_fabric(config)
        torch.manual_seed(config.seed)
        dataset = build_dataset(config)
        self.sampler = build_sampler(config, dataset)
        method = build_method(config, num_classes=5)
        loader = build_train_loader(config, dataset, method.encoder, self.sampler, None)
        self.loader = self.fabric.setup_dataloaders(loader)
        self.model, optimizer = self.fabric.setup(method, build_optimizer(method, config.train))
        self.state = TrainState(method, optimizer, build_schedule(optimizer, config.train))

    def fit(self, **callbacks):
        fit(
            self.fabric,
            self.model,
            self.state,
            self.loader,
            self.sampler,
            self.config,
            self.folder,
            **callbacks,
        )
        return self.state


def interrupt_after(epoch, batch):
    def on_batch(epochs_done, batches_done, loss):
        if (epochs_done, batches_done) == (epoch, batch):
            os.kill(os.getpid(), signal.SIGINT)

    return on_batch


@pytest.mark.parametrize(("epoch", "batch"), [(0, 2), (0, 3), (1, 1)])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tiny, tmp_path, epoch, batch, workers
):
    tiny = replace(tiny, data=replace(tiny.data, workers=workers))
    whole = Training(tiny, tmp_path).fit()
    with pytest.raises(Interrupted):
        Training(tiny, tmp_path).fit(on_batch=interrupt_after(epoch, batch))
    resumed = Training(tiny, tmp_path)
    torch.rand(7)  # a new process has other random numbers behind it
    load_checkpoint(resumed.fabric, resumed.state, tmp_path, "bgformer")
    assert (resumed.state.epoch, resumed.state.batch) == (epoch + batch // 3, batch % 3)
    resumed = resumed.fit()
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name
    for row, again in zip(whole.history, resumed.history, strict=True):
        assert {**row, "seconds": 0} == {**again, "seconds": 0}


def test_a_signal_after_the_last_batch_does_not_undo_a_finished_training(tiny, tmp_path):
    state = Training(tiny, tmp_path).fit(on_batch=interrupt_after(1, 3))
    assert (state.epoch, state.batch) == (2, 0)


def test_signals_are_handled_as_before_when_training_ends(tiny, tmp_path):
    before = signal.getsignal(signal.SIGINT)
    Training(tiny, tmp_path).fit()
    assert signal.getsignal(signal.SIGINT) is before


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny, tmp_path):
    def head(config):
        return Training(config, tmp_path).fit().method.encoder.head.weight

    assert torch.equal(head(tiny), head(tiny))
    assert not torch.equal(head(tiny), head(replace(tiny, seed=1)))


def test_warm_up_leaves_the_backbone_as_it_is_and_then_trains_it(tiny, tmp_path):
    tiny = replace(tiny, train=replace(tiny.train, warmup_epochs=1))
    training = Training(tiny, tmp_path)
    backbone = training.state.method.encoder.backbone
    seen = [{k: v.clone() for k, v in backbone.state_dict().items()}]
    training.fit(on_epoch=lambda row: seen.append({k: v.clone() for k, v in backbone.state_dict().items()}))
    assert all(torch.equal(seen[0][key], seen[1][key]) for key in seen[0])
    assert not all(torch.equal(seen[1][key], seen[2][key]) for key in seen[0])


def test_a_loss_that_is_not_finite_stops_training_by_its_name(tiny, tmp_path):
    training = Training(tiny, tmp_path)
    with torch.no_grad():
        training.state.method.blocks.layers[0].mlp[0].weight.fill_(float("nan"))
    with pytest.raises(RunError, match=r"'refined' is nan in epoch 1, batch 1"):
        training.fit()


def test_features_that_are_not_finite_stop_training_in_one_line(tiny, tmp_path):
    training = Training(tiny, tmp_path)
    with torch.no_grad():
        training.state.method.encoder.backbone.net[0][0].weight.fill_(float("nan"))
    with pytest.raises(RunError, match=r"epoch 1, batch 1: x has 20 of 20 rows"):
        training.fit()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_the_term_itself_is_blamed_before_the_sum(value):
    state = TrainState(None, None, None)
    terms = {"loss": torch.tensor(value), "plain": torch.tensor(1.0), "refined": torch.tensor(value)}
    with pytest.raises(RunError, match="refined"):
        check_finite(terms, state)


def test_training_lowers_the_loss_on_digits(tiny, tmp_path):
    tiny = replace(tiny, sampler=replace(tiny.sampler, batches_per_epoch=15))
    first, last = Training(tiny, tmp_path).fit().history
    assert last["loss"] < 0.9 * first["loss"]


def test_bf16_training_is_finite_and_near_float32(tiny, tmp_path):
    half = replace(tiny, train=replace(tiny.train, precision="bf16-mixed", epochs=1))
    full = replace(tiny, train=replace(tiny.train, epochs=1))
    losses = [Training(config, tmp_path).fit().history[0]["loss"] for config in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
