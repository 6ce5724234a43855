import pytest
import torch

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.geometry import Sphere
from pyg_bgformer.losses import PairwiseCrossEntropyLoss
from pyg_bgformer.methods import BatchFormer, Plain

LABELS = torch.arange(4).repeat_interleave(3)


def build(kind=BatchFormer, **options):
    torch.manual_seed(0)
    return kind(build_encoder("conv4", embedding_dim=16), PairwiseCrossEntropyLoss(), Sphere(), 4, **options)


@pytest.fixture
def features():
    return torch.randn(12, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_both_terms_come_from_one_head_and_loss(features, alpha):
    method = build(alpha=alpha, dropout=0.0)
    terms = method(features, LABELS)
    for name, x in {"plain": features, "refined": method.blocks(features)}.items():
        z = torch.nn.functional.normalize(method.encoder.head(x), dim=1)
        torch.testing.assert_close(terms[name], method.loss(z, LABELS))
    torch.testing.assert_close(terms["loss"], alpha * terms["plain"] + (1 - alpha) * terms["refined"])


def test_labels_do_not_enter_the_block(features):
    method = build(dropout=0.0)
    assert torch.equal(method.refine(features, LABELS), method.refine(features, LABELS.flip(0).roll(1)))


def test_the_encoder_starts_as_in_plain():
    plain, ours = build(Plain).encoder.state_dict(), build().encoder.state_dict()
    assert all(torch.equal(plain[name], ours[name]) for name in plain)


def test_the_graph_is_the_attention_of_all_pairs(features):
    edge_index, alpha = build().eval().edges(features, LABELS)["block.self_attn"]
    assert edge_index.shape == (2, 144)
    assert alpha.shape == (144, 4)
    received = torch.zeros(12, 4).index_add(0, edge_index[1], alpha)
    torch.testing.assert_close(received, torch.ones(12, 4))


@pytest.mark.parametrize("options", [{"heads": 8, "dropout": 0.1}, {"block_lr": 0.01}], ids=str)
def test_every_option_trains(features, options):
    method = build(**options)
    method(features, LABELS)["loss"].backward()
    own = [*method.blocks.parameters(), *method.encoder.head.parameters()]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in own)


@pytest.mark.parametrize(("option", "value"), [("alpha", 1.5), ("heads", 5), ("dropout", 1.0)])
def test_options_out_of_range_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} must"):
        build(**{option: value})
