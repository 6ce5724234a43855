"""Batch-graph deep metric learning for PyTorch Geometric."""

from pyg_bgformer.graph import BatchGraph, batch_graph
from pyg_bgformer.nn import BGFormer, BGFormerLayer, LabelConv, SSAConv

__version__ = "0.1.0"

__all__ = ["BGFormer", "BGFormerLayer", "BatchGraph", "LabelConv", "SSAConv", "__version__", "batch_graph"]
