"""The adapter against the library used directly."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from pytorch_metric_learning import distances, losses, miners, reducers
from torch import Tensor, nn

from pyg_bgformer.errors import InputError
from pyg_bgformer.losses.library import REQUIRED
from pyg_bgformer.losses.metric_learning import loss_names, loss_options, metric_learning_loss

CLASSES, DIM = 5, 8
NEEDED: dict[str, dict[str, Any]] = {
    "ranked_list": {"margin": 0.4, "Tn": 4.0},
    "cross_batch_memory": {"loss": "contrastive", "memory_size": 40},
}


def batch(p: int = 4, k: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(p * 10 + k)
    return torch.randn(p * k, DIM, generator=generator), torch.arange(p).repeat_interleave(k)


def build(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    return metric_learning_loss(name, num_classes=CLASSES, embedding_dim=DIM, **options)


def triplets(embeddings: Tensor, labels: Tensor) -> Tensor:
    found = miners.TripletMarginMiner(margin=0.1, type_of_triplets="semihard")(embeddings, labels)
    return losses.TripletMarginLoss(margin=0.3)(embeddings, labels, found)


DIRECT: list[tuple[str, dict[str, Any], Callable[[], Any]]] = [
    ("contrastive", {"neg_margin": 0.5}, lambda: losses.ContrastiveLoss(neg_margin=0.5)),
    (
        "triplet",
        {
            "margin": 0.3,
            "miner": "triplet_margin",
            "miner_options": {"margin": 0.1, "type_of_triplets": "semihard"},
        },
        lambda: triplets,
    ),
    ("multi_similarity", {"base": 0.4}, lambda: losses.MultiSimilarityLoss(base=0.4)),
    ("proxy_anchor", {"alpha": 16}, lambda: losses.ProxyAnchorLoss(CLASSES, DIM, alpha=16)),
    ("proxy_nca_pp", {}, lambda: losses.ProxyNCALoss(CLASSES, DIM, softmax_scale=9)),
    ("normalised_softmax", {}, lambda: losses.NormalizedSoftmaxLoss(CLASSES, DIM)),
    (
        "soft_triple",
        {"centers_per_class": 3},
        lambda: losses.SoftTripleLoss(CLASSES, DIM, centers_per_class=3),
    ),
]


@pytest.mark.parametrize(("name", "options", "direct"), DIRECT, ids=[case[0] for case in DIRECT])
def test_value_and_gradient_are_the_librarys(name: str, options: dict[str, Any], direct: Any) -> None:
    embeddings, labels = batch()
    mine, theirs = embeddings.clone().requires_grad_(), embeddings.clone().requires_grad_()
    adapter = build(name, **options)
    torch.manual_seed(0)
    expected = direct()(theirs, labels)
    value = adapter(mine, labels)
    value.backward()
    expected.backward()
    assert value.shape == ()
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(mine.grad, theirs.grad)
    assert mine.grad is not None
    assert mine.grad.abs().sum() > 0
    for parameter in adapter.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("name", ["proxy_anchor", "proxy_nca_pp", "normalised_softmax", "soft_triple"])
def test_proxies_are_parameters(name: str) -> None:
    assert sum(p.numel() for p in build(name).parameters()) >= CLASSES * DIM


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


@pytest.mark.parametrize("name", loss_names())
def test_every_loss_trains_for_three_steps(name: str) -> None:
    """Three, because state that one step leaves to the next must not hold on to its graph."""
    adapter = build(name, **NEEDED.get(name, {}))
    embeddings, labels = batch()
    for step in range(3):
        inputs = (embeddings + 0.1 * step).requires_grad_()
        value = adapter(inputs, labels)
        value.backward()
        assert value.shape == ()
        assert torch.isfinite(value)
        assert inputs.grad is not None
        assert torch.isfinite(inputs.grad).all()
        assert inputs.grad.abs().sum() > 0
        inputs = inputs.detach()


@pytest.mark.parametrize("name", loss_names())
def test_every_listed_option_is_taken(name: str) -> None:
    options = {key: value for key, value in loss_options(name).items() if value is not REQUIRED}
    build(name, **{key: value for key, value in options.items() if value is not None} | NEEDED.get(name, {}))


def test_loss_names_cover_the_library() -> None:
    unusable = {"GenericPairLoss", "ManifoldLoss", "MultipleLosses", "SelfSupervisedLoss", "VICRegLoss"}
    classes = {n for n in vars(losses) if n.endswith("Loss")} - unusable
    assert len(loss_names()) == len(classes | {"CrossBatchMemory"})


@pytest.mark.parametrize(
    ("name", "same"),
    [("arcface", "ArcFaceLoss"), ("nt_xent", "NTXentLoss"), ("supcon", "sup_con"), ("ms", None)],
)
def test_spellings(name: str, same: str | None) -> None:
    if same is None:
        with pytest.raises(InputError, match="pytorch-metric-learning has no 'ms' among its losses"):
            loss_options(name)
    else:
        assert loss_options(name) == loss_options(same)


@pytest.mark.parametrize(
    "name", ["self_supervised", "vicreg", "manifold", "MultipleLosses", "GenericPairLoss"]
)
def test_losses_that_need_more_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"'{name}' cannot be trained on embeddings and labels alone"):
        build(name)


def test_options_are_read_through_the_inheritance() -> None:
    options = loss_options("sub_center_arcface")
    assert options["sub_centers"] == 3
    assert options["margin"] == 28.6
    assert options["distance"] is None
    assert "num_classes" not in options
    assert "embedding_size" not in options
    assert loss_options("ranked_list")["margin"] is REQUIRED


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("triplet", {"margn": 0.1}, "loss 'triplet' has no option 'margn': did you mean 'margin'?"),
        ("triplet", {"margin": "big"}, "option 'margin' must be a number, got 'big'"),
        ("triplet", {"swap": 1}, "option 'swap' must be true or false, got 1"),
        ("ranked_list", {}, "loss 'ranked_list' needs margin, Tn"),
        ("pnp", {"variant": "Z"}, "loss 'pnp' refuses its options: variant=Z but must be one of"),
        (
            "triplet",
            {"miner": "batch_hrd"},
            "has no 'batch_hrd' among its miners: did you mean 'batch_hard'?",
        ),
        (
            "triplet",
            {"miner": "batch_hard", "miner_options": {"x": 1}},
            "miner 'batch_hard' has no option 'x'",
        ),
        ("triplet", {"miner_options": {"margin": 1}}, "without a miner"),
        (
            "triplet",
            {"distance": "cosine_similarty"},
            "among its distances: did you mean 'cosine_similarity'?",
        ),
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


def test_components_by_name() -> None:
    embeddings, labels = batch()
    adapter = build("triplet", distance={"name": "lp_distance", "p": 1}, reducer="mean")
    direct = losses.TripletMarginLoss(distance=distances.LpDistance(p=1), reducer=reducers.MeanReducer())
    torch.testing.assert_close(adapter(embeddings, labels), direct(embeddings, labels))


def test_float32_under_autocast() -> None:
    embeddings, labels = batch()
    adapter = build("proxy_anchor")
    half = embeddings.bfloat16()
    expected = adapter(half.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = adapter(half, labels)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert all(p.dtype == torch.float32 for p in adapter.parameters())


def test_cross_batch_memory_resumes_where_it_stood() -> None:
    first, second = batch(4, 4), batch(4, 4)
    straight = build("cross_batch_memory", **NEEDED["cross_batch_memory"])
    for embeddings, labels in (first, second, first):  # 48 embeddings fill the 40 places
        expected = straight(embeddings, labels)
    stopped = build("cross_batch_memory", **NEEDED["cross_batch_memory"])
    for embeddings, labels in (first, second):
        stopped(embeddings, labels)
    resumed = build("cross_batch_memory", **NEEDED["cross_batch_memory"])
    resumed.load_state_dict(stopped.state_dict())
    assert torch.equal(resumed(*first), expected)


def test_margin_loss_has_a_beta_a_class_when_learned() -> None:
    assert [p.numel() for p in build("margin", learn_beta=True).parameters()] == [CLASSES]
    assert list(build("margin").parameters()) == []


def test_smooth_ap_refuses_batches_it_would_mistake() -> None:
    adapter = build("smooth_ap")
    with pytest.raises(
        InputError, match="SmoothAPLoss refuses the batch: it needs as many images of each class"
    ):
        adapter(*batch(4, 2))
    embeddings, labels = batch(4, 4)
    with pytest.raises(InputError, match="class after class"):
        adapter(embeddings, labels.view(4, 4).T.reshape(-1))


def test_no_pair_gives_zero_with_a_gradient() -> None:
    embeddings = torch.randn(3, DIM, requires_grad=True)
    value = build("triplet")(embeddings, torch.zeros(3, dtype=torch.long))
    value.backward()
    assert value.item() == 0
    assert embeddings.grad is not None


def test_global_state_of_the_library_is_left_alone() -> None:
    from pytorch_metric_learning.utils import common_functions

    before = {key: value for key, value in vars(common_functions).items() if key.isupper()}
    build("multi_similarity", miner="multi_similarity")(*batch())
    assert {key: value for key, value in vars(common_functions).items() if key.isupper()} == before
