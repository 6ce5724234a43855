"""The adapter against pytorch-metric-learning used directly."""

from typing import Any

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from pytorch_metric_learning.utils import common_functions
from torch import Tensor, nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import PoincareBall, Sphere
from pyg_bgformer.losses import build_loss, loss_options
from pyg_bgformer.losses.metric_learning import metric_learning_names
from pyg_bgformer.registry import REQUIRED, Option

CLASSES, DIM = 5, 8
NEEDED: dict[str, dict[str, Any]] = {
    "ranked_list": {"margin": 0.4, "Tn": 4.0},
    "cross_batch_memory": {"loss": {"name": "contrastive", "neg_margin": 0.5}, "memory_size": 40},
}


def batch(p: int = 4, k: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(p * 10 + k)
    return torch.randn(p * k, DIM, generator=generator), torch.arange(p).repeat_interleave(k)


def build(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_loss(name, options, geometry=Sphere(), num_classes=CLASSES, embedding_dim=DIM)


def triplets(embeddings: Tensor, labels: Tensor) -> Tensor:
    found = miners.TripletMarginMiner(margin=0.1, type_of_triplets="semihard")(embeddings, labels)
    distance, reducer = distances.LpDistance(p=1), reducers.MeanReducer()
    return losses.TripletMarginLoss(margin=0.3, distance=distance, reducer=reducer)(embeddings, labels, found)


SEMIHARD = {"name": "triplet_margin", "margin": 0.1, "type_of_triplets": "semihard"}
ONE_NORM = {"name": "lp_distance", "p": 1}


@pytest.mark.parametrize(
    ("name", "options", "direct"),
    [
        ("contrastive", {"neg_margin": 0.5}, lambda: losses.ContrastiveLoss(neg_margin=0.5)),
        (
            "triplet",
            {"margin": 0.3, "miner": SEMIHARD, "distance": ONE_NORM, "reducer": "mean"},
            lambda: triplets,
        ),
        ("proxy_anchor", {"alpha": 16}, lambda: losses.ProxyAnchorLoss(CLASSES, DIM, alpha=16)),
        ("soft_triple", {"centers_per_class": 3}, lambda: losses.SoftTripleLoss(CLASSES, DIM, 3)),
        ("normalised_softmax", {}, lambda: losses.NormalizedSoftmaxLoss(CLASSES, DIM)),
    ],
)
def test_value_and_gradient_are_the_librarys(name: str, options: dict[str, Any], direct: Any) -> None:
    embeddings, labels = batch()
    mine, theirs = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    adapter = build(name, **options)
    torch.manual_seed(0)
    expected = direct()(theirs, labels)
    value = adapter(mine, labels)
    value.backward()
    expected.backward()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert mine.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in adapter.parameters())


def test_proxy_nca_pp_is_the_papers_loss() -> None:
    """Cross-entropy over minus nine times the squared distances between unit vectors."""
    embeddings, labels = batch()
    adapter = build("proxy_nca_pp")
    (proxies,) = adapter.parameters()
    unit, centres = nn.functional.normalize(embeddings), nn.functional.normalize(proxies)
    expected = 0.0
    for row, label in zip(unit, labels.tolist(), strict=True):
        scores = [-9 * (row - centre).square().sum() for centre in centres]
        expected += -torch.log_softmax(torch.stack(scores), 0)[label] / len(unit)
    torch.testing.assert_close(adapter(embeddings, labels), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", metric_learning_names())
def test_every_loss_takes_its_options_and_trains_for_three_steps(name: str) -> None:
    """Three, because state that one step leaves to the next must not hold on to its graph."""
    defaults = {key: option.default for key, option in loss_options(name).items()}
    given = {key: value for key, value in defaults.items() if value is not None and value is not REQUIRED}
    adapter = build(name, **given | NEEDED.get(name, {}))
    embeddings, labels = batch()
    for step in range(3):
        inputs = (embeddings + 0.1 * step).requires_grad_()
        value = adapter(inputs, labels)
        value.backward()
        assert value.shape == ()
        assert torch.isfinite(value)
        assert torch.isfinite(inputs.grad).all()
        assert inputs.grad.abs().sum() > 0


def test_all_usable_losses_of_the_library_have_a_name() -> None:
    unusable = {"GenericPairLoss", "ManifoldLoss", "MultipleLosses", "SelfSupervisedLoss", "VICRegLoss"}
    classes = {name for name in vars(losses) if name.endswith("Loss")} - unusable
    assert len(metric_learning_names()) == len(classes | {"CrossBatchMemory"})


def test_spellings_of_one_name() -> None:
    for name, same in (("arcface", "ArcFaceLoss"), ("nt_xent", "NTXentLoss"), ("supcon", "sup_con")):
        assert loss_options(name) == loss_options(same)


def test_options_keep_their_type() -> None:
    options = loss_options("sub_center_arcface")
    assert options["sub_centers"] == Option(int | float, 3)
    assert options["margin"] == Option(int | float, 28.6)
    assert options["distance"] == Option(str | dict[str, Any] | None, None)
    assert options["miner"] == Option(str | dict[str, Any] | None, None)
    assert "num_classes" not in options
    assert loss_options("triplet")["swap"] == Option(bool, False)
    assert loss_options("triplet")["triplets_per_anchor"] == Option(int | float | str, "all")
    assert loss_options("cross_batch_memory")["loss"] == Option(str | dict[str, Any], REQUIRED)
    assert loss_options("proxy_nca_pp")["softmax_scale"].default == 9


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ms", {}, "unknown loss 'ms'; "),
        ("pairwise_entropy", {}, "unknown loss 'pairwise_entropy'; did you mean 'pairwise_cross_entropy'?"),
        ("vicreg", {}, "'vicreg' cannot be trained on embeddings and labels only: it takes two views"),
        ("triplet", {"margn": 0.1}, "loss 'triplet' has no option 'margn': did you mean 'margin'?"),
        ("triplet", {"margin": "big"}, "option 'margin' must be a number, found 'big'"),
        ("triplet", {"swap": 1}, "option 'swap' must be true or false, found 1"),
        ("ranked_list", {}, "loss 'ranked_list' needs margin, Tn"),
        ("pnp", {"variant": "Z"}, "loss 'pnp' does not accept its options: variant=Z but must be one of"),
        ("triplet", {"miner": "batch_hrd"}, "unknown miner 'batch_hrd'; did you mean 'batch_hard'?"),
        (
            "triplet",
            {"miner": {"name": "batch_hard", "x": 1}},
            "miner 'batch_hard' of loss 'triplet' has no option 'x'",
        ),
        ("triplet", {"distance": "cosine_similarty"}, "did you mean 'cosine_similarity'?"),
        ("triplet", {"distance": {"p": 1}}, "must be a name, or a mapping with a name"),
        ("arcface", {"distance": "lp_distance"}, "requires the distance metric to be CosineSimilarity"),
        ("cross_batch_memory", {"loss": "arcface"}, "needs num_classes, embedding_size"),
    ],
)
def test_wrong_options_are_one_clear_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        build(name, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_library_knows_the_sphere_only() -> None:
    with pytest.raises(InputError, match="on the sphere"):
        build_loss("triplet", {}, geometry=PoincareBall(), num_classes=CLASSES, embedding_dim=DIM)


def test_float32_under_autocast() -> None:
    embeddings, labels = batch()
    adapter = build("proxy_anchor")
    half = embeddings.bfloat16()
    expected = adapter(half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = adapter(half, labels)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_cross_batch_memory_resumes_at_its_position() -> None:
    first, second = batch(4, 4), batch(4, 4)
    straight, stopped, resumed = (
        build("cross_batch_memory", **NEEDED["cross_batch_memory"]) for _ in range(3)
    )
    for embeddings, labels in (first, second, first):  # 48 embeddings fill the 40 places
        expected = straight(embeddings, labels)
    for embeddings, labels in (first, second):
        stopped(embeddings, labels)
    resumed.load_state_dict(stopped.state_dict())
    assert torch.equal(resumed(*first), expected)


def test_margin_loss_has_a_beta_a_class_when_learned() -> None:
    assert [p.numel() for p in build("margin", learn_beta=True).parameters()] == [CLASSES]
    assert list(build("margin").parameters()) == []


def test_smooth_ap_refuses_batches_it_would_mistake() -> None:
    adapter = build("smooth_ap")
    with pytest.raises(
        InputError, match="SmoothAPLoss cannot use the batch: it needs as many images of each class"
    ):
        adapter(*batch(4, 2))
    embeddings, labels = batch(4, 4)
    with pytest.raises(InputError, match="class after class"):
        adapter(embeddings, labels.view(4, 4).T.reshape(-1))


def test_a_batch_without_pairs_has_loss_zero_with_a_gradient() -> None:
    embeddings = torch.randn(3, DIM, requires_grad=True)
    value = build("triplet")(embeddings, torch.zeros(3, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert embeddings.grad is not None


def test_global_state_of_the_library_is_left_alone() -> None:
    before = {key: value for key, value in vars(common_functions).items() if key.isupper()}
    build("multi_similarity", miner="multi_similarity")(*batch())
    assert {key: value for key, value in vars(common_functions).items() if key.isupper()} == before
