"""The N-pair loss against loops over anchors, and against the original's numbers."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pyg_bgformer.geometry import Sphere
from pyg_bgformer.losses import NPairLoss, build_loss


def batch(classes: int, slots: int) -> tuple[Tensor, Tensor]:
    """Class-major embeddings of any length in float64, and labels that are not contiguous."""
    generator = torch.Generator().manual_seed(classes)
    z = torch.randn(classes * slots, 6, generator=generator, dtype=torch.float64)
    return z, ((7 * torch.arange(classes) + 3) % 31).repeat_interleave(slots)


def cross_entropy(logits: list[float], target: int) -> float:
    return math.log(sum(math.exp(logit) for logit in logits)) - logits[target]


def naive_loss(z: Tensor, classes: int, slots: int, regularisation: float) -> float:
    groups = z.view(classes, slots, -1)
    total = 0.0
    for k in range(1, slots):
        for c in range(classes):
            logits = [float(groups[c, 0] @ groups[other, k]) for other in range(classes)]
            total += cross_entropy(logits, c) / classes / (slots - 1)
    return total + 0.25 * regularisation * sum(float(row @ row) for row in z) / classes


def naive_synthetic(z: Tensor, negatives: Tensor, classes: int, slots: int, regularisation: float) -> float:
    groups = z.view(classes, slots, -1)
    total = 0.0
    for k in range(slots):
        lengths, other_lengths = 0.0, 0.0
        for a in range(classes):
            anchor = groups[a, k]
            others = [groups[a, (k + 1) % slots] if b == a else negatives[k, a, b] for b in range(classes)]
            total += cross_entropy([float(anchor @ other) for other in others], a) / classes / slots
            lengths += float(anchor @ anchor) / classes
            other_lengths += sum(float(other @ other) for other in others) / classes**2
        total += 0.25 * regularisation * (lengths + other_lengths) / slots
    return total


@pytest.mark.parametrize(("classes", "slots"), [(2, 2), (4, 5), (1, 3)])
def test_equals_loops(classes: int, slots: int) -> None:
    z, labels = batch(classes, slots)
    assert NPairLoss()(z, labels).item() == pytest.approx(naive_loss(z, classes, slots, 3e-3), rel=1e-9)
    assert NPairLoss(regularisation=0.5)(z, labels).item() == pytest.approx(
        naive_loss(z, classes, slots, 0.5), rel=1e-9
    )


@pytest.mark.parametrize(("classes", "slots"), [(4, 3), (1, 3)])
def test_synthetic_equals_loops(classes: int, slots: int) -> None:
    z, labels = batch(classes, slots)
    generator = torch.Generator().manual_seed(9)
    negatives = torch.randn(slots, classes, classes, 6, generator=generator, dtype=torch.float64)
    expected = naive_synthetic(z, negatives, classes, slots, 0.1)
    assert NPairLoss(regularisation=0.1).synthetic(z, negatives, labels).item() == pytest.approx(
        expected, rel=1e-9
    )


def test_equals_the_original(gca_hng_parity: Path) -> None:
    case = torch.load(gca_hng_parity, weights_only=True)["cases"]["K2_L1_h2"]
    z = case["z"].clone().requires_grad_()
    loss = NPairLoss()(z, case["label"])
    loss.backward()
    torch.testing.assert_close(loss, case["npair"]["loss"], atol=0, rtol=1e-5)
    torch.testing.assert_close(z.grad, case["npair"]["grad_z"], atol=1e-6, rtol=1e-5)


def test_classes_may_lie_anywhere_in_the_batch() -> None:
    z, labels = batch(4, 3)
    loss = NPairLoss()(z, labels)
    # Classes mixed, each one's samples still in their order: the first is the anchor.
    for order in (
        torch.arange(12).view(4, 3).t().flatten(),
        torch.tensor([9, 3, 0, 4, 6, 7, 10, 5, 1, 8, 11, 2]),
    ):
        torch.testing.assert_close(NPairLoss()(z[order], labels[order]), loss)


def test_the_anchor_is_the_first_of_its_class() -> None:
    z, labels = batch(3, 3)
    order = torch.tensor([1, 0, 2, 3, 4, 5, 6, 7, 8])
    assert not torch.isclose(NPairLoss()(z[order], labels), NPairLoss()(z, labels))


def test_float32_under_autocast() -> None:
    z, labels = batch(4, 3)
    exact = NPairLoss()(z, labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = NPairLoss()(z.float(), labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), exact, atol=0, rtol=1e-5)


def test_a_recipe_finds_it() -> None:
    given = {"geometry": Sphere(), "num_classes": 3, "embedding_dim": 8}
    loss = build_loss("n_pair", {"regularisation": 0.1}, **given)
    assert str(loss) == "NPairLoss(regularisation=0.1)"
    with pytest.raises(ValueError, match="regularisation must be at least 0"):
        build_loss("n_pair", {"regularisation": -1.0}, **given)
