"""BatchFormer against loops, with their gradients."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_bgformer.nn import BatchFormer, BGFormerLayer
from tests.nn.oracles import features, gradients, linear, naive_norm

DIM = 8


def make(**options: object) -> BatchFormer:
    """A layer none of whose parameters is at a value that hides its use."""
    torch.manual_seed(0)
    layer = BatchFormer(DIM, **({"heads": 2, "dropout": 0.0} | options))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return layer


def naive_attention(attention: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output ``(N, D)`` and the weights ``(H, N, N)``, receiver first; differentiable."""
    size = DIM // attention.num_heads
    query, key, value = (x @ attention.in_proj_weight.double().t() + attention.in_proj_bias.double()).chunk(
        3, 1
    )
    rows, weights = [], []
    for i in range(len(x)):
        heads = []
        for head in range(attention.num_heads):
            part = slice(head * size, (head + 1) * size)
            powers = [(query[i, part] @ key[j, part] / math.sqrt(size)).exp() for j in range(len(x))]
            weights.append(torch.stack(powers) / sum(powers))
            heads.append(sum(w * value[j, part] for j, w in enumerate(weights[-1])))
        rows.append(torch.cat(heads))
    by_head = torch.stack(weights).view(len(x), attention.num_heads, len(x)).transpose(0, 1)
    return linear(attention.out_proj, torch.stack(rows)), by_head


class Naive(nn.Module):
    """The block's definition, on the parameters of a block."""

    def __init__(self, layer: BatchFormer) -> None:
        super().__init__()
        self.block = layer.block

    def forward(self, x: Tensor) -> Tensor:
        block, x = self.block, x.double()
        if block.norm_first:
            x = x + naive_attention(block.self_attn, naive_norm(block.norm1, x))[0]
            return x + self.feed_forward(naive_norm(block.norm2, x))
        x = naive_norm(block.norm1, x + naive_attention(block.self_attn, x)[0])
        return naive_norm(block.norm2, x + self.feed_forward(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        return linear(self.block.linear2, linear(self.block.linear1, x).clamp(min=0))


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("num_nodes", [1, 2, 7])
def test_equals_loops_with_gradients(num_nodes: int, norm: str) -> None:
    layer, x = make(norm=norm), features(num_nodes, DIM)
    ours = [value.double() for value in gradients(layer, x)]
    theirs = [value.double() for value in gradients(Naive(layer), x)]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_the_default_is_the_original() -> None:
    layer = BatchFormer(12)
    block = layer.block
    assert (layer.heads, block.self_attn.num_heads, block.linear1.out_features) == (4, 4, 12)
    assert not block.norm_first
    dropouts = [module.p for module in block.modules() if isinstance(module, nn.Dropout)]
    assert [*dropouts, block.self_attn.dropout] == [0.5] * 4


def test_training_and_evaluation_differ_by_dropout_only() -> None:
    x = features(9, DIM)
    dropping, without = make(dropout=0.5), make()
    assert not torch.allclose(dropping(x), without(x))
    torch.testing.assert_close(dropping.eval()(x), without(x))


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_order_of_nodes_does_not_matter(norm: str) -> None:
    layer, x = make(norm=norm), features(9, DIM)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x[order]), layer(x)[order], atol=2e-6, rtol=0)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_batch_of_graphs_equals_one_by_one(norm: str) -> None:
    graphs = [Data(x=features(n, DIM, seed=n)) for n in (6, 1, 9)]
    layer, batch = make(norm=norm), Batch.from_data_list(graphs)
    together = layer(batch.x, batch.batch)
    torch.testing.assert_close(together, torch.cat([layer(g.x) for g in graphs]), atol=2e-6, rtol=0)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_attention_weights_equal_loops(norm: str) -> None:
    layer, x = make(norm=norm), features(5, DIM)
    out, edges = layer(x, return_attention_weights=True)
    assert torch.equal(out, layer(x))
    (source, target), alpha = edges["block.self_attn"]
    normed = naive_norm(layer.block.norm1, x) if norm == "pre" else x.double()
    expected = naive_attention(layer.block.self_attn, normed)[1]
    assert not alpha.requires_grad
    torch.testing.assert_close(alpha.t().double(), expected[:, target, source], atol=1e-6, rtol=0)
    assert len(source) == 25


def test_attention_stays_within_a_graph() -> None:
    layer, x = make(), features(6, DIM)
    batch = torch.tensor([0, 0, 1, 1, 1, 1])
    (source, target), alpha = layer(x, batch, return_attention_weights=True)[1]["block.self_attn"]
    assert ((source < 2) == (target < 2)).all()
    assert len(source) == 4 + 16
    alone = layer(x[2:], return_attention_weights=True)[1]["block.self_attn"][1]
    torch.testing.assert_close(alpha[source >= 2], alone)


def test_autocast_is_finite_and_near_float32() -> None:
    layer, x = make(), features(9, DIM)
    exact = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = layer(x)
        assert layer(x, return_attention_weights=True)[1]["block.self_attn"][1].isfinite().all()
    cast.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in layer.parameters())
    assert (cast.float() - exact).norm() < 0.03 * exact.norm()


def test_the_other_form_of_this_name_is_full_attention_in_a_bgformer_block() -> None:
    torch.manual_seed(0)
    theirs, x = BGFormerLayer(DIM, 2, branches="full", norm="layer", mlp_ratio=1.0), features(7, DIM)
    ours = make(norm="pre")
    renamed = {
        "self_attn.in_proj_": "visual.qkv.",
        "self_attn.out_proj.": "visual.proj.",
        "linear1.": "mlp.0.",
        "linear2.": "mlp.2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    ours.block.load_state_dict(
        {a + p: theirs.state_dict()[b + p] for a, b in renamed.items() for p in ("weight", "bias")}
    )
    ours.block.activation = nn.functional.gelu
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-6, rtol=1e-5)


def test_str() -> None:
    assert str(make(heads=4)) == "BatchFormer(8, heads=4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 3}, "3 heads"),
        ({"heads": 0}, "0 heads"),
        ({"dropout": 1.0}, "dropout"),
        ({"norm": "x"}, "'x'"),
    ],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
