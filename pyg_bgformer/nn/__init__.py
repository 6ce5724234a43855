"""Layers and networks of the batch-graph family, like those of ``torch_geometric.nn``."""

from pyg_bgformer.nn.conv.affinity_conv import AffinityConv
from pyg_bgformer.nn.conv.dynamic_graph_conv import DynamicGraphConv
from pyg_bgformer.nn.conv.gca_conv import EdgeToNodeConv, NodeToEdgeAttention
from pyg_bgformer.nn.conv.label_conv import LabelConv
from pyg_bgformer.nn.conv.margin_attention_conv import MarginAttentionConv
from pyg_bgformer.nn.conv.ssa_conv import SSAConv
from pyg_bgformer.nn.models.batchformer import BatchFormerNetwork
from pyg_bgformer.nn.models.bgformer import BGFormer, BGFormerLayer
from pyg_bgformer.nn.models.dybgr import DyBGRLayer, DyBGRNetwork
from pyg_bgformer.nn.models.gca_hng import GCALayer, GCANetwork
from pyg_bgformer.nn.models.intra_batch import IntraBatchLayer, IntraBatchNetwork, IntraBatchOutput

__all__ = [
    "AffinityConv",
    "BGFormer",
    "BGFormerLayer",
    "BatchFormerNetwork",
    "DyBGRLayer",
    "DyBGRNetwork",
    "DynamicGraphConv",
    "EdgeToNodeConv",
    "GCALayer",
    "GCANetwork",
    "IntraBatchLayer",
    "IntraBatchNetwork",
    "IntraBatchOutput",
    "LabelConv",
    "MarginAttentionConv",
    "NodeToEdgeAttention",
    "SSAConv",
]
