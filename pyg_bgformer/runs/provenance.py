"""Where a result comes from: everything that identifies a run beside its recipe."""

import platform
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

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
)


@dataclass(frozen=True)
class Provenance:
    """Data, weights, software and hardware of a run.

    Args:
        dataset: Name of the dataset.
        dataset_manifest_sha256: Hash of the dataset's table.
        dataset_partial: Whether the copy lacks images of the official dataset.
        dataset_cropped: Whether images are cut to their annotated boxes.
        weights: Tag or file of the backbone's first weights.
        weights_sha256: Their hash; :obj:`None` for random weights.
        python: Version of Python.
        packages: Versions of this package and of those that results depend on.
        git_commit: Commit of the checkout, with ``+changes`` where it was edited; :obj:`None` outside a checkout.
        device: The processor or the GPU.
        threads: Threads of torch on the CPU.
        plugins: Hashes of the plug-in files by name.
    """

    dataset: str
    dataset_manifest_sha256: str
    dataset_partial: bool
    dataset_cropped: bool
    weights: str
    weights_sha256: str | None
    python: str
    packages: dict[str, str]
    git_commit: str | None
    device: str
    threads: int
    plugins: dict[str, str] = field(default_factory=dict)


def provenance(
    dataset: ImageDataset, encoder: Encoder, device: torch.device, plugins: dict[str, str]
) -> Provenance:
    """Returns where a run's result comes from.

    Args:
        dataset: What the run trains and tests on.
        encoder: Its encoder.
        device: Where it is trained.
        plugins: Hashes of the plug-in files by name.
    """
    from pyg_bgformer import __version__

    return Provenance(
        dataset=dataset.name,
        dataset_manifest_sha256=dataset.manifest_hash,
        dataset_partial=dataset.partial,
        dataset_cropped=dataset.cropped,
        weights=encoder.weights_tag,
        weights_sha256=encoder.weights_hash,
        python=platform.python_version(),
        packages={
            "pyg-bgformer": __version__,
            **{name: version(name) for name in PACKAGES},
            **dataset.versions,
        },
        git_commit=git_commit(),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        threads=torch.get_num_threads(),
        plugins=plugins,
    )


def git_commit() -> str | None:
    """Returns the commit of the checkout that this package runs from, with ``+changes`` where it was edited."""
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):  # without git the commit is not known
        return None
    return commit.strip() + ("+changes" if changes else "")
