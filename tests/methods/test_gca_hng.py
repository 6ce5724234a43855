"""GCA-HNG's steps against the original's numbers, and what must hold for any batch."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pyg_bgformer.encoders import Backbone, Encoder, EncoderSpec, build_encoder
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.losses import NPair
from pyg_bgformer.methods import GCAHNG, Update

LABELS = torch.tensor([2, 0, 3, 1, 0, 2, 1, 3, 3, 2, 0, 1])


def build(loss: nn.Module | None = None, **options: Any) -> GCAHNG:
    torch.manual_seed(0)
    encoder = build_encoder("conv4", embedding_dim=16, head_norm=True)
    return GCAHNG(encoder, loss or NPair(), Sphere(), 4, heads=2, **options)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Flat(Backbone):
    """The parity case's stand-in for a network: one layer on the pixels."""

    def __init__(self) -> None:
        super().__init__(nn.ModuleDict({"lin": nn.Linear(12, 2048)}), (0.5,) * 3, (0.5,) * 3)
        self.feature_dim = 2048

    def forward(self, images: Tensor) -> Tensor:
        return self.net["lin"](images.flatten(1)).relu()


class Rehearsed(GCAHNG):
    """Draws the numbers that the original drew."""

    script: list[float]

    def draws(self, slots: Tensor) -> Tensor:
        count = slots.size(0) * (slots.size(0) - 1)
        drawn, self.script = self.script[:count], self.script[count:]
        return torch.tensor(drawn).view(slots.size(0), -1)


def rehearsed(state: dict[str, Tensor], **options: Any) -> Rehearsed:
    encoder = Encoder(Flat(), EncoderSpec("flat", embedding_dim=32, head_norm=True))
    return Rehearsed.from_original(state, encoder, heads=2, dropout=0.0, official_mask=True, **options)


def optimiser(method: GCAHNG, lr: dict[str, float], decay: dict[str, float]) -> torch.optim.AdamW:
    """One for all groups, as a run has it."""
    of = {"network": "gnn", "classifier": "cls"}
    return torch.optim.AdamW(
        {"name": g["name"], "params": g["params"], "lr": lr[key], "weight_decay": decay[key]}
        for g in method.parameter_groups()
        if (key := of.get(g["name"], "metric")) and g["params"]
    )


def carry_out(optimizer: torch.optim.Optimizer, update: Update) -> None:
    """What a run does with an update."""
    moved = [
        parameter
        for group in optimizer.param_groups
        if update.groups is None or group["name"] in update.groups
        for parameter in group["params"]
        if parameter.requires_grad
    ]
    optimizer.zero_grad()
    update.loss.backward(inputs=moved)
    if update.zero_filled:
        for parameter in moved:
            if parameter.grad is None and parameter in optimizer.state:
                parameter.grad = torch.zeros_like(parameter)
    nn.utils.clip_grad_value_(moved, 10)
    optimizer.step()


@pytest.mark.parametrize("mode", ["step", "step_set_to_none"])
def test_whole_steps_equal_the_originals(gca_hng_parity: Path, mode: str) -> None:
    case = torch.load(gca_hng_parity, weights_only=True)["cases"]["K2_L1_h2"]
    expected = case[mode]
    method = rehearsed(expected["state_before"], zero_filled=mode == "step")
    optimizer = optimiser(method, expected["lr"], expected["wd"])
    for step in expected["steps"]:
        method.close_epoch({"plain": step["j_avg"], "generator": step["j_gen"]})
        method.script = list(step["draws"])
        logged: dict[str, Tensor] = {}
        for update in method.updates(expected["x"], case["label"]):
            logged |= update.terms
            carry_out(optimizer, update)
        assert method.script == []
        found = {
            "J_m": logged["plain"],
            "J_gnnce": logged["node"],
            "J_syn": logged["synthetic"],
            "J_metric": logged["loss"],
            "J_softce": logged["classifier"],
            "J_div": logged["diversity"],
            "J_gence": case["softmax_factor"] * logged["made_class"],
            "J_gen": logged["generator"],
        }
        for name, value in step["metrics"].items():
            assert found[name].item() == pytest.approx(value, rel=5e-5), name
