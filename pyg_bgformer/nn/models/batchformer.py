"""BatchFormer: a transformer's encoder layer over the samples of a batch."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.nn.backend import Edges, same_graph


class BatchFormer(nn.Module):
    r"""Ordinary self-attention over the samples of a mini-batch, from the `"BatchFormer: Learning to Explore
    Sample Relationships for Robust Representation Learning" <https://arxiv.org/abs/2203.01522>`_ paper.

    .. math::
        \mathbf{X}^{\prime} &= \textrm{norm}(\mathbf{X} + \textrm{MHA}(\mathbf{X}))

        \mathbf{X}^{\prime\prime} &= \textrm{norm}(\mathbf{X}^{\prime} + \textrm{FFN}(\mathbf{X}^{\prime}))

    As in the original it is :class:`torch.nn.TransformerEncoderLayer`, with a feed-forward network as wide as the
    features. No graph is chosen and no label is seen: every sample attends to all of its batch. The form that the
    DyBGR paper compares with under this name, a pre-norm block of a vision transformer, is
    :class:`~pyg_bgformer.nn.BGFormerLayer` with ``branches="full"`` and ``norm="layer"``.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        heads (int): Attention heads. (default: :obj:`4`)
        dropout (float): Probability of dropping attention weights, hidden units and what both parts add.
            (default: :obj:`0.5`)
        norm (str): ``"post"`` as in the original, or ``"pre"``: LayerNorm before each part instead of behind its
            sum. (default: ``"post"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, batch vector :math:`(N)` *(optional)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, these with the edges and
          their weights

    Raises:
        ValueError: If ``heads`` does not divide ``in_channels``, ``dropout`` is not in [0, 1), or ``norm`` is not
            known.
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 4,
        dropout: float = 0.5,
        norm: Literal["post", "pre"] = "post",
    ) -> None:
        super().__init__()
        if heads < 1 or in_channels % heads != 0:
            raise ValueError(f"heads must divide in_channels: found {heads} heads, {in_channels} channels")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), found {dropout}")
        if norm not in ("post", "pre"):
            raise ValueError(f"norm must be 'post' or 'pre', found {norm!r}")
        self.in_channels = in_channels
        self.heads = heads
        self.block = nn.TransformerEncoderLayer(
            in_channels, heads, in_channels, dropout, norm_first=norm == "pre"
        )

    def forward(
        self, x: Tensor, batch: Tensor | None = None, return_attention_weights: bool = False
    ) -> Tensor | tuple[Tensor, Edges]:
        """Returns the refined features ``(N, D)``.

        With ``return_attention_weights`` also all pairs of each graph and the attention along them, before dropout
        and without gradient, as ``{"block.self_attn": ((2, E), (E, H))}``.
        """
        apart = None if batch is None else ~same_graph(batch, x.size(0), x.device)
        out = self.block(x, src_mask=apart)
        return (out, {"block.self_attn": self._weights(x, batch)}) if return_attention_weights else out

    @torch.no_grad()
    def _weights(self, x: Tensor, batch: Tensor | None) -> tuple[Tensor, Tensor]:
        attention, num_nodes = self.block.self_attn, x.size(0)
        x = self.block.norm1(x) if self.block.norm_first else x
        weight, bias = (
            part[: 2 * self.in_channels] for part in (attention.in_proj_weight, attention.in_proj_bias)
        )
        query, key = F.linear(x, weight, bias).view(num_nodes, 2, self.heads, -1).permute(1, 2, 0, 3)
        scores = query @ key.transpose(1, 2) / query.size(-1) ** 0.5  # (H, N, N)
        together = same_graph(batch, num_nodes, x.device)
        target, source = together.nonzero(as_tuple=True)
        alpha = scores.masked_fill(~together, float("-inf")).softmax(dim=-1)
        return torch.stack([source, target]), alpha[:, target, source].t()

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({self.in_channels}, heads={self.heads})"
