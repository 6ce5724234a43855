"""GCA-HNG's steps against the original's numbers, and what must hold for any batch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.config.schema import TrainConfig
from pyg_bgformer.encoders import Backbone, Encoder, EncoderSpec, build_encoder
from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.state import TrainState
from pyg_bgformer.errors import InputError
from pyg_bgformer.geometry import PoincareBall, Sphere
from pyg_bgformer.losses import NPairLoss, build_loss
from pyg_bgformer.methods import GCAHNG

LABELS = torch.tensor([2, 0, 3, 1, 0, 2, 1, 3, 3, 2, 0, 1])


def build(loss: nn.Module | None = None, **options: Any) -> GCAHNG:
    torch.manual_seed(0)
    encoder = build_encoder("conv4", embedding_dim=16, head_norm=True)
    return GCAHNG(encoder, loss or NPairLoss(), Sphere(), 4, heads=2, **options)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class Flat(Backbone):
    """The parity case's stand-in for a network: one layer on the pixels."""

    def __init__(self) -> None:
        super().__init__(nn.ModuleDict({"lin": nn.Linear(12, 2048)}), (0.5,) * 3, (0.5,) * 3)
        self.feature_dim = 2048

    def forward(self, images: Tensor) -> Tensor:
        return self.net["lin"](images.flatten(1)).relu()


class Rehearsed(GCAHNG):
    """Draws the numbers that the original drew."""

    script: list[float]

    def draws(self, slots: Tensor) -> Tensor:
        count = slots.size(0) * (slots.size(0) - 1)
        drawn, self.script = self.script[:count], self.script[count:]
        return torch.tensor(drawn).view(slots.size(0), -1)


def rehearsed(state: dict[str, Tensor], **options: Any) -> Rehearsed:
    encoder = Encoder(Flat(), EncoderSpec("flat", embedding_dim=32, head_norm=True))
    return Rehearsed.from_original(state, encoder, heads=2, dropout=0.0, official_mask=True, **options)


def in_training(method: GCAHNG, **settings: Any) -> tuple[Fabric, TrainState, TrainConfig]:
    """What a run trains with; settings are the recipe's."""
    arguments = [part for key, value in settings.items() for part in (f"--train.{key}", str(value))]
    config = read_config([*arguments, "--train.clip_norm", "null", "--train.clip_value", "10"])
    optimizer = build_optimizer(method, config.train)
    state = TrainState(method, optimizer, build_schedule(optimizer, config.train))
    return Fabric(accelerator="cpu", devices=1), state, config.train


@pytest.mark.parametrize("mode", ["step", "step_set_to_none"])
def test_whole_steps_equal_the_originals(gca_hng_parity: Path, mode: str) -> None:
    case = torch.load(gca_hng_parity, weights_only=True)["cases"]["K2_L1_h2"]
    expected = case[mode]
    lr, decay = expected["lr"], expected["wd"]
    method = rehearsed(
        expected["state_before"],
        network_lr=lr["gnn"],
        classifier_lr=lr["cls"],
        zero_filled=mode == "step",
    )
    training = in_training(method, lr=lr["metric"], weight_decay=decay["metric"])
    assert {g["name"]: g["weight_decay"] for g in training[1].optimizer.param_groups} == {
        "backbone": decay["metric"],
        "head": decay["metric"],
        "network": decay["gnn"],
        "classifier": decay["cls"],
    }
    for step in expected["steps"]:
        method.close_epoch({"plain": step["j_avg"], "generator": step["j_gen"]})
        method.script = list(step["draws"])
        logged = train_batch(*training, expected["x"], case["label"])[0].values()
        assert method.script == []
        found = {
            "J_m": logged["plain"],
            "J_gnnce": logged["node"],
            "J_syn": logged["synthetic"],
            "J_metric": logged["loss"],
            "J_softce": logged["classifier"],
            "J_div": logged["diversity"],
            "J_gence": case["softmax_factor"] * logged["made_class"],
            "J_gen": logged["generator"],
        }
        for name, value in step["metrics"].items():
            assert found[name] == pytest.approx(value, rel=5e-5), name


def test_one_optimiser_over_groups_equals_three(images: Tensor) -> None:
    together, apart = build(), build()
    fabric, state, train = in_training(together, lr=1e-3, weight_decay=0.02)
    groups = {group["name"]: group["params"] for group in apart.parameter_groups()}
    three = {
        ("backbone", "head", "loss", "network"): [
            torch.optim.AdamW(groups["backbone"] + groups["head"], lr=1e-3, weight_decay=0.02),
            torch.optim.AdamW(groups["network"], lr=1.5e-4, weight_decay=1e-4),
        ],
        ("classifier",): [torch.optim.AdamW(groups["classifier"], lr=1e-3, weight_decay=0.01)],
    }
    three["network",] = three["backbone", "head", "loss", "network"][1:]
    for step in range(3):
        torch.manual_seed(step)
        train_batch(fabric, state, train, images, LABELS)
        torch.manual_seed(step)
        for update in apart.updates(apart.encoder.features(images), LABELS):
            apart.zero_grad()
            update.loss.backward()
            torch.nn.utils.clip_grad_value_(apart.parameters(), 10)
            for optimizer in three[update.groups]:
                optimizer.step()
    for name, value in together.state_dict().items():
        torch.testing.assert_close(value, apart.state_dict()[name], rtol=0, atol=0, msg=name)


def test_what_each_step_reaches(images: Tensor) -> None:
    method = build()
    reached = []
    for update in method.updates(method.encoder.features(images), LABELS):
        method.zero_grad()
        update.loss.backward()
        reached.append({name for name, p in method.named_parameters() if p.grad is not None})
    made = {name for name, _ in method.named_parameters() if name.startswith("network.weigher.")}
    encoder = {name for name, _ in method.named_parameters() if name.startswith("encoder.")}
    first, second, third = reached
    assert encoder <= first
    assert not made & first  # the channel weights learn from the generator's objective alone
    assert second == {"classifier.weight", "classifier.bias"}
    assert made <= third
    assert not encoder & third


def test_a_batch_may_come_in_any_order(images: Tensor) -> None:
    """As long as each class keeps its own order, in which the first sample is the anchor."""
    method = build(dropout=0.0)
    order = torch.cat([(label == LABELS).nonzero().flatten() for label in (3, 0, 2, 1)])
    logged = []
    for rows in (torch.arange(12), order):
        torch.manual_seed(1)
        terms: dict[str, Tensor] = {}
        for update in method.updates(method.encoder.features(images[rows]), LABELS[rows]):
            terms |= update.terms
        logged.append(terms)
    torch.testing.assert_close(*logged, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["proxy_anchor", "pairwise_cross_entropy"])
def test_other_losses_see_made_negatives_as_samples_of_their_classes(images: Tensor, name: str) -> None:
    loss = build_loss(name, {}, geometry=Sphere(), num_classes=4, embedding_dim=16)
    method = build(loss)
    method.close_epoch({"plain": 2.0, "generator": 5.0})
    seen: list[tuple[Tensor, Tensor]] = []
    loss.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs))
    terms = method(method.encoder.features(images), LABELS)
    (made, classes), (z, labels) = seen
    assert torch.equal(labels, LABELS)
    assert made.shape == (3 * 4 * 3, 16)
    assert classes.bincount().tolist() == [9, 9, 9, 9]
    torch.testing.assert_close(made.norm(dim=1), torch.ones(36))
    torch.testing.assert_close(terms["plain"], loss(z, labels))
    torch.testing.assert_close(terms["synthetic"], (1 - math.exp(-20 / 5)) * loss(made, classes))
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.count_nonzero() for p in loss.parameters())


def test_with_proxies_a_few_steps_lower_the_loss(images: Tensor) -> None:
    loss = build_loss("proxy_anchor", {}, geometry=Sphere(), num_classes=4, embedding_dim=16)
    training = in_training(build(loss), lr=3e-3)
    rows = [train_batch(*training, images, LABELS)[0].values() for _ in range(12)]
    assert rows[-1]["plain"] < 0.8 * rows[0]["plain"]


def test_negatives_are_of_the_class_they_are_labelled_with(images: Tensor) -> None:
    """Of negatives that are not pulled and not mixed, each is a sample of its class."""
    loss = build_loss("proxy_anchor", {}, geometry=Sphere(), num_classes=4, embedding_dim=16)
    method = build(loss, alpha=0.0)
    seen: list[tuple[Tensor, Tensor]] = []
    loss.register_forward_hook(lambda _m, inputs, _out: seen.append(inputs))
    method.network.weigher.weight.data.zero_()
    method.network.weigher.bias.data.fill_(99.0)  # channel weights of 1, and with alpha = 0 a pull of 1
    method.draws = lambda slots: torch.zeros(3, 2)  # the last candidate alone
    method(method.encoder.features(images), LABELS)
    (made, classes), (z, labels) = seen
    source = (made @ z.t()).argmax(dim=1)
    torch.testing.assert_close(z[source], made, atol=1e-5, rtol=1e-5)
    assert torch.equal(labels[source], classes)


def test_the_means_of_an_epoch_are_kept_with_the_weights() -> None:
    method = build()
    assert (method.plain_mean, method.generator_mean) == (1e6, 1e6)
    method.close_epoch({"plain": 2.5, "generator": -3.0})
    other = build()
    other.load_state_dict(method.state_dict())
    assert other.plain_mean == 2.5
    assert other.generator_mean == torch.tensor(1e-6)


def test_made_negatives_weigh_nothing_at_first_and_all_once_the_generator_is_good(images: Tensor) -> None:
    method = build()
    torch.manual_seed(1)
    first = method(method.encoder.features(images), LABELS)["synthetic"]
    method.close_epoch({"plain": 1e6, "generator": 1e-3})
    torch.manual_seed(1)
    later = method(method.encoder.features(images), LABELS)["synthetic"]
    torch.testing.assert_close(first, 2e-5 * later, rtol=1e-4, atol=0)


def test_attention_joins_different_classes(images: Tensor) -> None:
    method = build().eval()
    found = method.edges(method.encoder.features(images), LABELS)
    assert list(found) == ["layers.0.attention", "layers.1.attention"]
    for edge_index, weight in found.values():
        assert edge_index.size(1) == 12 * 9
        assert (LABELS[edge_index[0]] != LABELS[edge_index[1]]).all()
        received = torch.zeros(12, 2).index_add(0, edge_index[1], weight)
        assert ((received > 0) & (received < 1)).all()  # a margin keeps a share of the attention


def test_insight(images: Tensor) -> None:
    method = build()
    method.network.weigher.weight.data.zero_()
    method.network.weigher.bias.data.fill_(math.log(3))
    terms = method(method.encoder.features(images), LABELS)
    assert terms["channel_weight"].item() == pytest.approx(0.75)
    assert 0 < terms["hardness"] <= 1
    assert not terms["channel_weight"].requires_grad


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 3], "4 classes with 1 to 1"),
        ([0, 0, 1, 1, 1], "2 classes with 2 to 3"),
        ([2, 2, 2], "a single class"),
    ],
)
def test_other_batches_are_refused(images: Tensor, labels: list[int], message: str) -> None:
    method = build()
    features = method.encoder.features(images[: len(labels)])
    with pytest.raises(ValueError, match=message) as error:
        method(features, torch.tensor(labels))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["alpha", "beta", "softmax_factor", "dot_weight", "div_weight"])
def test_negative_options_are_refused(option: str) -> None:
    with pytest.raises(ValueError, match=f"{option} must be at least 0"):
        build(**{option: -1.0})


def test_inner_products_do_not_go_with_the_ball() -> None:
    with pytest.raises(ValueError, match="geometry sphere"):
        GCAHNG(build_encoder("conv4", embedding_dim=16), NPairLoss(), PoincareBall(), 4)


def test_a_checkpoint_that_does_not_fit_is_refused(gca_hng_parity: Path) -> None:
    case = torch.load(gca_hng_parity, weights_only=True)["cases"]["K2_L1_h2"]
    state = dict(case["step"]["state_before"])
    del state["feature_extractor.fc.0.running_mean"]
    with pytest.raises(InputError, match=r"feature_extractor\.fc.*1 missing \(0\.running_mean\)"):
        rehearsed(state)
