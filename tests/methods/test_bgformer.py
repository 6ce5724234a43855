import pytest
import torch

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.losses import PairwiseCrossEntropy
from pyg_bgformer.methods import BGFormer, Plain

LABELS = torch.arange(4).repeat_interleave(3)


def build(kind=BGFormer, **options):
    torch.manual_seed(0)
    return kind(build_encoder("conv4", embedding_dim=16), PairwiseCrossEntropy(), Sphere(), 4, **options)


@pytest.fixture
def images():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_loss_weighs_plain_and_refined_features(images, alpha):
    terms = build(alpha=alpha)(images, LABELS)
    torch.testing.assert_close(terms["loss"], alpha * terms["plain"] + (1 - alpha) * terms["refined"])


def test_both_terms_come_from_one_head_and_the_graph_of_the_features(images):
    method = build(k=4)
    terms = method(images, LABELS)
    again = build(k=4)  # BatchNorm has moved its statistics, but trains on the batch's
    features = again.encoder.features(images)
    graph = batch_graph(features, LABELS, k=4)
    refined = again.blocks(features, graph.visual_edge_index, graph.semantic_edge_index)
    for name, x in (("plain", features), ("refined", refined)):
        z = torch.nn.functional.normalize(again.encoder.head(x), dim=1)
        torch.testing.assert_close(terms[name], again.loss(z, LABELS))


def test_with_all_weight_on_plain_features_the_encoder_learns_as_in_plain(images):
    gradients = []
    for method in (build(Plain), build(alpha=1.0)):
        method(images, LABELS)["loss"].backward()
        gradients.append(method.encoder.backbone.net[0][0].weight.grad)
    torch.testing.assert_close(*gradients)


def test_the_encoder_starts_as_in_plain():
    plain, bgformer = build(Plain).encoder.state_dict(), build().encoder.state_dict()
    assert all(torch.equal(plain[name], bgformer[name]) for name in plain)


def test_labels_enter_training_only(images):
    method = build()
    other = LABELS.flip(0).roll(1)
    assert not torch.equal(method(images, LABELS)["refined"], method(images, other)["refined"])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"k": 4}, ["same_class_attention", "edge_homophily"]),
        ({"k": 4, "neighbours": "scores"}, ["same_class_attention", "edge_homophily"]),
        ({"k": 4, "visual": "affinity"}, ["same_class_attention", "edge_homophily"]),
        ({"branches": "full"}, ["same_class_attention"]),
        ({"branches": "semantic"}, []),
    ],
    ids=str,
)
def test_insight_is_of_the_visual_branch(images, options, names):
    method = build(**options)
    features = method.encoder.features(images)
    _, insight = method.refine(features, LABELS)
    assert list(insight) == names
    assert all(0 < value < 1 and not value.requires_grad for value in insight.values())
    for labels, expected in ((torch.zeros_like(LABELS), 1), (torch.arange(12), 0)):
        assert all(value == expected for value in method.refine(features, labels)[1].values())


def test_insight_is_the_share_of_one_class(images):
    method = build(k=4)
    features = method.encoder.features(images)
    _, insight = method.refine(features, LABELS)
    sender, receiver = batch_graph(features, k=4).visual_edge_index
    others, same = sender != receiver, (sender != receiver) & (LABELS[sender] == LABELS[receiver])
    assert insight["edge_homophily"].item() == pytest.approx((same.sum() / others.sum()).item())
    graph = batch_graph(features, LABELS, k=4)
    edges = (graph.visual_edge_index, graph.semantic_edge_index)
    _, weighted = method.blocks.layers[0](features, *edges, return_attention_weights=True)
    alpha = weighted["visual"][1]
    share = alpha[same].sum() / alpha[others].sum()
    assert insight["same_class_attention"].item() == pytest.approx(share.item(), rel=1e-5)


@pytest.mark.parametrize("size", [1, 2])
def test_insight_of_small_batches_is_finite(images, size):
    method = build()
    insight = method.refine(method.encoder.features(images)[:size], torch.arange(size))[1]
    assert insight == {"same_class_attention": 0, "edge_homophily": 0}


@pytest.mark.parametrize(
    "options",
    [
        {"neighbours": "scores", "k": 3},
        {"visual": "affinity"},
        {"semantic": "attention"},
        {"norm": "layer"},
        {"learn_lam": True},
        {"branches": "full"},
        {"branches": "visual", "neighbours": "scores"},
        {"branches": "semantic"},
        {"num_layers": 3, "dropout": 0.1, "drop_path": 0.1},
    ],
    ids=str,
)
def test_every_option_trains(images, options):
    method = build(**options)
    method(images, LABELS)["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters())


@pytest.mark.parametrize(
    ("option", "value"), [("alpha", 1.5), ("alpha", -0.1), ("k", 0), ("num_layers", 0), ("lam", 2)]
)
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must"):
        build(**{option: value})
