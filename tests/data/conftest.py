"""Small datasets on disk."""

import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def _save_noise(path: Path, size: tuple[int, int] = (12, 10), seed: int = 0) -> None:
    """A random RGB image of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def save_noise() -> Callable[..., None]:
    """Save a random RGB image: ``save_noise(path, (width, height), seed)``."""
    return _save_noise


@pytest.fixture
def make_tree(tmp_path: Path) -> Callable[[Mapping[str, int]], Path]:
    """Make a folder for each class with so many PNGs, no two alike; gives the folder around them."""

    def make(sizes: Mapping[str, int]) -> Path:
        root = tmp_path / "images"
        for number, (name, count) in enumerate(sizes.items()):
            for image in range(count):
                _save_noise(root / name / f"{image}.png", (12 + image, 10), seed=100 * number + image)
        return root

    return make


@pytest.fixture
def dead_partial() -> Callable[[Path], Path]:
    """Name of the partial file of a path that a process of this machine writes, which is dead."""
    process = subprocess.Popen(["true"])
    process.wait()
    return lambda path: path.with_name(f".{path.name}.{socket.gethostname()}-{process.pid}.partial")


@pytest.fixture
def official_data() -> Path:
    """The folder of official datasets, which the environment names."""
    if "PYG_BGFORMER_DATA" not in os.environ:
        pytest.skip("PYG_BGFORMER_DATA names no folder with the official datasets")
    return Path(os.environ["PYG_BGFORMER_DATA"])


@pytest.fixture
def list_files(official_data: Path) -> Path:
    """The folder of the benchmarks' official list files."""
    folder = official_data / "splits"
    if not folder.is_dir():
        pytest.skip(f"no {folder} with the official list files")
    return folder
