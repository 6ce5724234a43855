"""The graph network of GCA-HNG, which computes channel weights for all pairs of a batch."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyg_bgformer.errors import check_range
from pyg_bgformer.graph import mask_to_edges
from pyg_bgformer.nn.conv.gca_conv import EdgeToNodeConv, NodeToEdgeAttention
from pyg_bgformer.nn.conv.margin_attention_conv import MarginAttentionConv, MarginBackend
from pyg_bgformer.nn.ops import Edges
from pyg_bgformer.precision import wide


class GCALayer(nn.Module):
    r"""One layer of :class:`GCANetwork`, from the `"Globally Correlation-Aware Hard Negative Generation"
    <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    First the nodes attend to nodes of other classes, and sum the messages of their edges. Then the edges attend to
    their two nodes. With :math:`\textrm{N}(\cdot) = \textrm{LayerNorm}(\textrm{GELU}(\cdot))`, one LayerNorm for
    all nodes and one for all edges,

    .. math::
        \mathbf{u} &= \textrm{N}(\mathbf{x} + \textrm{attention}(\mathbf{x})), \quad
        \mathbf{u}^{\prime} = \textrm{N}(\mathbf{u} + \textrm{edges}(\mathbf{e})), \quad
        \mathbf{x}^{\prime} = \textrm{N}(\mathbf{u}^{\prime} + \textrm{FFN}(\mathbf{u}^{\prime}))

        \mathbf{p} &= \textrm{N}(\mathbf{e} + \textrm{attention}(\mathbf{e}, \mathbf{x}^{\prime})), \quad
        \mathbf{e}^{\prime} = \textrm{N}(\mathbf{p} + \textrm{FFN}(\mathbf{p}))

    Args:
        in_channels (int): Size :math:`D` of nodes and edges, a multiple of ``heads``.
        heads (int): Number of attention heads of the nodes. (default: :obj:`4`)
        dropout (float): See :class:`~pyg_bgformer.nn.NodeToEdgeAttention`. (default: :obj:`0.1`)
        backend (str): See :obj:`~pyg_bgformer.nn.conv.margin_attention_conv.MarginBackend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, edge features :math:`(N, N, D)`, the edges :math:`(2, E)` along
          which nodes attend to each other
        - **output:** node features :math:`(N, D)` and edge features :math:`(N, N, D)` or, with
          ``return_attention_weights``, the pair of these and :math:`((2, E), (E, H))`

    Raises:
        InputError: If ``heads`` does not divide ``in_channels``, or an option is unknown or out of its range.
    """

    def __init__(
        self, in_channels: int, heads: int = 4, dropout: float = 0.1, backend: MarginBackend = "auto"
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

        With ``return_attention_weights`` it also returns the edges and weights of the nodes' attention.
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
    r"""The graph network that computes a weight for each channel of each pair of samples, from the `"Globally
    Correlation-Aware Hard Negative Generation" <https://doi.org/10.1007/s11263-024-02288-0>`_ paper.

    The first features of an edge are the products of both samples' features, centred and normalised:

    .. math::
        \mathbf{e}_{rc} = \hat{\mathbf{z}}_r \odot \hat{\mathbf{z}}_c, \qquad \hat{\mathbf{z}} = \frac{\mathbf{z} -
        \bar{z}}{\Vert \mathbf{z} - \bar{z} \Vert}

    Their sum over the channels is the Pearson correlation of the samples. After the layers,
    :math:`\sigma(\mathbf{W} \, \textrm{BN}(\mathbf{e}_{rc}) + \mathbf{b})` are the channel weights of the pair. A
    batch is a complete graph of any size, with its samples in any order. Nodes attend to nodes of other classes
    only; this is what the labels are for. Each layer stores at least :math:`4 D N^2` numbers for its gradients.

    Args:
        in_channels (int): Size :math:`D` of each sample, a multiple of ``heads``.
        num_classes (int): Number :math:`C` of classes into which the nodes are classified.
        num_layers (int): Number of layers. (default: :obj:`2`)
        heads (int): Number of attention heads of the nodes. (default: :obj:`4`)
        dropout (float): Dropout of the edges' attention, in [0, 1). It makes the channel weights of :math:`(r, c)`
            and :math:`(c, r)` differ in training. (default: :obj:`0.1`)
        backend (str): See :obj:`~pyg_bgformer.nn.conv.margin_attention_conv.MarginBackend`. (default: ``"auto"``)

    Shapes:
        - **input:** sample features :math:`(N, D)`, labels :math:`(N)`
        - **output:** class logits :math:`(N, C)` and channel weights :math:`(N, N, D)` in (0, 1), rows and columns
          in the order of the samples. With ``return_attention_weights`` it is the pair of these and
          :obj:`~pyg_bgformer.nn.ops.Edges`.

    Raises:
        InputError: If ``heads`` does not divide ``in_channels``, or an option is unknown or out of its range.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        num_layers: int = 2,
        heads: int = 4,
        dropout: float = 0.1,
        backend: MarginBackend = "auto",
    ) -> None:
        super().__init__()
        check_range("num_layers", num_layers, at_least=1)
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

        With ``return_attention_weights`` it also returns the edges between samples of different classes and the
        nodes' attention weights along them, as ``{"layers.0.attention": ((2, E), (E, H)), ...}``.
        """
        x, edge_attr = self.lin(z), correlations(z)
        edge_index = mask_to_edges(labels[:, None] != labels[None, :])
        edges: Edges = {}
        for i, layer in enumerate(self.layers):
            out = layer(x, edge_attr, edge_index, return_attention_weights)
            if return_attention_weights:
                out, edges[f"layers.{i}.attention"] = out
            x, edge_attr = out
        weights = self.weigher(self.edge_neck(edge_attr.flatten(0, 1))).sigmoid().view_as(edge_attr)
        logits = self.classifier(self.node_neck(x))
        return ((logits, weights), edges) if return_attention_weights else (logits, weights)


def correlations(z: Tensor) -> Tensor:
    """Returns the products ``(N, N, D)`` of all pairs of samples, each centred over its channels and of length 1.

    Args:
        z: Samples ``(N, D)``.
    """
    with torch.autocast(z.device.type, enabled=False):
        z = wide(z)
        z = F.normalize(z - z.mean(dim=1, keepdim=True), dim=1)
        return z[:, None] * z[None, :]
