"""Datasets by name."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.folders import find_root
from pyg_bgformer.data.verification import count_lines
from pyg_bgformer.errors import InputError, did_you_mean


@dataclass(frozen=True)
class DatasetEntry:
    """How a dataset is found.

    Attributes:
        module: Where its ``load`` is: a function of ``root`` and ``variant``, as far as it has these.
        folder: Name of its official folder, looked for where no root is given; ``None``: see ``rooted``.
        rooted: Whether it reads files at all.
        variants: The variants there are, the default one first.
    """

    module: str
    folder: str | None = None
    rooted: bool = True
    variants: tuple[str, ...] = ()


#: Every dataset by its name in a recipe. Adding one is a file with a ``load``, and a line here.
DATASETS = {
    "digits": DatasetEntry("pyg_bgformer.data.digits", rooted=False),
    "omniglot": DatasetEntry("pyg_bgformer.data.omniglot", "omniglot", variants=("small", "full")),
    "cub200": DatasetEntry("pyg_bgformer.data.cub200", "CUB_200_2011"),
    "folder": DatasetEntry("pyg_bgformer.data.folder"),
}


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    variant: str | None = None,
    allow_partial: bool = False,
) -> ImageDataset:
    """Read the table of a dataset; its images are read when they are asked for.

    Args:
        name: One of :data:`DATASETS`.
        root: The dataset's folder. By default ``$PYG_BGFORMER_DATA/<official folder>``, else
            ``data/<official folder>`` in the working directory.
        variant: For datasets that have variants, by default the first one.
        allow_partial: Take a copy whose counts are not the official ones; it says so in ``partial``.

    Raises:
        InputError: Unknown name or variant, no such folder, a partial copy, a class of one image, a split
            of fewer than two classes.
    """
    if name not in DATASETS:
        raise InputError(f"unknown dataset '{name}'; {did_you_mean(name, DATASETS)}")
    entry = DATASETS[name]
    dataset = importlib.import_module(entry.module).load(**_options(name, entry, root, variant))
    if dataset.partial and not allow_partial:
        counts = "; ".join(count_lines(dataset.counts(), dataset.expected))
        raise InputError(
            f"{name} in {dataset.where} is not the official dataset: found {counts}; "
            "complete it (data/README.md), or set allow_partial to use it as it is"
        )
    return dataset


def _options(name: str, entry: DatasetEntry, root: str | Path | None, variant: str | None) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if entry.rooted:
        options["root"] = _root(name, entry, root)
    elif root is not None:
        raise InputError(f"the dataset {name} reads no files, but root is '{root}'; leave root out")
    if variant is not None and variant not in entry.variants:
        known = did_you_mean(variant, entry.variants) if entry.variants else "it has none: leave variant out"
        raise InputError(f"the dataset {name} has no variant '{variant}'; {known}")
    if entry.variants:
        options["variant"] = variant or entry.variants[0]
    return options


def _root(name: str, entry: DatasetEntry, root: str | Path | None) -> Path:
    if root is None and entry.folder is None:
        raise InputError(f"the dataset {name} needs root, the folder of your images (data/README.md)")
    found = find_root(entry.folder) if root is None and entry.folder else Path(root or "").expanduser()
    if not found.is_dir():
        raise InputError(f"the dataset {name} is expected in {found}, which is no folder (data/README.md)")
    return found
