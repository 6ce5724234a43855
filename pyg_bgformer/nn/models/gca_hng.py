"""The graph network of GCA-HNG: correlations between the samples of a batch, channel by channel."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.nn.backend import Edges
from pyg_bgformer.nn.conv.gca_conv import EdgeToNodeConv, GCABackend, NodeToEdgeAttention
from pyg_bgformer.nn.conv.margin_attention_conv import MarginAttentionConv


class GCALayer(nn.Module):
    r"""One layer of :class:`GCANetwork`: nodes learn from nodes of other classes and from their edges, then edges
    from their two nodes.

    With :math:`\textrm{N}(\cdot) = \textrm{LayerNorm}(\textrm{GELU}(\cdot))`, one for nodes and one for edges,

    .. math::
        \mathbf{u} &= \textrm{N}(\mathbf{x} + \textrm{attention}(\mathbf{x})), \quad
        \mathbf{u}^{\prime} = \textrm{N}(\mathbf{u} + \textrm{edges}(\mathbf{e})), \quad
        \mathbf{x}^{\prime} = \textrm{N}(\mathbf{u}^{\prime} + \textrm{FFN}(\mathbf{u}^{\prime}))

        \mathbf{p} &= \textrm{N}(\mathbf{e} + \textrm{attention}(\mathbf{e}, \mathbf{x}^{\prime})), \quad
        \mathbf{e}^{\prime} = \textrm{N}(\mathbf{p} + \textrm{FFN}(\mathbf{p}))

    Args:
        in_channels (int): Size :math:`D` of nodes and edges.
        heads (int): Attention heads of the nodes. (default: :obj:`4`)
        dropout (float): See :class:`~pyg_bgformer.nn.conv.gca_conv.NodeToEdgeAttention`. (default: :obj:`0.1`)
        backend (str): See :obj:`~pyg_bgformer.nn.conv.gca_conv.GCABackend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, edge features :math:`(N, N, D)`, the edges :math:`(2, E)` along
          which nodes attend to each other
        - **output:** node features :math:`(N, D)`, edge features :math:`(N, N, D)`, and with
          ``return_attention_weights`` these two with the edges and the nodes' attention :math:`((2, E), (E, H))`
    """

    def __init__(
        self, in_channels: int, heads: int = 4, dropout: float = 0.1, backend: GCABackend = "auto"
    ) -> None:
        super().__init__()
        hidden = 4 * in_channels
        self.attention = MarginAttentionConv(in_channels, heads, dropout=0.0, backend=backend)
        self.edge_to_node = EdgeToNodeConv(in_channels, backend)
        self.node_norm = nn.Sequential(nn.GELU(), nn.LayerNorm(in_channels))
        self.node_mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.GELU(), nn.Linear(hidden, in_channels)
        )
        self.edge_attention = NodeToEdgeAttention(in_channels, dropout, backend)
        self.edge_norm = nn.Sequential(nn.GELU(), nn.LayerNorm(in_channels))
        self.edge_mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.GELU(), nn.LayerNorm(hidden), nn.Linear(hidden, in_channels)
        )

    def forward(
        self, x: Tensor, edge_attr: Tensor, edge_index: Tensor, return_attention_weights: bool = False
    ) -> tuple[Tensor, Tensor] | tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Returns the new features of nodes ``(N, D)`` and edges ``(N, N, D)``.

        With ``return_attention_weights`` also the edges and the weights of the nodes' attention along them.
        """
        out = self.attention(x, edge_index, return_attention_weights=return_attention_weights)
        attended, edges = out if return_attention_weights else (out, None)
        x = self.node_norm(x + attended)
        x = self.node_norm(x + self.edge_to_node(edge_attr))
        x = self.node_norm(x + self.node_mlp(x))
        edge_attr = self.edge_norm(edge_attr + self.edge_attention(x, edge_attr))
        edge_attr = self.edge_norm(edge_attr + self.edge_mlp(edge_attr))
        return (x, edge_attr) if edges is None else ((x, edge_attr), edges)


class GCANetwork(nn.Module):
    r"""The graph network of the `"Globally Correlation-Aware Hard Negative Generation"
    <https://doi.org/10.1007/s11263-024-02288-0>`_ paper, which weighs each channel of each pair of samples.

    An edge starts as the product of both samples' features, centred over the channels and of length 1,

    .. math::
        \mathbf{e}_{rc} = \hat{\mathbf{z}}_r \odot \hat{\mathbf{z}}_c, \qquad \hat{\mathbf{z}} = \frac{\mathbf{z} -
        \bar{z}}{\Vert \mathbf{z} - \bar{z} \Vert}

    whose channels sum to the samples' Pearson correlation. After the layers, :math:`\sigma(\mathbf{W}
    \textrm{BN}(\mathbf{e}_{rc}) + \mathbf{b})` are the pair's channel weights. Batches are complete graphs of any
    size and order; labels say between which nodes there is attention: those of different classes. Memory grows
    with :math:`4 D N^2` numbers a layer.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        num_classes (int): Classes that the nodes are told apart by.
        num_layers (int): Number of layers. (default: :obj:`2`)
        heads (int): Attention heads of the nodes. (default: :obj:`4`)
        dropout (float): Of the edges' attention. With it, the pairs :math:`(r, c)` and :math:`(c, r)` differ in
            training. (default: :obj:`0.1`)
        backend (str): See :obj:`~pyg_bgformer.nn.conv.gca_conv.GCABackend`. (default: ``"auto"``)

    Shapes:
        - **input:** sample features :math:`(N, D)`, labels :math:`(N)`
        - **output:** class logits :math:`(N, C)`, channel weights :math:`(N, N, D)` in (0, 1), row and column in
          the samples' order; with ``return_attention_weights`` these two with the edges of each layer

    Raises:
        ValueError: If there are no layers, ``heads`` does not divide ``in_channels``, or an option is not known or
            out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        backend: GCABackend = "auto",
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, found {num_layers}")
        self.lin = nn.Linear(in_channels, in_channels)
        self.layers = nn.ModuleList(GCALayer(in_channels, heads, dropout, backend) for _ in range(num_layers))
        self.node_neck, self.edge_neck = nn.BatchNorm1d(in_channels), nn.BatchNorm1d(in_channels)
        for neck in (self.node_neck, self.edge_neck):
            neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(in_channels, num_classes)
        self.weigher = nn.Linear(in_channels, in_channels)

    def forward(
        self, z: Tensor, labels: Tensor, return_attention_weights: bool = False
    ) -> tuple[Tensor, Tensor] | tuple[tuple[Tensor, Tensor], Edges]:
        """Returns class logits ``(N, C)`` and channel weights ``(N, N, D)``.

        With ``return_attention_weights`` also the edges between samples of different classes and the weights of the
        nodes' attention along them, as ``{"layers.0.attention": ((2, E), (E, H)), ...}``.
        """
        x, edge_attr, edges = self.lin(z), correlations(z), {}
        edge_index = (labels[:, None] != labels[None, :]).nonzero().t()
        for i, layer in enumerate(self.layers):
            out = layer(x, edge_attr, edge_index, return_attention_weights)
            if return_attention_weights:
                out, edges[f"layers.{i}.attention"] = out
            x, edge_attr = out
        weights = self.weigher(self.edge_neck(edge_attr.flatten(0, 1))).sigmoid().view_as(edge_attr)
        logits = self.classifier(self.node_neck(x))
        return ((logits, weights), edges) if return_attention_weights else (logits, weights)

    @classmethod
    def from_original(
        cls,
        state_dict: Mapping[str, Tensor],
        *,
        heads: int,
        dropout: float = 0.1,
        backend: GCABackend = "auto",
    ) -> "GCANetwork":
        """Builds the network that a checkpoint of the authors' code describes, with its weights.

        Keys may carry the full model's prefix ``gnn.``; those of its other parts are left alone, and so is
        ``update_node``, which their code never uses. Heads are not in a checkpoint and must be said.

        Raises:
            ValueError: If keys or shapes are not those of the network.
        """
        tensors = _renamed(state_dict)
        if "lin.weight" not in tensors or "classifier.weight" not in tensors:
            raise ValueError(
                "not a network of GCA-HNG: expected keys such as 'dim_red.weight', 'cls.0.weight'"
            )
        num_layers = len({key.split(".")[1] for key in tensors if key.startswith("layers.")})
        in_channels, num_classes = tensors["lin.weight"].size(0), tensors["classifier.weight"].size(0)
        model = cls(in_channels, num_classes, num_layers, heads, dropout, backend)
        try:
            model.load_state_dict(tensors)
        except RuntimeError as error:
            raise ValueError(f"not a network of GCA-HNG: {' '.join(str(error).split())}") from error
        return model


def correlations(z: Tensor) -> Tensor:
    """Products ``(N, N, D)`` of samples ``(N, D)``, each centred over its channels and of length 1."""
    with torch.autocast(z.device.type, enabled=False):
        z = z if z.dtype == torch.float64 else z.float()
        z = F.normalize(z - z.mean(dim=1, keepdim=True), dim=1)
        return z[:, None] * z[None, :]


ORIGINAL_NAMES = {
    "dim_red.": "lin.",
    "bottleneck1.0.": "edge_neck.",
    "bottleneck2.0.": "node_neck.",
    "fc.0.": "weigher.",
    "cls.0.": "classifier.",
    "gnn.": "layers.",
    ".node_model.layers.0.att.q_linear.": ".attention.query.",
    ".node_model.layers.0.att.k_linear.": ".attention.key.",
    ".node_model.layers.0.att.v_linear.": ".attention.value.",
    ".node_model.layers.0.att.out.": ".attention.proj.",
    ".node_model.layers.0.edge_to_node.": ".edge_to_node.lin.",
    ".node_model.layers.0.linear1.": ".node_mlp.0.",
    ".node_model.layers.0.linear2.": ".node_mlp.2.",
    ".node_model.layers.0.norm.1.": ".node_norm.1.",
    ".edge_model.node_to_edge.": ".edge_attention.lin_node.",
    ".edge_model.att.q_linear.": ".edge_attention.lin_query.",
    ".edge_model.att.k_linear.": ".edge_attention.lin_key.",
    ".edge_model.att.v_linear.": ".edge_attention.lin_value.",
    ".edge_model.norm.1.": ".edge_norm.1.",
    ".edge_model.linear.": ".edge_mlp.",
}
"""Parts of the authors' names and ours."""


def _renamed(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefix = "gnn." if "gnn.dim_red.weight" in state_dict else ""
    renamed = {}
    for key, value in state_dict.items():
        if key.startswith(prefix) and ".update_node." not in key:
            key = key.removeprefix(prefix)
            for theirs, ours in ORIGINAL_NAMES.items():
                key = key.replace(theirs, ours)
            renamed[key] = value
    return renamed
