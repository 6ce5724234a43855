import pytest
import torch

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.losses import PairwiseCrossEntropy
from pyg_bgformer.methods import DyBGR, Plain

LABELS = torch.arange(4).repeat_interleave(3)


def build(kind=DyBGR, **options):
    torch.manual_seed(0)
    return kind(build_encoder("conv4", embedding_dim=16), PairwiseCrossEntropy(), Sphere(), 4, **options)


@pytest.fixture
def images():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_both_terms_come_from_one_head_and_loss(images, alpha):
    terms = build(alpha=alpha, k=4)(images, LABELS)
    again = build(k=4)
    features = again.encoder.features(images)
    edges = batch_graph(features, LABELS).semantic_edge_index
    for name, x in {"plain": features, "refined": again.blocks(features, edges)}.items():
        z = torch.nn.functional.normalize(again.encoder.head(x), dim=1)
        torch.testing.assert_close(terms[name], again.loss(z, LABELS))
    torch.testing.assert_close(terms["loss"], alpha * terms["plain"] + (1 - alpha) * terms["refined"])


def test_the_encoder_starts_as_in_plain():
    plain, ours = build(Plain).encoder.state_dict(), build().encoder.state_dict()
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


def test_labels_enter_training(images):
    method = build(k=4)
    other = LABELS.flip(0).roll(1)
    assert not torch.equal(method(images, LABELS)["refined"], method(images, other)["refined"])


def test_insight_is_of_the_first_blocks_graph(images):
    method = build(k=3)
    features = method.encoder.features(images)
    _, insight = method.refine(features, LABELS)
    edges = batch_graph(features, LABELS).semantic_edge_index
    _, ((sender, receiver), weight) = method.blocks.layers[0](features, edges, return_attention_weights=True)
    same = LABELS[sender] == LABELS[receiver]
    assert insight["edge_homophily"].item() == pytest.approx(same.float().mean().item())
    share = (weight[same].sum() / weight.sum()).item()
    assert insight["same_class_attention"].item() == pytest.approx(share, rel=1e-5)
    assert not any(value.requires_grad for value in insight.values())


@pytest.mark.parametrize("labels", [torch.zeros(12, dtype=torch.long), torch.arange(12)], ids=["one", "all"])
def test_one_class_and_classes_of_one(images, labels):
    method = build(k=3)
    refined, insight = method.refine(method.encoder.features(images), labels)
    assert refined.isfinite().all()
    assert all(value == (len(labels.unique()) == 1) for value in insight.values())


@pytest.mark.parametrize("size", [1, 2])
def test_one_or_two_images(images, size):
    method = build()
    refined, insight = method.refine(method.encoder.features(images)[:size], LABELS[:size])
    assert refined.isfinite().all()
    assert all(value.isfinite() for value in insight.values())


def test_features_that_are_not_finite_are_refused(images):
    with pytest.raises(ValueError, match="12 of 12 rows"):
        build().refine(torch.full((12, 64), float("nan")), LABELS)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 1},
        {"num_layers": 3, "num_iterations": 1},
        {"beta": 0.0},
        {"lam": 0.0, "eps": 1.0},
        {"mlp_ratio": 1.0},
    ],
    ids=str,
)
def test_every_option_trains(images, options):
    method = build(**options)
    method(images, LABELS)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("alpha", 1.5),
        ("k", 0),
        ("num_layers", 0),
        ("eps", 1.5),
        ("beta", -1),
        ("lam", -1),
        ("num_iterations", 0),
    ],
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must"):
        build(**{option: value})
