import pytest
import torch

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.graph import batch_graph
from pyg_bgformer.losses import PairwiseCrossEntropyLoss
from pyg_bgformer.methods import DyBGR, Plain

LABELS = torch.arange(4).repeat_interleave(3)


def build(kind=DyBGR, **options):
    torch.manual_seed(0)
    return kind(build_encoder("conv4", embedding_dim=16), PairwiseCrossEntropyLoss(), Sphere(), 4, **options)


@pytest.fixture
def features():
    return torch.randn(12, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_both_terms_come_from_one_head_and_loss(features, alpha):
    method = build(alpha=alpha, k=4)
    terms = method(features, LABELS)
    edges = batch_graph(features, LABELS).semantic_edge_index
    for name, x in {"plain": features, "refined": method.blocks(features, edges)}.items():
        z = torch.nn.functional.normalize(method.encoder.head(x), dim=1)
        torch.testing.assert_close(terms[name], method.loss(z, LABELS))
    torch.testing.assert_close(terms["loss"], alpha * terms["plain"] + (1 - alpha) * terms["refined"])


def test_the_encoder_starts_as_in_plain():
    plain, ours = build(Plain).encoder.state_dict(), build().encoder.state_dict()
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


def test_labels_enter_training(features):
    method = build(k=4)
    other = LABELS.flip(0).roll(1)
    assert not torch.equal(method(features, LABELS)["refined"], method(features, other)["refined"])


def test_each_block_chooses_a_graph(features):
    found = build(k=3).edges(features, LABELS)
    assert list(found) == ["layers.0.propagation", "layers.1.propagation"]
    for (_, target), _ in found.values():
        assert target.bincount().tolist() == [3] * 12


@pytest.mark.parametrize(
    "labels",
    [torch.zeros(12, dtype=torch.long), torch.arange(12), torch.arange(2), torch.arange(1)],
    ids=["one class", "classes of one", "two images", "one image"],
)
def test_small_batches_and_classes_are_finite(features, labels):
    method = build()
    features = features[: len(labels)]
    assert method.refine(features, labels).isfinite().all()
    assert all(weight.isfinite().all() for _, weight in method.edges(features, labels).values())


def test_features_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="12 of 12 rows"):
        build().refine(torch.full((12, 64), float("nan")), LABELS)


@pytest.mark.parametrize(
    "options",
    [
        {"k": 1},
        {"num_layers": 3, "num_iterations": 1},
        {"beta": 0.0},
        {"lam": 0.0, "eps": 1.0},
    ],
    ids=str,
)
def test_every_option_trains(features, options):
    method = build(**options)
    method(features, LABELS)["loss"].backward()
    own = [*method.blocks.parameters(), *method.encoder.head.parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own)


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
