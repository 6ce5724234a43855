import os
import signal
from dataclasses import replace

import pytest
import torch

from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.errors import Interrupted, RunError
from pyg_bgformer.methods import METHODS, Method, Update
from tests.training import Training


def interrupt_after(epoch, batch):
    def on_batch(epochs_done, batches_done, loss):
        if (epochs_done, batches_done) == (epoch, batch):
            os.kill(os.getpid(), signal.SIGINT)

    return on_batch


@pytest.mark.parametrize(("epoch", "batch", "workers"), [(0, 2, 1), (0, 3, 0), (1, 1, 0)])
def test_a_resumed_training_ends_with_the_weights_of_an_uninterrupted_one(
    tiny, tmp_path, epoch, batch, workers
):
    tiny = replace(tiny, data=replace(tiny.data, workers=workers))
    whole = Training(tiny, tmp_path).fit()
    with pytest.raises(Interrupted):
        Training(tiny, tmp_path).fit(on_batch=interrupt_after(epoch, batch))
    resumed = Training(tiny, tmp_path)
    torch.rand(7)  # a new process has other random numbers behind it
    resumed.resume()
    assert (resumed.state.epoch, resumed.state.batch) == (epoch + batch // 3, batch % 3)
    resumed = resumed.fit()
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, resumed.method.state_dict()[name]), name
    for row, again in zip(whole.history, resumed.history, strict=True):
        assert {**row, "seconds": 0} == {**again, "seconds": 0}


def test_a_signal_after_the_last_batch_does_not_undo_a_finished_training(tiny, tmp_path):
    state = Training(tiny, tmp_path).fit(on_batch=interrupt_after(1, 3))
    assert (state.epoch, state.batch) == (2, 0)


def test_a_signal_after_the_last_batch_of_a_resumed_epoch_does_not_undo_it_either(tiny, tmp_path):
    with pytest.raises(Interrupted):
        Training(tiny, tmp_path).fit(on_batch=interrupt_after(1, 1))
    resumed = Training(tiny, tmp_path).resume()
    state = resumed.fit(on_batch=interrupt_after(1, 3))
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


def test_bf16_training_is_finite_and_near_float32(tiny, tmp_path):
    half = replace(tiny, train=replace(tiny.train, precision="bf16-mixed", epochs=1))
    full = replace(tiny, train=replace(tiny.train, epochs=1))
    losses = [Training(config, tmp_path).fit().history[0]["loss"] for config in (half, full)]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


class InTwoSteps(Method):
    """Moves the head by one objective and then, having seen it moved, an extra layer by another."""

    def __init__(self, encoder, loss, geometry, num_classes, *, zero_filled=False):
        super().__init__(encoder, loss, geometry, num_classes)
        self.extra = torch.nn.Linear(encoder.embedding_dim, 1)
        self.idle = torch.nn.Linear(1, 1)
        self.zero_filled = zero_filled
        self.heads = []
        self.means = []

    def objectives(self, features):
        z = self.encoder.head(features)
        yield "first", z.square().mean() + self.extra(z).mean()
        yield "second", self.extra(self.encoder.head(features.detach())).square().mean()

    def updates(self, features, labels):
        for name, loss in self.objectives(features):
            self.heads.append(self.encoder.head.weight.detach().clone())
            terms = {"loss": loss} if name == "first" else {name: loss}
            groups = ("backbone", "head") if name == "first" else ("extra",)
            yield Update(loss, terms, groups, self.zero_filled)

    def close_epoch(self, means):
        self.means.append(means)

    def parameter_groups(self):
        extra = [*self.extra.parameters(), *self.idle.parameters()]
        own = {"name": "extra", "params": extra, "lr": 0.05, "weight_decay": 0.5, "schedule": "constant"}
        return [*super().parameter_groups(), own]


@pytest.fixture
def in_two_steps(tiny, tmp_path, monkeypatch):
    def build(**options):
        monkeypatch.setitem(METHODS.parts, "bgformer", InTwoSteps)
        method = replace(tiny.method, options=options)
        train = replace(tiny.train, clip_norm=None, clip_value=0.01)
        return Training(replace(tiny, method=method, train=train), tmp_path)

    return build


def by_two_optimisers(method, images, train, zero_filled):
    """The same step with a textbook loop of two optimisers; returns the method."""
    method.train()
    settings = [
        ([*method.encoder.parameters()], {"lr": train.lr, "weight_decay": train.weight_decay}),
        ([*method.extra.parameters(), *method.idle.parameters()], {"lr": 0.05, "weight_decay": 0.5}),
    ]
    optimizers = [torch.optim.AdamW(params, **options) for params, options in settings]
    for _ in range(3):
        for (_, loss), (params, _), optimizer in zip(
            method.objectives(method.encoder.features(images)), settings, optimizers, strict=True
        ):
            for each in optimizers:
                each.zero_grad(set_to_none=not zero_filled)
            loss.backward()
            torch.nn.utils.clip_grad_value_(params, 0.01)
            optimizer.step()
    return method


@pytest.mark.parametrize("zero_filled", [False, True])
def test_several_updates_of_groups_equal_several_optimisers(in_two_steps, zero_filled):
    ours, theirs = in_two_steps(zero_filled=zero_filled), in_two_steps()
    images = torch.rand(20, 3, 16, 16)
    ours.state.method.train()
    for _ in range(3):
        train_batch(ours.fabric, ours.state, ours.config.train, images, torch.zeros(20))
    expected = by_two_optimisers(theirs.state.method, images, ours.config.train, zero_filled)
    for (name, parameter), other in zip(
        ours.state.method.named_parameters(), expected.parameters(), strict=True
    ):
        torch.testing.assert_close(parameter, other, msg=name)


def test_an_update_sees_what_the_one_before_has_moved(in_two_steps):
    training = in_two_steps()
    training.state.method.train()
    train_batch(
        training.fabric, training.state, training.config.train, torch.rand(20, 3, 16, 16), torch.zeros(20)
    )
    assert not torch.equal(*training.state.method.heads)


def test_all_updates_are_logged_and_the_method_hears_their_means(in_two_steps):
    state = in_two_steps().fit()
    assert [set(means) for means in state.method.means] == [{"loss", "second"}] * 2
    assert all(
        row["second"] == means["second"] for row, means in zip(state.history, state.method.means, strict=True)
    )


def test_a_group_keeps_its_own_schedule(in_two_steps):
    first, last = in_two_steps().fit().history
    assert first["lr_extra"] == last["lr_extra"] == 0.05
    assert last["lr_head"] == pytest.approx(first["lr_head"] / 2)


def test_parameters_that_no_update_reaches_are_named(in_two_steps):
    told = []
    in_two_steps().fit(on_idle=told.append)
    assert told == [["idle.weight", "idle.bias"]] * 2
