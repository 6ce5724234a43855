"""What holds for every method."""

import pytest
import torch

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.optim import build_optimizer
from pyg_bgformer.engine.setup import build_method
from pyg_bgformer.errors import InputError
from pyg_bgformer.evaluation import batch_dependence
from pyg_bgformer.methods import GCAHNG, METHODS, Plain

LABELS = torch.arange(4).repeat_interleave(3)
NEEDED = {
    "intra_batch": [
        *("--loss.name", "label_smoothed_cross_entropy"),
        *("--method.attention_dropout", "0", "--method.dropout", "0", "--method.mlp_dropout", "0"),
    ],
    "gca_hng": ["--loss.name", "n_pair", "--method.heads", "2"],
}
"""What a method's recipe must say; and no dropout, so that a loss can be compared with another."""
ON_THE_SPHERE = ("intra_batch", "gca_hng")


@pytest.fixture(params=["sphere", "poincare"])
def geometry(request):
    return request.param


@pytest.fixture(params=METHODS)
def method(request, geometry):
    torch.manual_seed(0)
    if request.param in ON_THE_SPHERE and geometry != "sphere":
        pytest.skip(f"{request.param} embeds on the sphere")
    arguments = ["--method.name", request.param, "--encoder.embedding_dim", "16", "--geometry.name", geometry]
    return build_method(read_config([*arguments, *NEEDED.get(request.param, [])]), num_classes=4)


@pytest.fixture
def images():
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_one_of_finite_terms_and_reaches_every_parameter(method, images):
    for update in method.updates(method.encoder.features(images), LABELS):
        assert all(value.isfinite() and value.dim() == 0 for value in update.terms.values())
        update.loss.backward()
    without = [name for name, p in method.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []


def test_the_groups_hold_every_parameter_once(method):
    held = [id(p) for group in method.parameter_groups() for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in method.parameters())


def test_an_embedding_does_not_depend_on_its_batch(method, images):
    method.eval()
    with torch.no_grad():
        assert batch_dependence(method.embed, images) < 1e-5


def test_embeddings_lie_in_the_space(method, geometry, images):
    method.eval()
    norms = method.embed(images).norm(dim=1)
    if geometry == "sphere":
        torch.testing.assert_close(norms, torch.ones(12))
    else:
        assert (norms < 0.1**-0.5).all()


def test_the_extracted_embedding_is_the_embedding(method, images):
    method.eval()
    extracted = method.extract(images)
    torch.testing.assert_close(extracted["embedding"], method.embed(images))
    torch.testing.assert_close(extracted["backbone"].norm(dim=1), torch.ones(12))
    assert extracted["backbone"].shape == (12, method.encoder.feature_dim)


def without_dropout(method):
    for module in method.modules():
        for name in ("p", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)
    return method


def test_permuting_classes_and_slots_leaves_the_loss(method, images):
    if isinstance(method, GCAHNG):
        pytest.skip("the first sample of a class is its anchor: see test_gca_hng.py for what holds")
    method = without_dropout(method)
    # The pairwise loss draws its negatives from the anchor's slot: slots are permuted alike in all classes.
    order = torch.arange(12).view(4, 3)[[2, 0, 3, 1]][:, [1, 2, 0]].flatten()
    features = method.encoder.features(images)
    expected, permuted = method(features, LABELS), method(features[order], LABELS[order])
    for name, value in expected.items():
        torch.testing.assert_close(permuted[name], value, rtol=1e-4, atol=1e-4)


def test_a_few_steps_on_one_batch_lower_the_loss(method, images):
    config = read_config(["--train.lr", "0.003"])
    optimizer = build_optimizer(method, config.train)
    losses = []
    for _ in range(12):
        loss = method(method.encoder.features(images), LABELS)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def test_an_unknown_method_is_named_with_its_nearest():
    with pytest.raises(InputError, match=r"'bgforme'; did you mean 'bgformer'\?"):
        METHODS.find("bgforme")


def test_edges_join_samples_of_the_batch_by_weights_that_are_not_negative(method, images):
    with torch.no_grad():
        found = method.eval().edges(method.encoder.features(images), LABELS)
    assert isinstance(method, Plain) == (not found)
    for edge_index, weight in found.values():
        assert edge_index.shape == (2, len(weight))
        assert 0 <= edge_index.min() <= edge_index.max() < 12
        assert (weight >= 0).all()
        assert weight.isfinite().all()
