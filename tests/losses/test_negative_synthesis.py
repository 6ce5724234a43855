"""Synthesis of negatives against loops over anchors and classes, and against the original's numbers."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_bgformer.losses import NPairLoss
from pyg_bgformer.losses.class_slots import class_slots
from pyg_bgformer.losses.negative_synthesis import (
    diversity_penalty,
    pulled_share,
    similarity_penalty,
    synthesise_negatives,
)

DIM = 5


def batch(classes: int, slots: int, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """A batch whose classes lie anywhere, and all else that negatives are made from."""
    generator = torch.Generator().manual_seed(classes * slots)
    size = classes * slots
    labels = torch.arange(classes).repeat(slots)[torch.randperm(size, generator=generator)]
    return {
        "z": torch.randn(size, DIM, generator=generator).to(dtype),
        "weights": torch.rand(size, size, DIM, generator=generator).to(dtype),
        "slots": class_slots(labels, "the test"),
        "draws": torch.rand(slots, slots - 1, generator=generator).to(dtype),
    }


def naive_synthesis(
    z: Tensor, weights: Tensor, slots: Tensor, draws: Tensor, pull: float
) -> tuple[Tensor, float]:
    """The negatives, and the share of those of other classes that were moved."""
    num_slots, num_classes = slots.shape
    out = z.new_zeros(num_slots, num_classes, num_classes, z.size(1))
    moved = []
    for k in range(num_slots):
        for a in range(num_classes):
            i = slots[k, a]
            near = (z[i] - z[slots[(k + 1) % num_slots, a]] + 1e-6).norm()
            for b in range(num_classes):
                for n in range(num_slots):
                    j = slots[n, b]
                    far, x = (z[i] - z[j] + 1e-6).norm(), z[j]
                    if far > near:
                        x = z[i] + (near + (far - near) * weights[i, j] * pull) / far * (z[j] - z[i])
                    if a != b:
                        moved.append(float(far > near))
                    out[k, a, b] = x if n == 0 else x + draws[k, n - 1] * (out[k, a, b] - x)
    return out, sum(moved) / max(1, len(moved))


@pytest.mark.parametrize(("classes", "slots", "pull"), [(2, 2, 1.0), (5, 3, 0.3), (1, 2, 1.0)])
def test_equals_loops(classes: int, slots: int, pull: float) -> None:
    inputs = batch(classes, slots)
    expected, share = naive_synthesis(**inputs, pull=pull)
    found = synthesise_negatives(**inputs, pull=pull)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)
    assert pulled_share(inputs["z"], inputs["slots"]).item() == pytest.approx(share)


@pytest.fixture(scope="session")
def case(gca_hng_parity: Path) -> dict[str, Any]:
    return torch.load(gca_hng_parity, weights_only=True)["cases"]["K2_L1_h2"]


@pytest.mark.parametrize("mean", [1e6, 2.5])
def test_equals_the_original(case: dict[str, Any], mean: float) -> None:
    expected, labels = case["pull"][mean], case["label"]
    z, weights = case["z"].clone().requires_grad_(), expected["edge_para"].clone().requires_grad_()
    draws = torch.tensor(expected["draws"]).view(case["K"], case["K"] - 1)
    size = case["C"] * case["K"]
    negatives = synthesise_negatives(
        z,
        weights.view(size, size, -1),
        class_slots(labels, "the test"),
        draws,
        math.exp(-case["alpha"] / mean),
    )
    theirs = expected["neg"].view(case["K"], case["C"], case["C"], -1)
    torch.testing.assert_close(negatives, theirs, atol=1e-5, rtol=1e-5)
    loss = NPairLoss().synthetic(z, negatives, labels)
    loss.backward()
    torch.testing.assert_close(loss, expected["npair_syn"], atol=0, rtol=1e-5)
    for found, grad in ((z.grad, expected["grad_z"]), (weights.grad, expected["grad_para"])):
        torch.testing.assert_close(found, grad, atol=1e-5 * grad.abs().max().item(), rtol=1e-5)


def test_gradients_equal_finite_differences() -> None:
    inputs = batch(3, 2)
    z, weights = (inputs.pop(name).requires_grad_() for name in ("z", "weights"))
    assert torch.autograd.gradcheck(
        lambda z, weights: synthesise_negatives(z, weights, **inputs, pull=0.7), (z, weights), fast_mode=True
    )


def test_a_pulled_negative_lies_between_the_positives_distance_and_its_own() -> None:
    inputs = batch(4, 2)
    z, slots = inputs["z"], inputs["slots"]
    inputs["draws"] = torch.zeros(2, 1, dtype=z.dtype)  # the last candidate alone
    anchors, last = z[slots], z[slots][1]
    near = (anchors - anchors.roll(-1, dims=0)).norm(dim=-1)[..., None]
    far = (anchors[:, :, None] - last).norm(dim=-1)
    for weight, expected in ((0.0, torch.minimum(near, far)), (1.0, far)):
        inputs["weights"] = torch.full_like(inputs["weights"], weight)
        made = synthesise_negatives(**inputs, pull=1.0)
        found = (anchors[:, :, None] - made).norm(dim=-1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_equal_samples_have_finite_gradients() -> None:
    inputs = batch(3, 2)
    inputs["z"] = torch.ones_like(inputs["z"]).requires_grad_()
    synthesise_negatives(**inputs, pull=0.5).sum().backward()
    assert inputs["z"].grad.isfinite().all()


def test_half_precision_is_computed_in_float32() -> None:
    inputs = batch(3, 3, torch.float32)
    expected = synthesise_negatives(**inputs, pull=0.5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(synthesise_negatives(**inputs, pull=0.5), expected)


@pytest.mark.parametrize("official", [False, True])
def test_similarity_equals_loops(official: bool) -> None:
    inputs = batch(5, 3)
    z, slots = inputs["z"], inputs["slots"]
    negatives = synthesise_negatives(**inputs, pull=0.5)
    total = 0.0
    for row in range(15):
        k, a = divmod(row, 5)
        for b in range(5):
            if b != (row // 3 if official else a):
                total += 1 - float(F.cosine_similarity(z[slots[k, a]], negatives[k, a, b], dim=0))
    assert similarity_penalty(z, negatives, slots, official).item() == pytest.approx(total / 75, rel=1e-9)


def test_diversity_equals_loops() -> None:
    weights = batch(2, 3)["weights"]
    total = 0.0
    for row in weights:
        mean = sum(row) / len(row)
        total += sum(float((edge - mean).square().sum()) for edge in row)
    assert diversity_penalty(weights).item() == pytest.approx(0.01 * (1 - math.sqrt(total / 36)), rel=1e-9)


def test_diversity_equals_the_original(case: dict[str, Any]) -> None:
    expected = case["diversity"]
    weights = case["train"]["edge_para"].clone().requires_grad_()
    loss = 100 * diversity_penalty(weights.view(12, 12, -1))  # the file has it before the factor 0.01
    loss.backward()
    torch.testing.assert_close(loss, expected["loss"], atol=0, rtol=1e-5)
    atol = 1e-5 * expected["grad"].abs().max().item()
    torch.testing.assert_close(weights.grad, expected["grad"], atol=atol, rtol=1e-5)
