"""Your own method in a plug-in file: features attend to similar features of the batch with PyG's GATConv.

pyg-bgformer run --plugins examples/gat_method.py --method.name gat --method.k 10
"""

from torch_geometric.nn import GATConv

from pyg_bgformer import batch_graph
from pyg_bgformer.methods import METHODS, RefiningMethod


@METHODS.register("gat")
class GAT(RefiningMethod):
    """Refines the features of a batch along visual edges by graph attention."""

    def __init__(
        self, encoder, loss, geometry, num_classes, *, k: int = 15, heads: int = 4, alpha: float = 0.5
    ):
        blocks = GATConv(encoder.feature_dim, encoder.feature_dim // heads, heads)
        super().__init__(encoder, loss, geometry, num_classes, blocks, alpha, block_lr=None)
        self.k = k

    def refine(self, features, labels):
        """Returns the refined features of a batch."""
        return self.blocks(features, batch_graph(features, labels, self.k).visual_edge_index)
