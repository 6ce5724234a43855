import pytest
import torch

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.losses import PairwiseCrossEntropyLoss
from pyg_bgformer.methods import BGFormer, Plain

LABELS = torch.arange(4).repeat_interleave(3)


def build(kind=BGFormer, **options):
    torch.manual_seed(0)
    return kind(build_encoder("conv4", embedding_dim=16), PairwiseCrossEntropyLoss(), Sphere(), 4, **options)


@pytest.fixture
def features():
    return torch.randn(12, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.3])
def test_both_terms_come_from_one_head_and_the_graph_of_the_features(features, alpha):
    method = build(k=4, alpha=alpha)
    terms = method(features, LABELS)
    graph = batch_graph(features, LABELS, k=4)
    refined = method.blocks(features, graph.visual_edge_index, graph.semantic_edge_index)
    for name, x in (("plain", features), ("refined", refined)):
        z = torch.nn.functional.normalize(method.encoder.head(x), dim=1)
        torch.testing.assert_close(terms[name], method.loss(z, LABELS))
    torch.testing.assert_close(terms["loss"], alpha * terms["plain"] + (1 - alpha) * terms["refined"])


def test_with_all_weight_on_plain_features_the_encoder_learns_as_in_plain():
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    gradients = []
    for method in (build(Plain), build(alpha=1.0)):
        method(method.encoder.features(images), LABELS)["loss"].backward()
        gradients.append(method.encoder.backbone.net[0][0].weight.grad)
    torch.testing.assert_close(*gradients)


def test_the_encoder_starts_as_in_plain():
    plain, bgformer = build(Plain).encoder.state_dict(), build().encoder.state_dict()
    assert all(torch.equal(plain[name], bgformer[name]) for name in plain)


def test_labels_enter_training_only(features):
    method = build()
    other = LABELS.flip(0).roll(1)
    assert not torch.equal(method(features, LABELS)["refined"], method(features, other)["refined"])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["visual", "semantic"]),
        ({"neighbours": "scores"}, ["visual", "semantic"]),
        ({"branches": "full"}, ["visual"]),
        ({"branches": "semantic"}, ["semantic"]),
    ],
    ids=str,
)
def test_each_branch_of_each_block_is_a_graph(features, options, names):
    found = build(k=4, num_layers=2, **options).eval().edges(features, LABELS)
    assert list(found) == [f"layers.{i}.{name}" for i in (0, 1) for name in names]
    if "layers.1.semantic" in found:
        source, target = found["layers.1.semantic"][0]
        assert torch.equal(LABELS[source], LABELS[target])


@pytest.mark.parametrize(
    "options",
    [
        {"neighbours": "scores", "k": 3},
        {"visual": "affinity"},
        {"semantic": "attention"},
        {"norm": "layer"},
        {"learn_lam": True},
        {"branches": "full"},
        {"branches": "semantic"},
        {"num_layers": 3, "dropout": 0.1},
    ],
    ids=str,
)
def test_every_option_trains(features, options):
    method = build(**options)
    method(features, LABELS)["loss"].backward()
    own = [*method.blocks.parameters(), *method.encoder.head.parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own)


@pytest.mark.parametrize(("option", "value"), [("alpha", -0.1), ("k", 0), ("num_layers", 0), ("lam", 2)])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must"):
        build(**{option: value})
