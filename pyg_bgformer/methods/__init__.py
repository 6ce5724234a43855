"""Methods by name, one paper a file. A new method is a file with a registered :class:`Method`, imported here."""

from pyg_bgformer.methods.batchformer import BatchFormer
from pyg_bgformer.methods.bgformer import BGFormer
from pyg_bgformer.methods.dybgr import DyBGR
from pyg_bgformer.methods.gca_hng import GCAHNG
from pyg_bgformer.methods.intra_batch import IntraBatch
from pyg_bgformer.methods.method import (
    METHODS,
    KReciprocalRefinement,
    Method,
    ParameterGroup,
    Update,
    method_options,
)
from pyg_bgformer.methods.plain import Plain
from pyg_bgformer.methods.refining import RefiningMethod
from pyg_bgformer.nn.ops import Edges

__all__ = [
    "GCAHNG",
    "METHODS",
    "BGFormer",
    "BatchFormer",
    "DyBGR",
    "Edges",
    "IntraBatch",
    "KReciprocalRefinement",
    "Method",
    "ParameterGroup",
    "Plain",
    "RefiningMethod",
    "Update",
    "method_options",
]
