"""The pairwise cross-entropy against loops over pairs, and against the original's numbers."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pyg_bgformer.geometry import Geometry, PoincareBall, Sphere
from pyg_bgformer.losses.pairwise_cross_entropy import PairwiseCrossEntropyLoss

GEOMETRIES = [Sphere(), PoincareBall(c=0.1)]


def batch(classes: int, slots: int, geometry: Geometry, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Class-major embeddings in float64, and labels that are neither sorted nor contiguous."""
    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(classes * slots, 6, generator=generator, dtype=torch.float64)
    labels = (7 * torch.arange(classes) + 3) % 31
    return geometry.project(raw), labels.repeat_interleave(slots)


def naive_loss(z: Tensor, classes: int, slots: int, geometry: Geometry, tau: float) -> list[float]:
    """The cross-entropy of each ordered pair of slots: logits [sim(a, b) | sim(a, a) without itself]."""
    similarity = geometry.similarity(z, z).tolist()
    losses = []
    for i in range(slots):
        for j in range(slots):
            if i == j:
                continue
            total = 0.0
            for c in range(classes):
                anchor = c * slots + i
                logits = [similarity[anchor][other * slots + j] / tau for other in range(classes)]
                logits += [
                    similarity[anchor][other * slots + i] / tau for other in range(classes) if other != c
                ]
                total += math.log(math.fsum(math.exp(logit) for logit in logits)) - logits[c]
            losses.append(total / classes)
    return losses


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize(("classes", "slots", "tau"), [(2, 2, 0.1), (4, 5, 0.5), (1, 3, 0.5)])
def test_equals_loops(classes: int, slots: int, tau: float, geometry: Geometry) -> None:
    z, labels = batch(classes, slots, geometry)
    losses = naive_loss(z, classes, slots, geometry, tau)
    total = PairwiseCrossEntropyLoss(tau=tau, geometry=geometry)(z, labels)
    mean = PairwiseCrossEntropyLoss(tau=tau, geometry=geometry, reduction="mean")(z, labels)
    assert total.shape == mean.shape == ()
    assert total.item() == pytest.approx(math.fsum(losses), rel=1e-9, abs=1e-12)
    assert mean.item() == pytest.approx(math.fsum(losses) / len(losses), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("case", [0, 1])
def test_equals_the_original(case: int, bgformer_parity: Path) -> None:
    expected = torch.load(bgformer_parity, weights_only=True)["pairwise_loss"][case]
    geometry = PoincareBall(c=expected["c"], clip_radius=expected["clip_r"]) if expected["c"] else Sphere()
    raw = expected["raw"].requires_grad_()
    z = geometry.project(raw)
    torch.testing.assert_close(z, expected["emb"], atol=1e-6, rtol=1e-5)
    labels = torch.arange(expected["C"]).repeat_interleave(expected["S"])
    loss = PairwiseCrossEntropyLoss(tau=expected["tau"], geometry=geometry)(z, labels)
    loss.backward()
    torch.testing.assert_close(loss, expected["loss_sum_over_ordered_pairs"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(raw.grad, expected["grad_raw"], atol=1e-5, rtol=1e-5)


def test_classes_may_lie_anywhere_in_the_batch() -> None:
    z, labels = batch(4, 3, Sphere())
    loss = PairwiseCrossEntropyLoss()
    # Classes mixed, each one's samples still in their order: which sample has which slot matters.
    slot = torch.arange(12) % 3
    for order in (torch.argsort(slot, stable=True), torch.tensor([9, 3, 0, 4, 6, 7, 10, 5, 1, 8, 11, 2])):
        torch.testing.assert_close(loss(z[order], labels[order]), loss(z, labels))


def test_the_order_of_the_slots_does_not_matter() -> None:
    z, labels = batch(4, 3, Sphere())
    same_for_all_classes = torch.tensor([2, 0, 1])
    order = (3 * torch.arange(4)[:, None] + same_for_all_classes).flatten()
    loss = PairwiseCrossEntropyLoss()
    torch.testing.assert_close(loss(z[order], labels), loss(z, labels))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_gradient_equals_finite_differences(geometry: Geometry) -> None:
    z, labels = batch(3, 3, geometry)
    loss = PairwiseCrossEntropyLoss(tau=0.5, geometry=geometry)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels), z.requires_grad_())


def test_one_class_has_no_loss() -> None:
    z, labels = batch(1, 3, Sphere())
    loss = PairwiseCrossEntropyLoss()(z.requires_grad_(), labels)
    loss.backward()
    assert loss.item() == 0
    assert (z.grad == 0).all()


def test_separated_classes_have_a_smaller_loss_than_mixed_ones() -> None:
    labels = torch.arange(3).repeat_interleave(2)
    separated, mixed = torch.eye(3).repeat_interleave(2, dim=0), torch.eye(3).repeat(2, 1)
    loss = PairwiseCrossEntropyLoss()
    assert loss(separated, labels) < 0.1 < loss(mixed, labels)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_autocast_equals_float32(geometry: Geometry) -> None:
    z, labels = batch(4, 3, geometry)
    dtype = torch.bfloat16
    z = z.to(dtype)
    exact = PairwiseCrossEntropyLoss(geometry=geometry)(z.float(), labels)
    with torch.autocast("cpu", dtype=dtype):
        cast = PairwiseCrossEntropyLoss(geometry=geometry)(z, labels)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, exact, atol=0, rtol=1e-6)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_extreme_embeddings_stay_finite(geometry: Geometry) -> None:
    raw = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    raw[:3], raw[3:6], raw[6] = 0.0, 1e4 * raw[3:6], raw[7]
    raw.requires_grad_()
    loss = PairwiseCrossEntropyLoss(tau=0.01, geometry=geometry)(
        geometry.project(raw), torch.arange(6).repeat_interleave(2)
    )
    loss.backward()
    assert loss.isfinite()
    assert raw.grad.isfinite().all()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 0, 1, 1, 1, 1], "2 to 4"),
        ([0, 0, 0, 1, 1], "one entry per row"),
    ],
)
def test_unusable_batches_are_refused(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairwiseCrossEntropyLoss()(torch.randn(6, 3), torch.tensor(labels))


@pytest.mark.parametrize(("options", "message"), [({"tau": 0.0}, "tau"), ({"reduction": "max"}, "'max'")])
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PairwiseCrossEntropyLoss(**options)


def test_str() -> None:
    assert (
        str(PairwiseCrossEntropyLoss(tau=0.1))
        == "PairwiseCrossEntropyLoss(tau=0.1, geometry=Sphere(), reduction='sum')"
    )
