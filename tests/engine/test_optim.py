from dataclasses import replace

import pytest
import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import TrainConfig
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.setup import build_method
from pyg_bgformer.errors import InputError


def rates(optimizer):
    return {group["name"]: group["lr"] for group in optimizer.param_groups}


def test_each_group_has_its_own_learning_rate():
    config = read_config(
        [
            *("--method.name", "bgformer", "--method.block_lr", "0.4", "--loss.name", "proxy_anchor"),
            *("--train.lr", "0.1", "--train.head_lr", "0.2", "--train.loss_lr", "0.3"),
        ]
    )
    optimizer = build_optimizer(build_method(config, num_classes=5), config.train)
    assert rates(optimizer) == {"backbone": 0.1, "head": 0.2, "loss": 0.3, "blocks": 0.4}


def test_without_their_own_all_groups_have_the_common_rate():
    config = read_config(["--method.name", "bgformer", "--loss.name", "proxy_anchor", "--train.lr", "0.1"])
    assert set(rates(build_optimizer(build_method(config, num_classes=5), config.train)).values()) == {0.1}


def test_a_parameter_in_no_group_is_refused_by_name():
    method = build_method(read_config([]), num_classes=5)
    method.extra = torch.nn.Linear(2, 2)
    with pytest.raises(InputError, match=r"extra\.weight is in 0 parameter groups"):
        build_optimizer(method, TrainConfig())


def test_a_parameter_in_two_groups_is_refused_by_name():
    method = build_method(read_config([]), num_classes=5)
    groups = method.parameter_groups()
    method.parameter_groups = lambda: [*groups, {"name": "again", "params": [method.encoder.head.weight]}]
    with pytest.raises(InputError, match=r"encoder\.head\.weight is in 2 parameter groups"):
        build_optimizer(method, TrainConfig())


def test_frozen_parameters_are_left_out():
    config = read_config(["--encoder.frozen_batchnorm", "true"])
    method = build_method(config, num_classes=5)
    held = {id(p) for group in build_optimizer(method, config.train).param_groups for p in group["params"]}
    assert held == {id(p) for p in method.parameters() if p.requires_grad}
    assert len(held) < len(list(method.parameters()))


@pytest.mark.parametrize("name", ["adamw", "radam", "adam", "sgd"])
def test_every_optimiser_takes_a_step(name):
    config = read_config(["--train.optimizer", name])
    method = build_method(config, num_classes=5)
    optimizer = build_optimizer(method, config.train)
    before = method.encoder.head.weight.clone()
    method.encoder(torch.rand(2, 3, 16, 16)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(before, method.encoder.head.weight)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("constant", [1, 1, 1, 1]), ("step", [1, 1, 0.1, 0.1]), ("cosine", [1, 0.8535534, 0.5, 0.1464466])],
)
def test_schedules_by_epoch(schedule, expected):
    config = replace(TrainConfig(), epochs=4, lr=1.0, schedule=schedule, milestones=[2])
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=config.lr)
    scheduler = build_schedule(optimizer, config)
    seen = []
    for _ in range(config.epochs):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(expected)


def test_the_fused_optimiser_takes_the_same_steps():
    config = read_config([])
    moved = []
    for fused in (False, True):
        torch.manual_seed(0)
        method = build_method(config, num_classes=5)
        optimizer = build_optimizer(method, config.train, fused=fused)
        for _ in range(3):
            optimizer.zero_grad()
            sum(p.square().sum() + p.sum() for p in method.parameters()).backward()
            optimizer.step()
        moved.append(torch.cat([p.detach().flatten() for p in method.parameters()]))
    assert torch.allclose(*moved, atol=1e-6)
