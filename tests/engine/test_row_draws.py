import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.ops import stochastic_depth

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.engine.row_draws import RowDraws, draws_random_numbers
from pyg_bgformer.errors import InputError
from tests.training import NoisyConv

DRAWS = {
    "dropout": lambda x: F.dropout(x, 0.3),
    "of channels": lambda x: F.dropout2d(x, 0.3),
    "alpha dropout": lambda x: F.alpha_dropout(x, 0.3, training=True),
    "drop path": lambda x: stochastic_depth(x, 0.3, "row"),
    "one number for all": lambda x: stochastic_depth(x, 0.5, "batch"),
    "channels last": lambda x: F.dropout(x.contiguous(memory_format=torch.channels_last), 0.3),
    "windows": lambda x: F.dropout(x.flatten(0, 1), 0.3).view_as(x),
    "noise": lambda x: x + torch.empty_like(x).normal_(),
    "fused dropout": lambda x: torch.native_dropout(x, 0.3, True)[0],
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_each_part_draws_what_the_whole_batch_draws_for_it(draw):
    x = torch.rand(11, 4, 3, 2)
    torch.manual_seed(0)
    whole, left = draw(x), torch.rand(1)
    for first, rows in ((0, 5), (5, 4), (9, 2)):
        torch.manual_seed(0)
        with RowDraws(first, rows, 11):
            part = draw(x[first : first + rows])
        torch.testing.assert_close(part, whole[first : first + rows])
        assert torch.equal(torch.rand(1), left)


def test_the_gradient_passes_where_the_values_do():
    x = torch.rand(6, 100, requires_grad=True)
    with RowDraws(2, 6, 10):
        kept = F.dropout(x, 0.5)
    kept.sum().backward()
    assert torch.equal(x.grad, 2.0 * (kept != 0))


def test_draws_that_cannot_be_cut_are_refused():
    with pytest.raises(InputError, match=r"draws random numbers with aten\.randperm"), RowDraws(0, 2, 4):
        torch.randperm(4)


def test_attention_draws_numbers_only_with_dropout():
    x = torch.rand(2, 1, 5, 8)
    with RowDraws(0, 2, 4):
        plain = F.scaled_dot_product_attention(x, x, x)
    torch.testing.assert_close(plain, F.scaled_dot_product_attention(x, x, x))


@pytest.mark.parametrize(
    ("backbone", "random"),
    [(build_encoder("conv4").backbone, False), (NoisyConv(), True), (NoisyConv().eval(), False)],
)
def test_it_is_found_whether_a_backbone_draws_random_numbers(backbone, random):
    state, generator = {k: v.clone() for k, v in backbone.state_dict().items()}, torch.get_rng_state()
    assert draws_random_numbers(backbone, 16) is random
    assert torch.equal(torch.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())


def test_a_transformer_without_dropout_draws_none_and_one_with_dropout_some():
    class Tokens(nn.Module):
        def __init__(self, dropout):
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(12, 2, 16, dropout=dropout, batch_first=True)

        def forward(self, images):
            return self.layer(images.flatten(2).unfold(2, 4, 4).transpose(1, 2).flatten(2)).mean(1)

    assert not draws_random_numbers(Tokens(0.0), 8)
    assert draws_random_numbers(Tokens(0.1), 8)
