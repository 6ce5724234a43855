"""The network of Intra-Batch Connections: the samples of a mini-batch attend to each other and are classified."""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.nn.backend import Edges
from pyg_bgformer.nn.conv.margin_attention_conv import Aggregation, MarginAttentionConv, MarginBackend
from pyg_bgformer.nn.neck_classifier import NeckClassifier


class IntraBatchLayer(nn.Module):
    r"""One post-norm layer of the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper.

    .. math::
        \mathbf{H}^{\prime} &= \textrm{LayerNorm}(\mathbf{H} + \textrm{attention}(\mathbf{H}))

        \mathbf{H}^{\prime\prime} &= \textrm{LayerNorm}(\mathbf{H}^{\prime} + \textrm{FFN}(\mathbf{H}^{\prime}))

    Args:
        in_channels (int): Size :math:`D` of each sample.
        heads (int): Attention heads. (default: :obj:`2`)
        margin, aggr, backend: See :class:`MarginAttentionConv`.
        attention_dropout (float): Probability of dropping an attention weight. (default: :obj:`0.1`)
        dropout (float): Probability of dropping an entry of what attention and feed-forward network add.
            (default: :obj:`0.1`)
        mlp_dropout (float): The same for the feed-forward network's hidden layer. (default: :obj:`0.1`)
        mlp (bool): Whether there is the second half. (default: :obj:`True`)
        norm1, norm2 (bool): Whether the halves end in a LayerNorm. (default: :obj:`True`)
        res1, res2 (bool): Whether the halves add to their input or replace it. (default: :obj:`True`)

    Shapes:
        As in :class:`MarginAttentionConv`.

    Raises:
        ValueError: If an option is not known or out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 2,
        *,
        margin: bool = True,
        aggr: Aggregation = "add",
        attention_dropout: float = 0.1,
        dropout: float = 0.1,
        mlp_dropout: float = 0.1,
        mlp: bool = True,
        norm1: bool = True,
        norm2: bool = True,
        res1: bool = True,
        res2: bool = True,
        backend: MarginBackend = "auto",
    ) -> None:
        super().__init__()
        for name, probability in (("dropout", dropout), ("mlp_dropout", mlp_dropout)):
            if not 0 <= probability < 1:
                raise ValueError(f"{name} must lie in [0, 1), found {probability}")
        self.dropout = dropout
        self.res1, self.res2 = res1, res2
        self.attention = MarginAttentionConv(in_channels, heads, margin, aggr, attention_dropout, backend)
        self.norm1 = nn.LayerNorm(in_channels) if norm1 else nn.Identity()
        self.mlp: nn.Sequential | None = None
        if mlp:
            self.mlp = nn.Sequential(
                nn.Linear(in_channels, 4 * in_channels),
                nn.ReLU(),
                nn.Dropout(mlp_dropout),
                nn.Linear(4 * in_channels, in_channels),
            )
            self.norm2 = nn.LayerNorm(in_channels) if norm2 else nn.Identity()

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the refined features, of the shape of ``x``.

        With ``return_attention_weights`` also the edges and weights of :class:`MarginAttentionConv`.
        """
        out = self.attention(x, edge_index, edge_weight, return_attention_weights)
        out, edges = out if return_attention_weights else (out, None)
        attended = self._dropped(out)
        x = self.norm1(x + attended if self.res1 else attended)
        if self.mlp is not None:
            added = self._dropped(self.mlp(x))
            x = self.norm2(x + added if self.res2 else added)
        return x if edges is None else (x, edges)

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


class IntraBatchOutput(NamedTuple):
    """What :class:`IntraBatchNetwork` gives: one entry, or with ``every`` one a layer.

    Attributes:
        logits: ``(N, num_classes)`` each.
        features: What is classified, before the neck.
        necked: The same after the neck; without one, ``features``.
    """

    logits: list[Tensor]
    features: list[Tensor]
    necked: list[Tensor]


class IntraBatchNetwork(nn.Module):
    r"""The network of the `"Learning Intra-Batch Connections for Deep Metric Learning"
    <https://arxiv.org/abs/2102.07753>`_ paper: a linear map, ``num_layers`` of :class:`IntraBatchLayer`, and a
    classifier behind a BatchNorm whose bias stays 0.

    It knows no labels; its classification loss reaches the encoder that feeds it. What is deployed is that
    encoder, because a refined sample depends on the batch it came in.

    Args:
        in_channels (int): Size of each sample.
        num_classes (int): Classes of the training images.
        num_layers (int): Number of layers. (default: :obj:`1`)
        heads (int): Attention heads. (default: :obj:`2`)
        reduction (int): By how much the first linear map divides the size. (default: :obj:`1`)
        cat (bool): Classify the outputs of all layers side by side. (default: :obj:`False`)
        every (bool): Classify the output of each layer by itself. (default: :obj:`False`)
        neck (bool): BatchNorm before a classifier without bias; else a classifier with bias alone.
            (default: :obj:`True`)
        **options: All other options of :class:`IntraBatchLayer`.

    Shapes:
        - **input:** node features :math:`(N, F)`, edge indices :math:`(2, E)` and edge weights :math:`(E)`
          *(both optional)*. Without edges the graph is complete, self loops included, and features
          :math:`(*, N, F)` are several such graphs.
        - **output:** :class:`IntraBatchOutput` or, with ``return_attention_weights``, this with the edges of each
          layer

    Raises:
        ValueError: If an option is not known or out of its range, or with both ``cat`` and ``every``.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_layers: int = 1,
        heads: int = 2,
        *,
        reduction: int = 1,
        cat: bool = False,
        every: bool = False,
        neck: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, found {num_layers}")
        if reduction < 1 or in_channels % reduction:
            raise ValueError(f"reduction must divide in_channels: found {reduction}, {in_channels} channels")
        if cat and every:
            raise ValueError("cat classifies all layers together and every each by itself: choose one")
        channels = in_channels // reduction
        self.cat, self.every = cat, every
        self.lin = nn.Linear(in_channels, channels)
        self.layers = nn.ModuleList(IntraBatchLayer(channels, heads, **options) for _ in range(num_layers))
        widths = [channels] * num_layers if every else [channels * num_layers if cat else channels]
        self.classifiers = nn.ModuleList(NeckClassifier(width, num_classes, neck) for width in widths)

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> IntraBatchOutput | tuple[IntraBatchOutput, Edges]:
        """Returns logits and features.

        With ``return_attention_weights`` also each layer's edges and attention weights, as
        ``{"layers.0.attention": ((2, E), (E, H)), ...}``.
        """
        edges: Edges = {}
        features = self.layer_outputs(x, edge_index, edge_weight, edges if return_attention_weights else None)
        if not self.every:
            features = [torch.cat(features, dim=-1)] if self.cat else features[-1:]
        necked = [last.neck(f) for last, f in zip(self._classifiers(), features, strict=True)]
        logits = [last.lin(n) for last, n in zip(self._classifiers(), necked, strict=True)]
        out = IntraBatchOutput(logits, features, necked)
        return (out, edges) if return_attention_weights else out

    def layer_outputs(
        self,
        x: Tensor,
        edge_index: Tensor | None = None,
        edge_weight: Tensor | None = None,
        edges: Edges | None = None,
    ) -> list[Tensor]:
        """Returns the output of each layer.

        Where ``edges`` is a dictionary, the layers' edges and weights are put into it.
        """
        x, outputs = self.lin(x), []
        for i, layer in enumerate(self.layers):
            x = layer(x, edge_index, edge_weight, return_attention_weights=edges is not None)
            if edges is not None:
                x, edges[f"layers.{i}.attention"] = x
            outputs.append(x)
        return outputs

    def _classifiers(self) -> list[NeckClassifier]:
        return [cast(NeckClassifier, classifier) for classifier in self.classifiers]

    @classmethod
    def from_original(
        cls, state_dict: Mapping[str, Tensor], *, heads: int, **options: Any
    ) -> "IntraBatchNetwork":
        """Builds the network that a checkpoint of the authors' code describes, with its weights.

        Sizes, number of layers, neck, ``cat`` and ``every`` are read from the keys ``dim_red.*``,
        ``gnn_model.node_model.layers.{l}.*``, ``bottleneck.{i}.*`` and ``fc.{i}.*``. Heads are not in a
        checkpoint and must be said, and so must other options of :class:`IntraBatchLayer` that are not the
        defaults.

        Raises:
            ValueError: If keys or shapes are not those of such a network.
        """
        renamed = {_our_key(key): value for key, value in state_dict.items()}
        needed = ("lin.weight", "classifiers.0.lin.weight", "layers.0.attention.query.weight")
        lacking = [
            theirs for theirs, ours in zip(ORIGINAL_NEEDED, needed, strict=True) if ours not in renamed
        ]
        if lacking:
            raise ValueError(f"not a network of Intra-Batch Connections: missing {', '.join(lacking)}")
        channels, in_channels = renamed["lin.weight"].shape
        num_classes, width = renamed["classifiers.0.lin.weight"].shape
        num_layers = len({key.split(".")[1] for key in renamed if key.startswith("layers.")})
        options |= {
            "reduction": max(1, in_channels // channels),
            "every": "classifiers.1.lin.weight" in renamed,
            "cat": width != channels,
            "neck": "classifiers.0.norm.weight" in renamed,
        }
        model = cls(in_channels, num_classes, num_layers, heads, **options)
        _check_fit(renamed, model.state_dict())
        model.load_state_dict(renamed)
        return model


ORIGINAL_NEEDED = ("dim_red.weight", "fc.0.weight", "gnn_model.node_model.layers.0.att.q_linear.weight")
"""Keys of the authors from which the sizes are read."""

ORIGINAL_NAMES = {
    r"^dim_red\.": "lin.",
    r"^gnn_model\.node_model\.layers\.": "layers.",
    r"\.att\.out\.": ".attention.proj.",
    r"\.att\.q_linear\.": ".attention.query.",
    r"\.att\.k_linear\.": ".attention.key.",
    r"\.att\.v_linear\.": ".attention.value.",
    r"\.linear1\.": ".mlp.0.",
    r"\.linear2\.": ".mlp.3.",
    r"^bottleneck\.(\d+)\.": r"classifiers.\1.norm.",
    r"^fc\.(\d+)\.": r"classifiers.\1.lin.",
}
"""The authors' names and ours."""


def _our_key(key: str) -> str:
    for theirs, ours in ORIGINAL_NAMES.items():
        key = re.sub(theirs, ours, key)
    return key


def _check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    wrong = sorted(found.keys() ^ expected.keys())
    if wrong:
        raise ValueError(
            f"not a network of Intra-Batch Connections: missing or unexpected {', '.join(wrong)}"
        )
    misshaped = [key for key, value in found.items() if value.shape != expected[key].shape]
    if misshaped:
        raise ValueError(f"not a network of Intra-Batch Connections: wrong shape of {', '.join(misshaped)}")
