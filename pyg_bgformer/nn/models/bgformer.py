"""The Batch-Graph Transformer: blocks that let the samples of a mini-batch refine each other."""

import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import GraphNorm

from pyg_bgformer.nn.backend import Backend, Edges
from pyg_bgformer.nn.conv.affinity_conv import AffinityConv
from pyg_bgformer.nn.conv.label_conv import LabelConv
from pyg_bgformer.nn.conv.ssa_conv import Neighbours, SSAConv

Branches = Literal["dual", "visual", "semantic", "full"]
Visual = Literal["attention", "affinity"]
Semantic = Literal["propagation", "attention"]
Norm = Literal["graph", "layer"]


class BGFormerLayer(nn.Module):
    r"""One block of BGFormer: dual structure-constrained self-attention, graph normalisation and a feed-forward
    network, from the `"Rethinking Batch Sample Relationships for Data Representation: A Batch-Graph Transformer
    based Approach" <https://arxiv.org/abs/2211.10622>`_ paper.

    .. math::
        \mathbf{X}^{\prime} &= \mathbf{X} + \lambda \, \textrm{VG}(\textrm{norm}(\mathbf{X})) + (1 - \lambda)
        \, \textrm{SG}(\textrm{norm}(\mathbf{X}))

        \mathbf{X}^{\prime\prime} &= \mathbf{X}^{\prime} + \textrm{FFN}(\textrm{norm}(\mathbf{X}^{\prime}))

    VG follows the visual edges, SG the semantic ones. With one branch alone (``branches="visual"``,
    ``"semantic"``, or ``"full"``: ordinary self-attention over the batch) there is no :math:`\lambda`.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        heads (int): Attention heads. (default: :obj:`8`)
        k (int, optional): Visual neighbours with ``neighbours="scores"``, where :obj:`None` takes all; with
            ``"graph"`` the edges say it. (default: :obj:`None`)
        lam (float): Weight :math:`\lambda` of the visual branch, in [0, 1]. (default: :obj:`0.5`)
        learn_lam (bool): Learn :math:`\lambda`, starting from ``lam`` inside (0, 1). (default: :obj:`False`)
        branches (str): ``"dual"``, ``"visual"``, ``"semantic"`` or ``"full"``. (default: ``"dual"``)
        visual (str): ``"attention"`` (:class:`SSAConv`) or ``"affinity"`` (:class:`AffinityConv`).
            (default: ``"attention"``)
        semantic (str): ``"propagation"`` (:class:`LabelConv`) or ``"attention"`` (:class:`SSAConv` along the
            semantic edges). (default: ``"propagation"``)
        neighbours (str): Where visual edges come from: ``"graph"``, or ``"scores"`` as in the original.
            (default: ``"graph"``)
        norm (str): ``"graph"`` (:class:`torch_geometric.nn.GraphNorm`) or ``"layer"``. (default: ``"graph"``)
        self_weight (float): See :class:`LabelConv`. (default: :obj:`2.`)
        mlp_ratio (float): Hidden size of the feed-forward network in multiples of :math:`D`.
            (default: :obj:`4.`)
        dropout (float): Probability of dropping attention weights and outputs of the feed-forward network.
            (default: :obj:`0.`)
        drop_path (float): Probability with which a sample skips a residual branch. (default: :obj:`0.`)
        backend (str): See :obj:`~pyg_bgformer.nn.backend.Backend`. (default: ``"auto"``)

    Shapes:
        - **input:** node features :math:`(N, D)`, visual edge indices :math:`(2, E_v)` *(where that branch takes
          them from the graph)*, semantic edge indices :math:`(2, E_s)` *(where there is that branch)*, batch
          vector :math:`(N)` *(optional)*
        - **output:** node features :math:`(N, D)`

    Raises:
        ValueError: If an option is not known or out of its range, or if needed edges are missing.
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
        drop_path: float = 0.0,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        _check("branches", branches, ("dual", "visual", "semantic", "full"))
        _check("visual", visual, ("attention", "affinity"))
        _check("semantic", semantic, ("propagation", "attention"))
        _check("norm", norm, ("graph", "layer"))
        if not 0 <= lam <= 1 or (learn_lam and lam in (0, 1)):
            raise ValueError(f"lam must lie in [0, 1], and inside it to be learned; found {lam}")
        for name, probability in (("dropout", dropout), ("drop_path", drop_path)):
            if not 0 <= probability < 1:
                raise ValueError(f"{name} must lie in [0, 1), found {probability}")
        self.branches = branches
        self.lam = lam
        self.lam_logit = nn.Parameter(torch.tensor(math.log(lam / (1 - lam)))) if learn_lam else None
        self.visual: SSAConv | AffinityConv | None = None
        self.semantic: SSAConv | LabelConv | None = None

        if branches == "full" and k is not None:
            raise ValueError(f"branches='full' attends to all samples: leave k out, found {k}")
        if branches == "full":
            self.visual = SSAConv(in_channels, heads, dropout, neighbours="scores", backend=backend)
        elif branches != "semantic" and visual == "attention":
            self.visual = SSAConv(in_channels, heads, dropout, neighbours=neighbours, k=k, backend=backend)
        elif branches != "semantic":
            self.visual = AffinityConv(neighbours, k, backend)

        if branches in ("dual", "semantic") and semantic == "propagation":
            self.semantic = LabelConv(in_channels, self_weight, backend=backend)
        elif branches in ("dual", "semantic"):
            self.semantic = SSAConv(in_channels, heads, dropout, backend=backend)

        convs = [conv for conv in (self.visual, self.semantic) if conv is not None]
        # Attention projects its own output. The two propagations have none and share this one.
        unprojected = any(not isinstance(conv, SSAConv) for conv in convs)
        self.proj = nn.Linear(in_channels, in_channels) if unprojected else None

        make_norm = GraphNorm if norm == "graph" else nn.LayerNorm
        self.norm1, self.norm2 = make_norm(in_channels), make_norm(in_channels)
        hidden = round(mlp_ratio * in_channels)
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, hidden), nn.GELU(), nn.Linear(hidden, in_channels), nn.Dropout(dropout)
        )
        self.drop_path = drop_path

    def forward(
        self,
        x: Tensor,
        visual_edge_index: Tensor | None = None,
        semantic_edge_index: Tensor | None = None,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Edges]:
        """Returns the refined features ``(N, D)``.

        With ``return_attention_weights`` also the edges and weights of ``"visual"`` and ``"semantic"``.
        """
        edges: Edges = {}
        normed = _normalised(self.norm1, x, batch)
        added = self._attend(
            normed, visual_edge_index, semantic_edge_index, batch, edges if return_attention_weights else None
        )
        x = x + self._some_rows(added)
        x = x + self._some_rows(self.mlp(_normalised(self.norm2, x, batch)))
        return (x, edges) if return_attention_weights else x

    def _attend(
        self,
        x: Tensor,
        visual_edge_index: Tensor | None,
        semantic_edge_index: Tensor | None,
        batch: Tensor | None,
        edges: Edges | None,
    ) -> Tensor:
        r"""What the branches add to normalised features: :math:`\lambda` VG + :math:`(1-\lambda)` SG.

        Where ``edges`` is a dictionary, the branches' edges and weights are put into it.
        """
        visual, semantic, asked = torch.zeros_like(x), torch.zeros_like(x), edges is not None
        if self.visual is not None:
            from_graph = self.visual.neighbours == "graph"
            edge_index = _needed(visual_edge_index, "visual_edge_index") if from_graph else None
            out = self.visual(x, edge_index, batch, return_attention_weights=asked)
            if edges is not None:
                out, edges["visual"] = out
            visual = self._projected(self.visual, out)
        if self.semantic is not None:
            edge_index = _needed(semantic_edge_index, "semantic_edge_index")
            out = self.semantic(x, edge_index, return_attention_weights=asked)
            if edges is not None:
                out, edges["semantic"] = out
            semantic = self._projected(self.semantic, out)
        if self.branches != "dual":
            return visual + semantic
        lam = self.lam if self.lam_logit is None else self.lam_logit.sigmoid()
        return lam * visual + (1 - lam) * semantic

    def _some_rows(self, x: Tensor) -> Tensor:
        """Stochastic depth by sample: whole rows are dropped, the others scaled up."""
        return x * F.dropout(x.new_ones(x.size(0), 1), self.drop_path, self.training)

    def _projected(self, conv: nn.Module, x: Tensor) -> Tensor:
        return x if self.proj is None or isinstance(conv, SSAConv) else self.proj(x)


class BGFormer(nn.Module):
    r"""The Batch-Graph Transformer: ``num_layers`` of :class:`BGFormerLayer`, one after another.

    It refines the samples of a batch *while training*; what is deployed is the encoder that feeds it, because a
    refined sample depends on the batch it came in and, through the semantic edges, on the labels.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        num_layers (int): Number of blocks. (default: :obj:`1`)
        heads (int): Attention heads. (default: :obj:`8`)
        **options: All other options of :class:`BGFormerLayer`.

    Shapes:
        As in :class:`BGFormerLayer`.
    """

    def __init__(self, in_channels: int, num_layers: int = 1, heads: int = 8, **options: Any) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers must be at least 1, found {num_layers}")
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

        With ``return_attention_weights`` also the edges and weights of each block's branches, as
        ``{"layers.0.visual": ((2, E), (E, H)), "layers.0.semantic": ((2, E), (E,)), ...}``.
        """
        edges: Edges = {}
        for i, layer in enumerate(self.layers):
            x = layer(x, visual_edge_index, semantic_edge_index, batch, return_attention_weights)
            if return_attention_weights:
                x, branches = x
                edges |= {f"layers.{i}.{name}": weighted for name, weighted in branches.items()}
        return (x, edges) if return_attention_weights else x

    @classmethod
    def from_original(
        cls, state_dict: Mapping[str, Tensor], *, heads: int, k: int, lam: float = 0.5, **options: Any
    ) -> "BGFormer":
        """Builds the network that a checkpoint of the authors' code describes, with its weights.

        The variant (attention, affinity, or visual only), the number of blocks and the sizes are read from the
        keys ``[blocks.]{i}.{norm1,norm2,mlp.fc1,mlp.fc2,vg.*,sg.*,proj,attn.*}``; keys of the image encoder and
        its head are left alone. Heads, ``k`` and ``lam`` are not in a checkpoint and must be said. The network
        computes as the original does: LayerNorm, neighbours by the scores.

        Raises:
            ValueError: If no block is found, or a block's keys or shapes are not those of one of the three
                variants.
        """
        blocks = _original_blocks(state_dict)
        keys = blocks[0].keys()
        options |= {
            "branches": "visual" if "attn.qkv.weight" in keys else "dual",
            "visual": "affinity" if "proj.weight" in keys else "attention",
        }
        in_channels = blocks[0]["norm1.weight"].numel()
        if "mlp.fc1.bias" in keys:
            options["mlp_ratio"] = blocks[0]["mlp.fc1.bias"].numel() / in_channels
        model = cls(
            in_channels, len(blocks), heads, k=k, lam=lam, norm="layer", neighbours="scores", **options
        )
        for layer, block in zip(model.layers, blocks, strict=True):
            renamed = {_our_key(key): value for key, value in block.items()}
            expected = layer.state_dict()
            wrong = sorted(renamed.keys() ^ expected.keys())
            if wrong:
                raise ValueError(f"not a block of BGFormer: missing or unexpected {', '.join(wrong)}")
            misshaped = [key for key, value in renamed.items() if value.shape != expected[key].shape]
            if misshaped:
                raise ValueError(f"not a block of BGFormer: wrong shape of {', '.join(misshaped)}")
            layer.load_state_dict(renamed)
        return model


ORIGINAL_PREFIXES = {
    "vg.": "visual.",
    "attn.": "visual.",
    "sg.qkv.": "semantic.lin.",
    "sg.proj.": "proj.",
    "mlp.fc1.": "mlp.0.",
    "mlp.fc2.": "mlp.2.",
}
"""The authors' names and ours, where they differ."""


def _our_key(key: str) -> str:
    for theirs, ours in ORIGINAL_PREFIXES.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return key


def _original_blocks(state_dict: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    blocks: dict[int, dict[str, Tensor]] = {}
    for key, value in state_dict.items():
        match = re.fullmatch(r"(?:blocks\.)?(\d+)\.(.+)", key)
        if match:
            blocks.setdefault(int(match[1]), {})[match[2]] = value
    if sorted(blocks) != list(range(len(blocks))) or not all("norm1.weight" in b for b in blocks.values()):
        raise ValueError(f"expected blocks numbered from 0, each with a norm1; found {sorted(blocks)}")
    if not blocks:
        raise ValueError("no block found: expected keys such as 'blocks.0.norm1.weight'")
    return [blocks[i] for i in range(len(blocks))]


def _normalised(norm: nn.Module, x: Tensor, batch: Tensor | None) -> Tensor:
    return norm(x, batch) if isinstance(norm, GraphNorm) else norm(x)


def _needed(edge_index: Tensor | None, name: str) -> Tensor:
    if edge_index is None:
        raise ValueError(f"these branches need {name}; build the graph with batch_graph(x, y)")
    return edge_index


def _check(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(known)}; found {value!r}")
