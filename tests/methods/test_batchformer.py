import pytest
import torch

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.losses import PairwiseCrossEntropy
from pyg_bgformer.methods import BatchFormer, Plain

LABELS = torch.arange(4).repeat_interleave(3)


def build(kind=BatchFormer, **options):
    torch.manual_seed(0)
    return kind(build_encoder("conv4", embedding_dim=16), PairwiseCrossEntropy(), Sphere(), 4, **options)


@pytest.fixture
def images():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_both_terms_come_from_one_head_and_loss(images, alpha):
    terms = build(alpha=alpha, dropout=0.0)(images, LABELS)
    again = build(dropout=0.0)
    features = again.encoder.features(images)
    expected = {"plain": features, "refined": again.blocks(features)}
    for name, x in expected.items():
        z = torch.nn.functional.normalize(again.encoder.head(x), dim=1)
        torch.testing.assert_close(terms[name], again.loss(z, LABELS))
    torch.testing.assert_close(terms["loss"], alpha * terms["plain"] + (1 - alpha) * terms["refined"])


def test_labels_do_not_enter_the_block(images):
    method = build(dropout=0.0)
    features = method.encoder.features(images)
    refined, _ = method.refine(features, LABELS)
    assert torch.equal(method.refine(features, LABELS.flip(0).roll(1))[0], refined)


def test_the_encoder_starts_as_in_plain():
    plain, ours = build(Plain).encoder.state_dict(), build().encoder.state_dict()
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


def test_attention_on_the_same_class_is_that_of_the_block(images):
    method = build()
    features = method.encoder.features(images)
    share = method(images, LABELS)["same_class_attention"]
    (sender, receiver), alpha = build().blocks(features, return_attention_weights=True)[1]["block.self_attn"]
    mass = alpha.sum(dim=1) * (sender != receiver)
    same = mass[LABELS[sender] == LABELS[receiver]].sum()
    assert share.item() == pytest.approx((same / mass.sum()).item(), rel=1e-5)
    assert not share.requires_grad


@pytest.mark.parametrize(
    ("labels", "expected"), [(torch.zeros(12, dtype=torch.long), 1), (torch.arange(12), 0)]
)
def test_attention_with_one_class_or_classes_of_one(images, labels, expected):
    method = build()
    assert method.refine(method.encoder.features(images), labels)[1]["same_class_attention"] == expected


def test_a_single_image_has_no_others_to_attend_to(images):
    method = build(dropout=0.0)
    features = method.encoder.features(images)[:1]
    refined, insight = method.refine(features, LABELS[:1])
    assert refined.isfinite().all()
    assert insight == {"same_class_attention": 0}


@pytest.mark.parametrize(
    "options", [{"norm": "pre"}, {"heads": 8, "dropout": 0.1}, {"block_lr": 0.01}], ids=str
)
def test_every_option_trains(images, options):
    method = build(**options)
    method(images, LABELS)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize(("option", "value"), [("alpha", 1.5), ("heads", 5), ("dropout", 1.0), ("norm", "x")])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must"):
        build(**{option: value})
