"""BGFormer, the Batch-Graph Transformer: blocks in which the samples of a mini-batch refine each other."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.nn import GraphNorm
from torch_geometric.utils import scatter

from pyg_bgformer.errors import InputError, check_choice, check_range
from pyg_bgformer.nn.conv.affinity_conv import AffinityConv
from pyg_bgformer.nn.conv.label_conv import LabelConv
from pyg_bgformer.nn.conv.ssa_conv import Neighbours, SSAConv
from pyg_bgformer.nn.ops import Backend, Edges

Branches = Literal["dual", "visual", "semantic", "full"]
Visual = Literal["attention", "affinity"]
Semantic = Literal["propagation", "attention"]
Norm = Literal["graph", "spread", "layer"]


class BGFormerLayer(nn.Module):
    r"""One block of BGFormer: dual structure-constrained self-attention, graph normalisation and a feed-forward
    network, from the `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph Transformer
    based Approach" <https://arxiv.org/abs/2211.10622>`_ paper.

    .. math::
        \mathbf{X}^{\prime} &= \mathbf{X} + \lambda \, \textrm{VG}(\textrm{norm}(\mathbf{X})) + (1 - \lambda)
        \, \textrm{SG}(\textrm{norm}(\mathbf{X}))

        \mathbf{X}^{\prime\prime} &= \mathbf{X}^{\prime} + \textrm{FFN}(\textrm{norm}(\mathbf{X}^{\prime}))

    The visual branch VG follows the visual edges, the semantic branch SG the semantic ones. A block can also have a
    single branch, without :math:`\lambda`: the visual or the semantic one, or ``"full"``, ordinary self-attention
    over the batch. ``norm="layer"`` and ``neighbours="scores"`` give the block of the authors' code.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        heads (int): Number of attention heads. They must divide :math:`D`. (default: :obj:`8`)
        k (int, optional): With ``neighbours="scores"``, the number of visual neighbours. :obj:`None` takes all.
            With ``"graph"`` the caller gives the edges. (default: :obj:`None`)
        lam (float): Weight :math:`\lambda` of the visual branch, in [0, 1]. (default: :obj:`0.5`)
        learn_lam (bool): Learn :math:`\lambda`. It starts from ``lam``, which must lie in (0, 1).
            (default: :obj:`False`)
        branches (str): ``"dual"``, ``"visual"``, ``"semantic"`` or ``"full"``. (default: ``"dual"``)
        visual (str): ``"attention"`` (:class:`~pyg_bgformer.nn.SSAConv`) or ``"affinity"``
            (:class:`~pyg_bgformer.nn.AffinityConv`). (default: ``"attention"``)
        semantic (str): ``"propagation"`` (:class:`~pyg_bgformer.nn.LabelConv`) or ``"attention"``
            (:class:`~pyg_bgformer.nn.SSAConv` along the semantic edges). (default: ``"propagation"``)
        neighbours (str): Where the visual edges come from: ``"graph"``, or ``"scores"`` as in the authors' code.
            (default: ``"graph"``)
        norm (str): ``"graph"``: :class:`torch_geometric.nn.GraphNorm`. ``"layer"``: LayerNorm. ``"spread"``:
            GraphNorm, and the :func:`spread` of the block's input multiplies what the block adds. With GraphNorm
            alone, the labels add values of a fixed size. An encoder that shrinks its features then reaches a low
            loss from the labels alone. With ``"spread"`` the added values shrink too. (default: ``"graph"``)
        self_weight (float): See :class:`~pyg_bgformer.nn.LabelConv`. (default: :obj:`2.`)
        mlp_ratio (float): Hidden size of the feed-forward network, in multiples of :math:`D`.
            (default: :obj:`4.`)
        dropout (float): Probability of dropping attention weights and outputs of the feed-forward network, in
            [0, 1). (default: :obj:`0.`)
        backend (str): See :obj:`~pyg_bgformer.nn.ops.Backend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, visual edge indices :math:`(2, E_v)` *(only with a visual branch
          and* ``neighbours="graph"`` *)*, semantic edge indices :math:`(2, E_s)` *(only with a semantic branch)*,
          batch vector :math:`(N)` *(optional)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, these and
          ``{"visual": ((2, E), weights), "semantic": ((2, E), weights)}``. The weights are :math:`(E, H)` for
          attention, :math:`(E)` otherwise.

    Raises:
        InputError: If an option is unknown or out of its range. In the forward pass: if needed edges are missing.
    """

    def __init__(
        self,
        in_channels: int,
        heads: int = 8,
        *,
        k: int | None = None,
        lam: float = 0.5,
        learn_lam: bool = False,
        branches: Branches = "dual",
        visual: Visual = "attention",
        semantic: Semantic = "propagation",
        neighbours: Neighbours = "graph",
        norm: Norm = "graph",
        self_weight: float = 2.0,
        mlp_ratio: float = 4.0,
        dropout: float = 0.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        check_choice("branches", branches, ("dual", "visual", "semantic", "full"))
        check_choice("visual", visual, ("attention", "affinity"))
        check_choice("semantic", semantic, ("propagation", "attention"))
        check_choice("norm", norm, ("graph", "spread", "layer"))
        check_range("lam", lam, at_least=0, at_most=1)
        check_range("dropout", dropout, at_least=0, below=1)
        if learn_lam and lam in (0, 1):
            raise InputError(f"a learned lam must start inside (0, 1), found {lam}")
        if branches == "full" and k is not None:
            raise InputError(f"branches='full' attends to all samples; leave k out, found {k}")
        self.branches = branches
        self.lam = lam
        self.lam_logit = nn.Parameter(torch.tensor(math.log(lam / (1 - lam)))) if learn_lam else None

        self.visual: SSAConv | AffinityConv | None = None
        if branches == "full":
            self.visual = SSAConv(in_channels, heads, dropout, neighbours="scores", backend=backend)
        elif branches != "semantic" and visual == "attention":
            self.visual = SSAConv(in_channels, heads, dropout, neighbours=neighbours, k=k, backend=backend)
        elif branches != "semantic":
            self.visual = AffinityConv(neighbours, k, backend)

        self.semantic: SSAConv | LabelConv | None = None
        if branches in ("dual", "semantic") and semantic == "propagation":
            self.semantic = LabelConv(in_channels, self_weight, backend)
        elif branches in ("dual", "semantic"):
            self.semantic = SSAConv(in_channels, heads, dropout, backend=backend)

        # Attention has its own output projection. LabelConv and AffinityConv have none and share this one.
        unprojected = [
            conv for conv in (self.visual, self.semantic) if conv and not isinstance(conv, SSAConv)
        ]
        self.proj = nn.Linear(in_channels, in_channels) if unprojected else None

        make_norm = nn.LayerNorm if norm == "layer" else GraphNorm
        self.scaled = norm == "spread"
        self.norm1, self.norm2 = make_norm(in_channels), make_norm(in_channels)
        hidden = round(mlp_ratio * in_channels)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.GELU(), nn.Linear(hidden, in_channels), nn.Dropout(dropout)
        )

    def forward(
        self,
        x: Tensor,
        visual_edge_index: Tensor | None = None,
        semantic_edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Edges]:
        """Returns the refined features ``(N, D)``.

        With ``return_attention_weights`` it also returns the edges and weights of ``"visual"`` and ``"semantic"``.
        """
        edges: Edges | None = {} if return_attention_weights else None
        normed, added = _normalised(self.norm1, x, batch), []
        if self.visual is not None:
            from_graph = self.visual.neighbours == "graph"
            edge_index = _needed(visual_edge_index, "visual_edge_index") if from_graph else None
            added.append(self._branch("visual", edges, normed, edge_index, batch))
        if self.semantic is not None:
            edge_index = _needed(semantic_edge_index, "semantic_edge_index")
            added.append(self._branch("semantic", edges, normed, edge_index))
        if self.branches == "dual":
            lam = self.lam if self.lam_logit is None else self.lam_logit.sigmoid()
            mixed = lam * added[0] + (1 - lam) * added[1]
        else:
            mixed = added[0]
        x = x + (mixed * spread(x, batch) if self.scaled else mixed)
        mixed = self.mlp(_normalised(self.norm2, x, batch))
        x = x + (mixed * spread(x, batch) if self.scaled else mixed)
        return x if edges is None else (x, edges)

    def _branch(self, name: str, edges: Edges | None, *inputs: Tensor | None) -> Tensor:
        """Returns the output of a branch, and adds the branch's edges and weights to ``edges`` if it is a dict."""
        conv = getattr(self, name)
        out = conv(*inputs, return_attention_weights=edges is not None)
        if edges is not None:
            out, edges[name] = out
        return out if self.proj is None or isinstance(conv, SSAConv) else self.proj(out)


class BGFormer(nn.Module):
    r"""The Batch-Graph Transformer: ``num_layers`` blocks of :class:`BGFormerLayer`, one after another.

    It refines the samples of a batch *during training*. The encoder that feeds it is deployed alone, because a
    refined sample depends on its batch and, through the semantic edges, on the labels.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        num_layers (int): Number of blocks. (default: :obj:`1`)
        heads (int): Number of attention heads. (default: :obj:`8`)
        **options: All other options of :class:`BGFormerLayer`.

    Shapes:
        - **input:** as in :class:`BGFormerLayer`
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, these and
          :obj:`~pyg_bgformer.nn.ops.Edges`

    Raises:
        InputError: If an option is unknown or out of its range.
    """

    def __init__(self, in_channels: int, num_layers: int = 1, heads: int = 8, **options: Any) -> None:
        super().__init__()
        check_range("num_layers", num_layers, at_least=1)
        self.layers = nn.ModuleList(BGFormerLayer(in_channels, heads, **options) for _ in range(num_layers))

    def forward(
        self,
        x: Tensor,
        visual_edge_index: Tensor | None = None,
        semantic_edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Edges]:
        """Returns the refined features ``(N, D)``.

        With ``return_attention_weights`` it also returns the edges and weights of each block's branches, as
        ``{"layers.0.visual": ((2, E), (E, H)), "layers.0.semantic": ((2, E), (E,)), ...}``.
        """
        edges: Edges = {}
        for i, layer in enumerate(self.layers):
            out = layer(x, visual_edge_index, semantic_edge_index, batch, return_attention_weights)
            x, branches = out if return_attention_weights else (out, {})
            edges |= {f"layers.{i}.{name}": weighted for name, weighted in branches.items()}
        return (x, edges) if return_attention_weights else x


def spread(x: Tensor, batch: Tensor | None = None) -> Tensor:
    """Returns how far apart the nodes of each graph are.

    It is the standard deviation over the nodes, as a root mean square over the dimensions.

    Args:
        x: Node features ``(N, D)``.
        batch: Graph of each node ``(N,)``. Without it all nodes belong to one graph.

    Returns:
        ``(N, 1)``: for each node the value of its graph.
    """
    if batch is None:
        variance = (x - x.mean(dim=0)).square().mean()
        return (variance + 1e-12).sqrt().expand(x.size(0), 1)
    mean = scatter(x, batch, dim_size=x.size(0), reduce="mean")
    squares = (x - mean[batch]).square().mean(dim=1, keepdim=True)
    return (scatter(squares, batch, dim_size=x.size(0), reduce="mean") + 1e-12).sqrt()[batch]


def _normalised(norm: nn.Module, x: Tensor, batch: Tensor | None) -> Tensor:
    if not isinstance(norm, GraphNorm):
        return norm(x)
    if batch is None:
        # GraphNorm scatters all nodes into one row. On CUDA that sum has no fixed order, and compiled it was wrong
        # (torch 2.11).
        centred = x - norm.mean_scale * x.mean(dim=0)
        return norm.weight * centred / (centred.square().mean(dim=0) + norm.eps).sqrt() + norm.bias
    # The number of nodes bounds the number of graphs. To read the exact number, the CPU would wait for the GPU.
    return norm(x, batch, x.size(0))


def _needed(edge_index: Tensor | None, name: str) -> Tensor:
    if edge_index is None:
        raise InputError(f"these branches need {name}; build the graph with batch_graph(x, y)")
    return edge_index
