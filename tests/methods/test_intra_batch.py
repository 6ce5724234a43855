from importlib import import_module

import pytest
import torch
import torch.nn.functional as F

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.evaluation import k_reciprocal_batches
from pyg_bgformer.geometry import PoincareBall, Sphere
from pyg_bgformer.losses import LabelSmoothedCrossEntropy, PairwiseCrossEntropy
from pyg_bgformer.methods.intra_batch import IntraBatch
from pyg_bgformer.nn import intra_batch_graph

file = import_module("pyg_bgformer.methods.intra_batch")
LABELS = torch.arange(4).repeat_interleave(3)
QUIET = {"attention_dropout": 0.0, "dropout": 0.0, "mlp_dropout": 0.0}


def build(loss=None, geometry=None, **options):
    torch.manual_seed(0)
    encoder = build_encoder("conv4", embedding_dim=16)
    loss = loss or LabelSmoothedCrossEntropy(4, 16)
    return IntraBatch(encoder, loss, geometry or Sphere(), 4, **(QUIET | options))


@pytest.fixture
def images():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_the_loss_adds_the_networks_to_the_encoders(images, weight):
    terms = build(network_weight=weight)(images, LABELS)
    torch.testing.assert_close(terms["loss"], terms["plain"] + weight * terms["network"])


def test_the_classifier_sees_outputs_and_the_network_unit_vectors(images):
    terms = build()(images, LABELS)
    again = build()  # BatchNorm has moved its statistics, but trains on the batch's
    outputs = again.encoder(images)
    torch.testing.assert_close(terms["plain"], again.loss(outputs, LABELS))
    logits = again.network(F.normalize(outputs, dim=1)).logits[0]
    smoothed = F.cross_entropy(logits / 0.2, LABELS, label_smoothing=0.1)
    torch.testing.assert_close(terms["network"], smoothed)


def test_both_terms_reach_the_encoder_and_labels_are_no_input(images):
    method = build()
    weight = method.encoder.backbone.net[0][0].weight
    for name in ("plain", "network"):
        grad = torch.autograd.grad(method(images, LABELS)[name], weight)[0]
        assert grad.abs().max() > 0
    outputs = method.encoder(images)
    logits = method.network(F.normalize(outputs, dim=1)).logits[0]
    assert logits.shape == (12, 4)


def test_with_every_the_layers_losses_add_up(images):
    method = build(every=True, num_layers=3)
    terms = method(images, LABELS)
    again = build(every=True, num_layers=3)
    logits = again.network(again.embed(images)).logits
    assert len(logits) == 3
    torch.testing.assert_close(terms["network"], sum(again.loss.of_logits(z, LABELS) for z in logits))


def test_weights_and_threshold_are_those_of_the_graph(images):
    method = build(weighted=True, similarity="cosine", threshold=0.1)
    network = method(images, LABELS)["network"]
    again = build(weighted=True, similarity="cosine", threshold=0.1)
    embeddings = again.embed(images)
    edge_index, edge_weight = intra_batch_graph(embeddings, "cosine", 0.1)
    logits = again.network(embeddings, edge_index, edge_weight).logits[0]
    torch.testing.assert_close(network, again.loss.of_logits(logits, LABELS))


def test_the_share_of_attention_within_a_class(images):
    method = build(heads=4)
    share = method(images, LABELS)["same_class_attention"]
    again = build(heads=4)
    _, edges = again.network(again.embed(images), return_attention_weights=True)
    pairs, alpha = edges["layers.0.attention"]
    same = total = 0.0
    for (i, j), weight in zip(pairs.t().tolist(), alpha.sum(dim=1).tolist(), strict=True):
        total += weight * (i != j)
        same += weight * bool(i != j and LABELS[i] == LABELS[j])
    assert share.item() == pytest.approx(same / total, rel=1e-5)
    assert not share.requires_grad


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
        {"neck": False, "reduction": 2},
        {"aggr": "max", "margin": False},
        {"weighted": True, "aggr": "mean"},
        {"threshold": 0.5},
        {"attention_dropout": 0.3, "dropout": 0.3, "mlp_dropout": 0.3},
    ],
    ids=str,
)
def test_every_option_trains(images, options):
    method = build(**options)
    terms = method(images, LABELS)
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in method.parameters() if p.requires_grad)
    assert 0 <= terms["same_class_attention"] <= 1


@pytest.mark.parametrize("options", [{}, {"cat": True}, {"weighted": True, "threshold": 0.3}], ids=str)
def test_refined_features_are_of_the_first_of_each_batch(monkeypatch, options):
    monkeypatch.setattr(file, "REFINED_AT_A_TIME", 9)
    method = build(refinement="k_reciprocal", num_layers=2, dropout=0.5, **options)
    x = F.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    refined = method.refine_described({"embedding": x, "backbone": x})["refined"].embeddings
    assert method.network.training
    method.eval()
    for i, batch in enumerate(k_reciprocal_batches(x, 30, 7)):
        graph = (None, None)
        if options.get("weighted"):
            graph = intra_batch_graph(x[batch], threshold=0.3)
        expected = method.network.layer_outputs(x[batch], *graph)[-1][0]
        torch.testing.assert_close(refined[i], F.normalize(expected, dim=0), atol=1e-5, rtol=1e-5)


def test_with_a_gallery_queries_alone_are_refined_by_its_items(monkeypatch):
    monkeypatch.setattr(file, "REFINED_AT_A_TIME", 4)
    method = build(refinement="k_reciprocal").eval()
    x = F.normalize(torch.randn(72, 16, generator=torch.Generator().manual_seed(0)), dim=1)
    queries, items = x[:34], x[34:]
    refined, gallery = method.refine_described({"embedding": queries}, {"embedding": items})["refined"]
    assert torch.equal(gallery, items)
    for i, members in enumerate(k_reciprocal_batches(queries, 30, 7, gallery=items)):
        batch = torch.cat([queries[i : i + 1], items[members]])
        expected = method.network.layer_outputs(batch)[-1][0]
        torch.testing.assert_close(refined[i], F.normalize(expected, dim=0), atol=1e-5, rtol=1e-5)


def test_nothing_is_refined_unless_asked_for(images):
    method = build().eval()
    assert method.refine_described(method.describe(images)) == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss": PairwiseCrossEntropy()}, "label_smoothed_cross_entropy, found PairwiseCrossEntropy"),
        ({"geometry": PoincareBall(0.1, 2.3)}, "geometry sphere"),
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
