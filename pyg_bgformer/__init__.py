"""Batch-graph deep metric learning for PyTorch Geometric."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_bgformer.deploy.embed_files import embed_files
    from pyg_bgformer.deploy.embedding_model import EmbeddingModel
    from pyg_bgformer.deploy.load_model import load_model
    from pyg_bgformer.engine.evaluate_model import evaluate_model
    from pyg_bgformer.engine.train_folder import train_folder
    from pyg_bgformer.graph import BatchGraph, batch_graph
    from pyg_bgformer.nn import BGFormer, BGFormerLayer, LabelConv, SSAConv

__version__ = "0.1.0"

__all__ = [
    "BGFormer",
    "BGFormerLayer",
    "BatchGraph",
    "EmbeddingModel",
    "LabelConv",
    "SSAConv",
    "__version__",
    "batch_graph",
    "embed_files",
    "evaluate_model",
    "load_model",
    "train_folder",
]

#: Where the public names are. They are imported at first use, so that ``--help`` does not wait for torch.
_MODULES = {
    "BGFormer": "pyg_bgformer.nn",
    "BGFormerLayer": "pyg_bgformer.nn",
    "BatchGraph": "pyg_bgformer.graph",
    "EmbeddingModel": "pyg_bgformer.deploy.embedding_model",
    "LabelConv": "pyg_bgformer.nn",
    "SSAConv": "pyg_bgformer.nn",
    "batch_graph": "pyg_bgformer.graph",
    "embed_files": "pyg_bgformer.deploy.embed_files",
    "evaluate_model": "pyg_bgformer.engine.evaluate_model",
    "load_model": "pyg_bgformer.deploy.load_model",
    "train_folder": "pyg_bgformer.engine.train_folder",
}

if not TYPE_CHECKING:  # with __getattr__ in sight, a type checker accepts any name

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
