"""BatchFormer: a transformer encoder layer over the samples of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.errors import check_range
from pyg_bgformer.graph import mask_to_edges
from pyg_bgformer.nn.ops import Edges, check_heads, same_graph


class BatchFormerNetwork(nn.Module):
    r"""Ordinary self-attention over the samples of a mini-batch, from the `"BatchFormer: Learning to Explore
    Sample Relationships for Robust Representation Learning" <https://arxiv.org/abs/2203.01522>`_ paper.

    .. math::
        \mathbf{X}^{\prime} &= \textrm{norm}(\mathbf{X} + \textrm{MHA}(\mathbf{X}))

        \mathbf{X}^{\prime\prime} &= \textrm{norm}(\mathbf{X}^{\prime} + \textrm{FFN}(\mathbf{X}^{\prime}))

    As in the authors' code it is a :class:`torch.nn.TransformerEncoderLayer` with a feed-forward network as wide as
    the features. It uses neither a graph nor labels: every sample attends to all samples of its batch. The DyBGR
    paper compares with another form under this name, a pre-norm block of a vision transformer. That form is
    :class:`~pyg_bgformer.nn.BGFormerLayer` with ``branches="full"`` and ``norm="layer"``.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        heads (int): Number of attention heads. (default: :obj:`4`)
        dropout (float): Probability of dropping attention weights, hidden units, and outputs of attention and
            feed-forward network, in [0, 1). (default: :obj:`0.5`)

    Shapes:
        - **input:** node features :math:`(N, D)`, batch vector :math:`(N)` *(optional)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, these and
          :obj:`~pyg_bgformer.nn.ops.Edges`

    Raises:
        InputError: If ``heads`` does not divide ``in_channels``, or ``dropout`` is not in [0, 1).
    """

    def __init__(self, in_channels: int, heads: int = 4, dropout: float = 0.5) -> None:
        super().__init__()
        check_heads(in_channels, heads)
        check_range("dropout", dropout, at_least=0, below=1)
        self.in_channels = in_channels
        self.heads = heads
        self.block = nn.TransformerEncoderLayer(in_channels, heads, in_channels, dropout)

    def forward(
        self, x: Tensor, batch: Tensor | None = None, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, Edges]:
        """Returns the refined features ``(N, D)``.

        With ``return_attention_weights`` it also returns all pairs of each graph and their attention weights,
        before dropout and without gradient, as ``{"block.self_attn": ((2, E), (E, H))}``.
        """
        apart = None if batch is None else ~same_graph(batch, x.size(0), x.device)
        out = self.block(x, src_mask=apart)
        return (out, {"block.self_attn": self._weights(x, batch)}) if return_attention_weights else out

    @torch.no_grad()
    def _weights(self, x: Tensor, batch: Tensor | None) -> tuple[Tensor, Tensor]:
        attention, num_nodes = self.block.self_attn, x.size(0)
        weight, bias = attention.in_proj_weight, attention.in_proj_bias
        maps = F.linear(x, weight[: 2 * self.in_channels], bias[: 2 * self.in_channels])
        query, key = maps.view(num_nodes, 2, self.heads, -1).permute(1, 2, 0, 3)
        scores = query @ key.transpose(1, 2) / query.size(-1) ** 0.5  # (H, N, N)
        together = same_graph(batch, num_nodes, x.device)
        alpha = scores.masked_fill(~together, -torch.inf).softmax(dim=-1)
        source, target = edge_index = mask_to_edges(together)
        return edge_index, alpha[:, target, source].t()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, heads={self.heads})"
