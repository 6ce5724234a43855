"""Datasets by name."""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpack
from pyg_bgformer.data.datasets.folders import find_root
from pyg_bgformer.data.datasets.verification import count_lines
from pyg_bgformer.errors import InputError, did_you_mean


@dataclass(frozen=True)
class DatasetEntry:
    """How a dataset is found.

    Attributes:
        module: Where its ``load`` is: a function of ``root`` and ``variant``, as far as it has these.
        folder: Name of its official folder, looked for where no root is given.
        rooted: Whether it reads files at all.
        variants: The variants there are, the default one first.
        boxes: Whether images are annotated with boxes that they can be cut to.
        downloaded: The variants whose folder need not exist, as they can be downloaded into it.
    """

    module: str
    folder: str | None = None
    rooted: bool = True
    variants: tuple[str, ...] = ()
    downloaded: tuple[str, ...] = ()
    boxes: bool = False


#: Every dataset by its name in a recipe. Adding one is a file with a ``load``, and a line here.
DATASETS = {
    "digits": DatasetEntry("pyg_bgformer.data.datasets.digits", rooted=False),
    "glyphs": DatasetEntry("pyg_bgformer.data.datasets.glyphs", rooted=False),
    "omniglot": DatasetEntry(
        "pyg_bgformer.data.datasets.omniglot", "omniglot", variants=("small", "full"), downloaded=("full",)
    ),
    "cub200": DatasetEntry("pyg_bgformer.data.datasets.cub200", "CUB_200_2011", boxes=True),
    "cars196": DatasetEntry("pyg_bgformer.data.datasets.cars196", "cars196", boxes=True),
    "sop": DatasetEntry("pyg_bgformer.data.datasets.sop", "Stanford_Online_Products"),
    "inshop": DatasetEntry(
        "pyg_bgformer.data.datasets.inshop",
        "In-shop Clothes Retrieval Benchmark",
        variants=("img", "img_highres"),
    ),
    "folder": DatasetEntry("pyg_bgformer.data.datasets.folder"),
}


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    variant: str | None = None,
    allow_partial: bool = False,
    crop_to_box: bool = False,
) -> ImageDataset:
    """A dataset that is fit for training and testing; its images are read when they are asked for.

    Args:
        name: One of :data:`DATASETS`.
        root: The dataset's folder, or an archive of it, which is unpacked beside itself. By default
            ``$PYG_BGFORMER_DATA/<official folder>``, else ``data/<official folder>`` in the working directory.
        variant: For datasets that have variants, by default the first one.
        allow_partial: Take a copy whose counts are not the official ones; it says so in ``partial``.
        crop_to_box: Cut images to their annotated boxes (cub200, cars196); it says so in ``cropped``.

    Raises:
        InputError: Unknown name or variant, no such folder, no boxes, a partial copy, a class of one image, a split
            of fewer than two classes.
    """
    dataset = read_dataset(name, root, variant=variant, crop_to_box=crop_to_box)
    if dataset.partial and not allow_partial:
        found = [*count_lines(dataset.counts(), dataset.expected), *dataset.notes[:1]]
        raise InputError(
            f"{name} in {dataset.where} is not the official dataset: found {'; '.join(found)}; "
            "complete it (data/README.md), or set allow_partial to use it as it is"
        )
    if faults := dataset.faults():
        more = f" (and {len(faults) - 1} faults more)" if len(faults) > 1 else ""
        raise InputError(f"{name} in {dataset.where}: {faults[0]}{more}")
    return dataset


def read_dataset(
    name: str, root: str | Path | None = None, *, variant: str | None = None, crop_to_box: bool = False
) -> ImageDataset:
    """A dataset as it is found, complete and sound or not: what :meth:`ImageDataset.verify` is for.

    Arguments are those of :func:`load_dataset`.

    Raises:
        InputError: Unknown name or variant, no such folder, or a folder that is laid out differently.
    """
    if name not in DATASETS:
        raise InputError(f"unknown dataset '{name}'; {did_you_mean(name, DATASETS)}")
    entry = DATASETS[name]
    options: dict[str, Any] = {}
    if chosen := _variant(name, entry, variant):
        options["variant"] = chosen
    if crop_to_box:
        if not entry.boxes:
            boxed = ", ".join(name for name, entry in DATASETS.items() if entry.boxes)
            raise InputError(
                f"the dataset {name} has no boxes to crop to; {boxed} have: leave crop_to_box out"
            )
        options["crop_to_box"] = True
    if entry.rooted:
        options["root"] = _root(name, entry, root, must_exist=chosen not in entry.downloaded)
    elif root is not None:
        raise InputError(f"the dataset {name} reads no files, but root is '{root}'; leave root out")
    return importlib.import_module(entry.module).load(**options)


def _variant(name: str, entry: DatasetEntry, variant: str | None) -> str | None:
    if variant is not None and variant not in entry.variants:
        known = did_you_mean(variant, entry.variants) if entry.variants else "it has none: leave variant out"
        raise InputError(f"the dataset {name} has no variant '{variant}'; {known}")
    return entry.variants[0] if entry.variants and variant is None else variant


def _root(name: str, entry: DatasetEntry, root: str | Path | None, must_exist: bool) -> Path:
    if root is None:
        if entry.folder is None:
            raise InputError(f"the dataset {name} needs root, the folder of your images (data/README.md)")
        return find_root(entry.folder, must_exist)
    found = Path(root).expanduser()
    if found.is_file():
        found = unpack(found)
    if must_exist and not found.is_dir():
        raise InputError(f"the dataset {name} is expected in {found}, which is no folder (data/README.md)")
    return found
