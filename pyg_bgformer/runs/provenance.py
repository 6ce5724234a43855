"""Where a result comes from: the data, weights, software and hardware of a run."""

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
        dataset_manifest_sha256: SHA-256 of the dataset's table.
        dataset_partial: Whether the copy lacks images of the official dataset.
        dataset_cropped: Whether images are cropped to their annotated boxes.
        weights: Tag or file of the weights that the backbone started from.
        weights_sha256: SHA-256 of these weights; :obj:`None` for random weights.
        python: Version of Python.
        packages: Versions of this package and of the packages that results depend on.
        git_commit: Commit of the checkout, with ``+changes`` if the package was edited; :obj:`None` if unknown.
        device: Name of the GPU, or the processor's architecture.
        threads: Number of threads that PyTorch uses on the CPU.
        plugins: SHA-256 of each plug-in file by file name.
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
    """Returns the provenance of a run that is about to start.

    Args:
        dataset: The dataset that the run trains and tests on.
        encoder: The run's encoder.
        device: The device that it is trained on.
        plugins: SHA-256 of each plug-in file by file name.
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
    """Returns the commit of the checkout that this package runs from.

    It ends in ``+changes`` if files of the package were edited. Other files do not count: a run keeps its whole
    recipe, and the tables of a study are new files of the checkout.

    Returns:
        The commit, or :obj:`None` if the package is not in a checkout or git is not installed.
    """
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", *command], cwd=folder, capture_output=True, text=True, check=True).stdout
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "pyg_bgformer"])
        )
    except (OSError, subprocess.CalledProcessError):  # git is not installed, or refuses the folder
        return None
    return commit.strip() + ("+changes" if changes else "")
