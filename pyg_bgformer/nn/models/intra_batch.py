"""The network of Intra-Batch Connections, in which samples of a mini-batch attend to each other."""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.errors import check_range
from pyg_bgformer.nn.conv.margin_attention_conv import MarginAttentionConv, MarginBackend
from pyg_bgformer.nn.ops import Edges


class IntraBatchLayer(nn.Module):
    r"""One post-norm layer of the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper.

    .. math::
        \mathbf{H}^{\prime} &= \textrm{LayerNorm}(\mathbf{H} + \textrm{attention}(\mathbf{H}))

        \mathbf{H}^{\prime\prime} &= \textrm{LayerNorm}(\mathbf{H}^{\prime} + \textrm{FFN}(\mathbf{H}^{\prime}))

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        heads (int): Number of attention heads. (default: :obj:`2`)
        margin (bool): See :class:`~pyg_bgformer.nn.MarginAttentionConv`. (default: :obj:`True`)
        attention_dropout (float): Probability of dropping an attention weight, in [0, 1). (default: :obj:`0.1`)
        dropout (float): Probability of dropping an entry of the outputs of attention and feed-forward network, in
            [0, 1). (default: :obj:`0.1`)
        mlp_dropout (float): Probability of dropping a hidden unit of the feed-forward network, in [0, 1).
            (default: :obj:`0.1`)
        backend (str): See :obj:`~pyg_bgformer.nn.conv.margin_attention_conv.MarginBackend`. (default: ``"auto"``)

    Shapes:
        - As in :class:`~pyg_bgformer.nn.MarginAttentionConv`.

    Raises:
        InputError: If an option is unknown or out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 2,
        *,
        margin: bool = True,
        attention_dropout: float = 0.1,
        dropout: float = 0.1,
        mlp_dropout: float = 0.1,
        backend: MarginBackend = "auto",
    ) -> None:
        super().__init__()
        check_range("dropout", dropout, at_least=0, below=1)
        check_range("mlp_dropout", mlp_dropout, at_least=0, below=1)
        hidden = 4 * in_channels
        self.dropout = dropout
        self.attention = MarginAttentionConv(in_channels, heads, margin, attention_dropout, backend)
        self.norm1 = nn.LayerNorm(in_channels)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden),
            nn.ReLU(),
            nn.Dropout(mlp_dropout),
            nn.Linear(hidden, in_channels),
        )
        self.norm2 = nn.LayerNorm(in_channels)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the refined features, in the shape of ``x``.

        With ``return_attention_weights`` it also returns the edges and weights of the attention.
        """
        out = self.attention(x, edge_index, edge_weight, return_attention_weights)
        attended, edges = out if return_attention_weights else (out, None)
        x = self.norm1(x + F.dropout(attended, self.dropout, self.training))
        x = self.norm2(x + F.dropout(self.mlp(x), self.dropout, self.training))
        return x if edges is None else (x, edges)


class IntraBatchOutput(NamedTuple):
    """The output of :class:`IntraBatchNetwork`.

    Attributes:
        logits: Class logits ``(*, N, C)``.
        features: The classified features before the neck, ``(*, N, D)`` or, with ``cat``, ``(*, N, L * D)`` with L
            layers.
        hidden: The output ``(*, N, D)`` of each layer.
    """

    logits: Tensor
    features: Tensor
    hidden: list[Tensor]


class IntraBatchNetwork(nn.Module):
    r"""The network of the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper: a linear map, ``num_layers`` layers of :class:`IntraBatchLayer`, a
    neck and a classifier.

    The neck is a BatchNorm whose bias stays 0, and the classifier has no bias, as in the `"Bag of Tricks and A
    Strong Baseline for Deep Person Re-identification" <https://arxiv.org/abs/1903.07071>`_ paper. The network does
    not see labels. Gradients of its classification loss reach the encoder that feeds it. This encoder is deployed
    alone, because a refined sample depends on its batch.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        num_classes (int): Number of training classes :math:`C`.
        num_layers (int): Number of layers. (default: :obj:`1`)
        heads (int): Number of attention heads. (default: :obj:`2`)
        cat (bool): Classify the concatenated outputs of all layers instead of those of the last layer.
            (default: :obj:`False`)
        **options: All other options of :class:`IntraBatchLayer`.

    Shapes:
        - **input:** node features :math:`(N, D)`, edge indices :math:`(2, E)` and edge weights :math:`(E)`
          *(both optional)*. Without edges the graph is complete, self loops included, and features
          :math:`(*, N, D)` are several such graphs.
        - **output:** :class:`IntraBatchOutput` or, with ``return_attention_weights``, this and
          :obj:`~pyg_bgformer.nn.ops.Edges`

    Raises:
        InputError: If an option is unknown or out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_layers: int = 1,
        heads: int = 2,
        *,
        cat: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        check_range("num_layers", num_layers, at_least=1)
        self.cat = cat
        self.lin = nn.Linear(in_channels, in_channels)
        self.layers = nn.ModuleList(IntraBatchLayer(in_channels, heads, **options) for _ in range(num_layers))
        width = in_channels * num_layers if cat else in_channels
        self.neck = nn.BatchNorm1d(width)
        self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(width, num_classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> IntraBatchOutput | tuple[IntraBatchOutput, Edges]:
        """Returns logits and features.

        With ``return_attention_weights`` it also returns the edges and attention weights of each layer, as
        ``{"layers.0.attention": ((2, E), (E, H)), ...}``.
        """
        edges: Edges = {}
        x, hidden = self.lin(x), []
        for i, layer in enumerate(self.layers):
            out = layer(x, edge_index, edge_weight, return_attention_weights)
            if return_attention_weights:
                out, edges[f"layers.{i}.attention"] = out
            x = out
            hidden.append(x)
        features = torch.cat(hidden, dim=-1) if self.cat else x
        necked = self.neck(features.flatten(0, -2)).view_as(features)
        output = IntraBatchOutput(self.classifier(necked), features, hidden)
        return (output, edges) if return_attention_weights else output
