"""DyBGR: blocks that refine the samples of a mini-batch along a graph that depends on them."""

from typing import Any

from torch import Tensor, nn

from pyg_bgformer.errors import check_range
from pyg_bgformer.nn.conv.dynamic_graph_conv import DynamicGraphConv
from pyg_bgformer.nn.ops import Edges


class DyBGRLayer(nn.Module):
    r"""One block of DyBGR, from the `"Learning Dynamic Batch-Graph Representation for Deep Representation Learning"
    <https://doi.org/10.1007/s11263-024-02175-8>`_ paper.

    .. math::
        \mathbf{X}^{\prime} &= \mathbf{X} + \textrm{propagate}(\textrm{norm}(\mathbf{X}))

        \mathbf{X}^{\prime\prime} &= \mathbf{X}^{\prime} + \textrm{FFN}(\textrm{norm}(\mathbf{X}^{\prime}))

    Here propagate is :class:`~pyg_bgformer.nn.DynamicGraphConv` and norm is LayerNorm. The defaults of ``k``,
    ``beta``, ``lam``, ``eps`` and ``num_iterations`` are those of the authors' script for CUB-200-2011 with batches
    of 405.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        k (int): Number of neighbours of each sample. (default: :obj:`30`)
        **options: All other options of :class:`~pyg_bgformer.nn.DynamicGraphConv`.

    Shapes:
        - **input:** node features :math:`(N, D)`, semantic edge indices :math:`(2, E_s)`, batch vector :math:`(N)`
          *(optional)*
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, :math:`((N, D), ((2, E),
          (E)))`

    Raises:
        InputError: If an option is out of its range.
    """

    def __init__(self, in_channels: int, k: int = 30, **options: Any) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(in_channels), nn.LayerNorm(in_channels)
        self.propagation = DynamicGraphConv(k, **options)
        hidden = 4 * in_channels
        self.mlp = nn.Sequential(nn.Linear(in_channels, hidden), nn.GELU(), nn.Linear(hidden, in_channels))

    def forward(
        self,
        x: Tensor,
        semantic_edge_index: Tensor,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[Tensor, Tensor]]:
        """Returns the refined features ``(N, D)``.

        With ``return_attention_weights`` it also returns the edges and weights of the propagation.
        """
        propagated, edges = self.propagation(self.norm1(x), semantic_edge_index, batch, True)
        x = x + propagated
        x = x + self.mlp(self.norm2(x))
        return (x, edges) if return_attention_weights else x


class DyBGRNetwork(nn.Module):
    r"""DyBGR: ``num_layers`` blocks of :class:`DyBGRLayer`, one after another.

    It is used during training only, as BGFormer is: a refined sample depends on its batch and on the labels.

    Args:
        in_channels (int): Size :math:`D` of each sample.
        num_layers (int): Number of blocks. The authors train two. (default: :obj:`2`)
        k (int): Number of neighbours of each sample. (default: :obj:`30`)
        **options: All other options of :class:`DyBGRLayer`.

    Shapes:
        - **input:** as in :class:`DyBGRLayer`
        - **output:** node features :math:`(N, D)` or, with ``return_attention_weights``, these and
          :obj:`~pyg_bgformer.nn.ops.Edges`

    Raises:
        InputError: If an option is out of its range.
    """

    def __init__(self, in_channels: int, num_layers: int = 2, k: int = 30, **options: Any) -> None:
        super().__init__()
        check_range("num_layers", num_layers, at_least=1)
        self.layers = nn.ModuleList(DyBGRLayer(in_channels, k, **options) for _ in range(num_layers))

    def forward(
        self,
        x: Tensor,
        semantic_edge_index: Tensor,
        batch: Tensor | None = None,
        return_attention_weights: bool = False,
    ) -> Tensor | tuple[Tensor, Edges]:
        """Returns the refined features ``(N, D)``.

        With ``return_attention_weights`` it also returns the edges and weights of each block, as
        ``{"layers.0.propagation": ((2, E), (E,)), ...}``.
        """
        edges: Edges = {}
        for i, layer in enumerate(self.layers):
            x, edges[f"layers.{i}.propagation"] = layer(x, semantic_edge_index, batch, True)
        return (x, edges) if return_attention_weights else x
