import pytest
import torch
import torch.nn.functional as F

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import PoincareBall, Sphere
from pyg_bgformer.graph import intra_batch_graph
from pyg_bgformer.losses import LabelSmoothedCrossEntropyLoss, PairwiseCrossEntropyLoss
from pyg_bgformer.methods.intra_batch import IntraBatch

LABELS = torch.arange(4).repeat_interleave(3)
QUIET = {"attention_dropout": 0.0, "dropout": 0.0, "mlp_dropout": 0.0}


def build(loss=None, geometry=None, **options):
    torch.manual_seed(0)
    encoder = build_encoder("conv4", embedding_dim=16)
    loss = loss or LabelSmoothedCrossEntropyLoss(4, 16)
    return IntraBatch(encoder, loss, geometry or Sphere(), 4, **(QUIET | options))


def run(method, images):
    return method(method.encoder.features(images), LABELS)


@pytest.fixture
def images():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_loss_adds_the_networks_to_the_encoders(images, weight):
    terms = run(build(network_weight=weight), images)
    torch.testing.assert_close(terms["loss"], terms["plain"] + weight * terms["network"])


def test_the_classifier_sees_outputs_and_the_network_unit_vectors(images):
    terms = run(build(), images)
    again = build()  # BatchNorm has moved its statistics, but trains on the batch's
    outputs = again.encoder(images)
    torch.testing.assert_close(terms["plain"], again.loss(outputs, LABELS))
    logits = again.network(F.normalize(outputs, dim=1)).logits
    smoothed = F.cross_entropy(logits / 0.2, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(terms["network"], smoothed)


def test_both_terms_reach_the_encoder_and_labels_are_no_input(images):
    method = build()
    weight = method.encoder.backbone.net[0][0].weight
    for name in ("plain", "network"):
        grad = torch.autograd.grad(run(method, images)[name], weight)[0]
        assert grad.abs().max() > 0
    outputs = method.encoder(images)
    logits = method.network(F.normalize(outputs, dim=1)).logits
    assert logits.shape == (12, 4)


def test_weights_and_threshold_are_those_of_the_graph(images):
    method = build(weighted=True, similarity="cosine", threshold=0.1)
    network = run(method, images)["network"]
    again = build(weighted=True, similarity="cosine", threshold=0.1)
    embeddings = again.embed(images)
    edge_index, edge_weight = intra_batch_graph(embeddings, "cosine", 0.1)
    logits = again.network(embeddings, edge_index, edge_weight).logits
    torch.testing.assert_close(network, again.loss.of_logits(logits, LABELS))


def test_each_layers_attention_is_a_graph(images):
    method = build(num_layers=2, weighted=True, similarity="cosine", threshold=0.9).eval()
    features = method.encoder.features(images)
    found = method.edges(features, LABELS)
    assert list(found) == ["layers.0.attention", "layers.1.attention"]
    expected, _ = intra_batch_graph(method.geometry.project(method.encoder.head(features)), "cosine", 0.9)
    assert all(torch.equal(edge_index, expected) for edge_index, _ in found.values())


def test_the_encoder_is_embedded_alone(images):
    method = build().eval()
    torch.testing.assert_close(method.embed(images), F.normalize(method.encoder(images), dim=1))


def test_the_networks_parameters_are_a_group_with_its_own_rate():
    assert "lr" not in build().parameter_groups()[-1]
    group = build(network_lr=0.5).parameter_groups()[-1]
    assert (group["name"], group["lr"]) == ("network", 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"num_layers": 2, "cat": True},
        {"margin": False},
        {"weighted": True},
        {"threshold": 0.5},
        {"attention_dropout": 0.3, "dropout": 0.3, "mlp_dropout": 0.3},
    ],
    ids=str,
)
def test_every_option_trains(images, options):
    method = build(**options)
    terms = run(method, images)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)


@pytest.mark.parametrize("options", [{}, {"cat": True}, {"weighted": True, "threshold": 0.3}], ids=str)
def test_the_first_of_each_batch_is_refined(options):
    method = build(refinement="k_reciprocal", num_layers=2, dropout=0.5, **options).eval()
    assert method.test_refinement == (30, 7)
    batches = F.normalize(torch.randn(9, 7, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    refined = method.refine_batches(batches)
    for x, ours in zip(batches, refined, strict=True):
        graph = intra_batch_graph(x, threshold=0.3) if options.get("weighted") else (None, None)
        expected = method.network(x, *graph).hidden[-1][0]
        torch.testing.assert_close(ours, F.normalize(expected, dim=0), atol=1e-5, rtol=1e-5)


def test_nothing_is_refined_unless_asked_for():
    assert build().test_refinement is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"loss": PairwiseCrossEntropyLoss()},
            "label_smoothed_cross_entropy, found PairwiseCrossEntropyLoss",
        ),
        ({"geometry": PoincareBall(c=0.1, clip_radius=2.3)}, "geometry sphere"),
        ({"network_weight": -1.0}, "network_weight"),
        ({"heads": 3}, "3 heads"),
        ({"refinement": "best"}, "'best'"),
        ({"refinement_k": 5}, "refinement_batch"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
