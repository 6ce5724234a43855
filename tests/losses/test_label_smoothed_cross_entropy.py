import math

import pytest
import torch
from torch import nn

from pyg_bgformer.geometry import Sphere
from pyg_bgformer.losses import LabelSmoothedCrossEntropy, build_loss, loss_options


def build(**options):
    torch.manual_seed(0)
    return LabelSmoothedCrossEntropy(5, 8, **options)


def naive(logits, labels, temperature, smoothing):
    total = 0.0
    for row, label in zip(logits.tolist(), labels.tolist(), strict=True):
        powers = [math.exp(value / temperature) for value in row]
        for c, power in enumerate(powers):
            target = smoothing / len(row) + (1 - smoothing if c == label else 0)
            total -= target * math.log(power / sum(powers))
    return total / len(labels)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(11, 8, generator=generator), torch.randint(5, (11,), generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_equals_loops(batch, temperature, smoothing):
    embeddings, labels = batch
    loss = build(temperature=temperature, smoothing=smoothing)
    lin = loss.classifier.lin
    logits = embeddings.double() @ lin.weight.double().T + lin.bias.double()
    assert loss(embeddings, labels).item() == pytest.approx(
        naive(logits, labels, temperature, smoothing), rel=1e-5
    )
    assert loss.of_logits(logits, labels).item() == pytest.approx(
        naive(logits, labels, temperature, smoothing), rel=1e-9
    )


def test_with_a_neck_the_classifier_sees_a_batchnorm_without_bias(batch):
    embeddings, labels = batch
    loss = build(neck=True)
    norm = nn.BatchNorm1d(8)
    logits = norm(embeddings) @ loss.classifier.lin.weight.T
    torch.testing.assert_close(loss(embeddings, labels), loss.of_logits(logits, labels))
    assert loss.classifier.lin.bias is None
    assert [name for name, p in loss.named_parameters() if not p.requires_grad] == ["classifier.norm.bias"]


def test_other_logits_do_not_reach_the_classifier(batch):
    logits = torch.randn(11, 5, requires_grad=True)
    loss = build()
    loss.of_logits(logits, batch[1]).backward()
    assert logits.grad is not None
    assert loss.classifier.lin.weight.grad is None


def test_full_precision_under_autocast(batch):
    loss = build()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(*batch)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(*batch), rtol=0.05, atol=0.05)


def test_it_is_found_by_name_and_knows_its_sizes():
    loss = build_loss(
        "label_smoothed_cross_entropy", {"smoothing": 0.2}, geometry=Sphere(), num_classes=7, embedding_dim=6
    )
    assert loss.classifier.lin.weight.shape == (7, 6)
    assert set(loss_options("label_smoothed_cross_entropy")) == {"temperature", "smoothing", "neck"}


@pytest.mark.parametrize("options", [{"temperature": 0}, {"smoothing": 1.0}, {"smoothing": -0.1}], ids=str)
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        build(**options)
