"""Layers of the batch-graph family, in the manner of ``torch_geometric.nn``."""

from pyg_bgformer.nn.affinity_conv import AffinityConv
from pyg_bgformer.nn.batchformer import BatchFormer
from pyg_bgformer.nn.bgformer import BGFormer, BGFormerLayer
from pyg_bgformer.nn.dybgr import DyBGR, DyBGRLayer
from pyg_bgformer.nn.dynamic_graph_conv import DynamicGraphConv
from pyg_bgformer.nn.gca import GCALayer, GCANetwork
from pyg_bgformer.nn.intra_batch import IntraBatchLayer, IntraBatchNetwork
from pyg_bgformer.nn.intra_batch_graph import intra_batch_graph
from pyg_bgformer.nn.label_conv import LabelConv
from pyg_bgformer.nn.margin_attention_conv import MarginAttentionConv
from pyg_bgformer.nn.ssa_conv import SSAConv

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
