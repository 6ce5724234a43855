"""Layers of the batch-graph family, in the manner of ``torch_geometric.nn``."""

from pyg_bgformer.nn.conv.affinity_conv import AffinityConv
from pyg_bgformer.nn.conv.dynamic_graph_conv import DynamicGraphConv
from pyg_bgformer.nn.conv.label_conv import LabelConv
from pyg_bgformer.nn.conv.margin_attention_conv import MarginAttentionConv
from pyg_bgformer.nn.conv.ssa_conv import SSAConv
from pyg_bgformer.nn.intra_batch_graph import intra_batch_graph
from pyg_bgformer.nn.models.batchformer import BatchFormer
from pyg_bgformer.nn.models.bgformer import BGFormer, BGFormerLayer
from pyg_bgformer.nn.models.dybgr import DyBGR, DyBGRLayer
from pyg_bgformer.nn.models.gca_hng import GCALayer, GCANetwork
from pyg_bgformer.nn.models.intra_batch import IntraBatchLayer, IntraBatchNetwork

__all__ = [
    "AffinityConv",
    "BGFormer",
    "BGFormerLayer",
    "BatchFormer",
    "DyBGR",
    "DyBGRLayer",
    "DynamicGraphConv",
    "GCALayer",
    "GCANetwork",
    "IntraBatchLayer",
    "IntraBatchNetwork",
    "LabelConv",
    "MarginAttentionConv",
    "SSAConv",
    "intra_batch_graph",
]
