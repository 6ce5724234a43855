"""Methods by name; one paper a file. Adding one is a file with a :class:`Method`, and a line here."""

from pyg_bgformer.errors import InputError, did_you_mean
from pyg_bgformer.methods.batchformer import BatchFormer
from pyg_bgformer.methods.bgformer import BGFormer
from pyg_bgformer.methods.dybgr import DyBGR
from pyg_bgformer.methods.gca_hng import GCAHNG
from pyg_bgformer.methods.intra_batch import IntraBatch
from pyg_bgformer.methods.method import Method, ParameterGroup, Refined, Update
from pyg_bgformer.methods.plain import Plain
from pyg_bgformer.methods.refining import RefiningMethod

METHODS: dict[str, type[Method]] = {
    "plain": Plain,
    "bgformer": BGFormer,
    "batchformer": BatchFormer,
    "dybgr": DyBGR,
    "intra_batch": IntraBatch,
    "gca_hng": GCAHNG,
}

__all__ = [
    "GCAHNG",
    "METHODS",
    "BGFormer",
    "BatchFormer",
    "DyBGR",
    "IntraBatch",
    "Method",
    "ParameterGroup",
    "Plain",
    "Refined",
    "RefiningMethod",
    "Update",
    "find_method",
]


def find_method(name: str) -> type[Method]:
    """The class of a method.

    Raises:
        InputError: If there is no method of that name.
    """
    if name not in METHODS:
        raise InputError(f"unknown method '{name}'; {did_you_mean(name, METHODS)}")
    return METHODS[name]
