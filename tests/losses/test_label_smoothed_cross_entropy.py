import math

import pytest
import torch
from torch import Tensor

from pyg_bgformer.geometry import Sphere
from pyg_bgformer.losses import LabelSmoothedCrossEntropyLoss, build_loss, loss_options


def build(**options: float) -> LabelSmoothedCrossEntropyLoss:
    torch.manual_seed(0)
    return LabelSmoothedCrossEntropyLoss(5, 8, **options)


def naive(logits: Tensor, labels: Tensor, temperature: float, smoothing: float) -> float:
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        powers = [math.exp(value / temperature) for value in row]
        for c, power in enumerate(powers):
            target = smoothing / len(row) + (1 - smoothing if c == label else 0)
            total -= target * math.log(power / sum(powers))
    return total / len(labels)


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(11, 8, generator=generator), torch.randint(5, (11,), generator=generator)


@pytest.mark.parametrize(("temperature", "smoothing"), [(0.2, 0.1), (1.0, 0.0), (1.0, 0.5)])
def test_equals_loops(batch: tuple[Tensor, Tensor], temperature: float, smoothing: float) -> None:
    embeddings, labels = batch
    loss = build(temperature=temperature, smoothing=smoothing).double()
    logits = embeddings.double() @ loss.classifier.weight.T + loss.classifier.bias
    expected = pytest.approx(naive(logits, labels, temperature, smoothing), rel=1e-9)
    assert loss(embeddings.double(), labels).item() == expected
    assert loss.of_logits(logits, labels).item() == expected


def test_the_loss_of_other_logits_does_not_reach_the_classifier(batch: tuple[Tensor, Tensor]) -> None:
    logits, loss = torch.randn(11, 5, requires_grad=True), build()
    loss.of_logits(logits, batch[1]).backward()
    assert logits.grad is not None
    assert loss.classifier.weight.grad is None


def test_float32_under_autocast(batch: tuple[Tensor, Tensor]) -> None:
    loss = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(*batch), rtol=0.05, atol=0.05)


def test_a_recipe_finds_it_and_it_knows_its_sizes() -> None:
    name = "label_smoothed_cross_entropy"
    loss = build_loss(name, {"smoothing": 0.2}, geometry=Sphere(), num_classes=7, embedding_dim=6)
    assert loss.classifier.weight.shape == (7, 6)
    assert list(loss_options(name)) == ["temperature", "smoothing"]
    assert str(loss).startswith("LabelSmoothedCrossEntropyLoss(\n  temperature=0.2, smoothing=0.2")


@pytest.mark.parametrize("options", [{"temperature": 0}, {"smoothing": 1.0}, {"smoothing": -0.1}], ids=str)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        build(**options)
