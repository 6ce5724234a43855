"""BatchFormerNetwork against loops, with their gradients."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from pyg_bgformer.errors import InputError
from pyg_bgformer.nn import BatchFormerNetwork, BGFormerLayer
from tests.nn.oracles import close, features, gradients, linear, naive_norm

DIM = 8


def make(**options: object) -> BatchFormerNetwork:
    """A network none of whose parameters is at a value that hides its use."""
    torch.manual_seed(0)
    network = BatchFormerNetwork(DIM, **({"heads": 2, "dropout": 0.0} | options))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return network.double()


def naive_attention(attention: nn.MultiheadAttention, x: Tensor) -> tuple[Tensor, Tensor]:
    """The output ``(N, D)`` and the weights ``(H, N, N)``, target first; differentiable."""
    size = DIM // attention.num_heads
    query, key, value = (x @ attention.in_proj_weight.t() + attention.in_proj_bias).chunk(3, 1)
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
    """The definition, on the parameters of a network."""

    def __init__(self, network: BatchFormerNetwork) -> None:
        super().__init__()
        self.block = network.block

    def forward(self, x: Tensor) -> Tensor:
        block = self.block
        x = naive_norm(block.norm1, x + naive_attention(block.self_attn, x)[0])
        hidden = linear(block.linear2, linear(block.linear1, x).clamp(min=0))
        return naive_norm(block.norm2, x + hidden)


@pytest.mark.parametrize("num_nodes", [1, 2, 7])
def test_equals_loops_with_gradients(num_nodes: int) -> None:
    network, x = make(), features(num_nodes, DIM)
    close(gradients(network, x), gradients(Naive(network), x))


def test_the_default_is_the_original() -> None:
    network = BatchFormerNetwork(12)
    block = network.block
    assert (network.heads, block.self_attn.num_heads, block.linear1.out_features) == (4, 4, 12)
    assert not block.norm_first
    dropouts = [module.p for module in block.modules() if isinstance(module, nn.Dropout)]
    assert [*dropouts, block.self_attn.dropout] == [0.5] * 4


def test_training_and_evaluation_differ_by_dropout_only() -> None:
    x = features(9, DIM)
    dropping, without = make(dropout=0.5), make()
    assert not torch.allclose(dropping(x), without(x))
    close(dropping.eval()(x), without(x))


def test_order_of_nodes_does_not_matter() -> None:
    network, x = make(), features(9, DIM)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    close(network(x[order]), network(x)[order])


def test_batch_of_graphs_equals_one_by_one() -> None:
    graphs = [Data(x=features(n, DIM, seed=n)) for n in (6, 1, 9)]
    network, batch = make(), Batch.from_data_list(graphs)
    close(network(batch.x, batch.batch), torch.cat([network(g.x) for g in graphs]))


def test_attention_weights_equal_loops() -> None:
    network, x = make(dropout=0.3), features(5, DIM)
    (source, target), alpha = network(x, return_attention_weights=True)[1]["block.self_attn"]
    assert not alpha.requires_grad
    assert len(source) == 25
    close(alpha.t(), naive_attention(network.block.self_attn, x)[1][:, target, source])


def test_attention_stays_within_a_graph() -> None:
    network, x = make(), features(6, DIM)
    batch = torch.tensor([0, 0, 1, 1, 1, 1])
    (source, target), alpha = network(x, batch, return_attention_weights=True)[1]["block.self_attn"]
    assert ((source < 2) == (target < 2)).all()
    assert len(source) == 4 + 16
    close(alpha[source >= 2], network(x[2:], return_attention_weights=True)[1]["block.self_attn"][1])


def test_autocast_is_finite_and_near_float32() -> None:
    network, x = make().float(), features(9, DIM).float()
    exact = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, edges = network(x, return_attention_weights=True)
    assert edges["block.self_attn"][1].isfinite().all()
    cast.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in network.parameters())
    assert (cast.float() - exact).norm() < 0.03 * exact.norm()


def test_the_other_form_of_this_name_is_full_attention_in_a_bgformer_block() -> None:
    torch.manual_seed(0)
    theirs, x = BGFormerLayer(DIM, 2, branches="full", norm="layer", mlp_ratio=1.0).double(), features(7, DIM)
    ours = nn.TransformerEncoderLayer(DIM, 2, DIM, 0.0, nn.functional.gelu, norm_first=True).double()
    renamed = {
        "self_attn.in_proj_": "visual.qkv.",
        "self_attn.out_proj.": "visual.proj.",
        "linear1.": "mlp.0.",
        "linear2.": "mlp.2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    state = theirs.state_dict()
    ours.load_state_dict({a + p: state[b + p] for a, b in renamed.items() for p in ("weight", "bias")})
    close(ours(x), theirs(x))


def test_str() -> None:
    assert str(make(heads=4)) == "BatchFormerNetwork(8, heads=4)"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"heads": 3}, "3 heads"), ({"heads": 0}, "0 heads"), ({"dropout": 1.0}, "dropout")],
)
def test_wrong_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(**options)
