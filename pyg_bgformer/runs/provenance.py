"""Where a result comes from: everything that names the run beside its recipe."""

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from pyg_bgformer.data import ImageDataset
from pyg_bgformer.encoders import Encoder

PACKAGES = (
    "torch",
    "torchvision",
    "torch-geometric",
    "timm",
    "pytorch-metric-learning",
    "scikit-learn",
    "numpy",
    "pillow",
)


def provenance(dataset: ImageDataset, encoder: Encoder, device: torch.device) -> dict[str, Any]:
    """Data, weights, software and hardware of a run, as plain values."""
    return {
        "dataset": dataset.name,
        "dataset_manifest_sha256": dataset.manifest_hash,
        "dataset_partial": dataset.partial,
        "dataset_cropped": dataset.cropped,
        "weights": encoder.weights_tag,
        "weights_sha256": encoder.weights_hash,
        "python": platform.python_version(),
        "packages": {
            "pyg-bgformer": _own_version(),
            **{name: version(name) for name in PACKAGES},
            **dataset.versions,
        },
        "git_commit": git_commit(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
    }


def git_commit() -> str | None:
    """Commit of the checkout that this package runs from, with ``+changes`` where it was edited since."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    commit = _git(folder, "rev-parse", "HEAD")
    return f"{commit}+changes" if commit and _git(folder, "status", "--porcelain") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    except (
        OSError,
        subprocess.CalledProcessError,
    ):  # no git here: the commit is then unknown, and said to be
        return None
    return done.stdout.strip()


def _own_version() -> str:
    from pyg_bgformer import __version__

    return __version__


def _processor() -> str:
    return f"cpu ({platform.machine()})"
