"""Datasets by name, one dataset a file."""

import inspect
from pathlib import Path
from typing import Any, get_args

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets import cars196, cub200, digits, folder, glyphs, inshop, omniglot, sop
from pyg_bgformer.data.datasets.archive import unpack
from pyg_bgformer.data.datasets.registry import DATASETS, dataset_options, find_root
from pyg_bgformer.data.splits import hold_out
from pyg_bgformer.data.verification import count_lines
from pyg_bgformer.errors import InputError, did_you_mean
from pyg_bgformer.registry import REQUIRED

__all__ = [
    "DATASETS",
    "cars196",
    "cub200",
    "dataset_options",
    "digits",
    "find_root",
    "folder",
    "glyphs",
    "inshop",
    "load_dataset",
    "omniglot",
    "read_dataset",
    "sop",
]


def load_dataset(
    name: str,
    root: str | Path | None = None,
    *,
    variant: str | None = None,
    allow_partial: bool = False,
    crop_to_box: bool = False,
    min_images: int = 1,
    holdout: float | None = None,
    holdout_seed: int = 0,
) -> ImageDataset:
    """Returns a dataset that can be trained and tested on. Its images are read when they are used.

    Args:
        name: A name in :data:`DATASETS`.
        root: The dataset's folder, or an archive of it, which is unpacked beside itself. By default it is
            ``$PYG_BGFORMER_DATA/<official folder>``, or else ``data/<official folder>`` in the working directory.
        variant: Name of a variant, for datasets that have variants. By default it is the first one.
        allow_partial: Accept a copy whose counts are not the official ones. Its ``partial`` is then ``True``.
        crop_to_box: Crop images to their annotated boxes (cub200, cars196). ``cropped`` is then ``True``.
        min_images: Leave out classes with fewer images.
        holdout: For a user's folder without folders of splits, the share of the classes that is tested. 0 tests on
            the training images. ``None`` tests the second half of the class names.
        holdout_seed: Decides which classes are tested.

    Raises:
        InputError: If the name or the variant is unknown, there is no such folder or there are no boxes, the copy
            is partial, or the dataset has one of the faults of :meth:`ImageDataset.faults`.
    """
    dataset = read_dataset(name, root, variant=variant, crop_to_box=crop_to_box)
    if min_images > 1:
        dataset = dataset.without_small_classes(min_images)
    if holdout is not None:
        dataset = split_by_class(dataset, holdout, holdout_seed)
    if dataset.partial and not allow_partial:
        found = [*count_lines(dataset.counts(), dataset.expected), *dataset.problems[:1]]
        raise InputError(
            f"{name} in {dataset.where} is not the official dataset: found {'; '.join(found)}; "
            "complete it (data/README.md), or use it as it is: --data.allow_partial true"
        )
    if faults := dataset.faults():
        more = f" (and {len(faults) - 1} faults more)" if len(faults) > 1 else ""
        raise InputError(f"{name} in {dataset.where}: {faults[0]}{more}")
    return dataset


def read_dataset(
    name: str, root: str | Path | None = None, *, variant: str | None = None, crop_to_box: bool = False
) -> ImageDataset:
    """Returns a dataset as it is in its folder, complete or not. :meth:`ImageDataset.verify` tells what is missing.

    Args:
        name: A name in :data:`DATASETS`.
        root: The dataset's folder, or an archive of it.
        variant: Name of a variant, for datasets that have variants. By default it is the first one.
        crop_to_box: Crop images to their annotated boxes.

    Raises:
        InputError: If the name or the variant is unknown, there is no such folder, or its layout is another one.
    """
    load = DATASETS.find(name)
    options: dict[str, Any] = {}
    if variant is not None:
        options["variant"] = check_variant(name, variant)
    if crop_to_box:
        boxed = [other for other in DATASETS if "crop_to_box" in dataset_options(other)]
        if name not in boxed:
            raise InputError(
                f"the dataset {name} has no boxes to crop to; {', '.join(boxed)} have: leave crop_to_box out"
            )
        options["crop_to_box"] = True
    takes_root = inspect.signature(load).parameters.get("root")
    if root is not None:
        if takes_root is None:
            raise InputError(f"the dataset {name} reads no files, but root is '{root}'; leave root out")
        options["root"] = existing_folder(name, Path(root).expanduser())
    elif takes_root is not None and takes_root.default is REQUIRED:
        raise InputError(f"the dataset {name} needs root, the folder of your images (data/README.md)")
    return load(**options)


def split_by_class(dataset: ImageDataset, holdout: float, seed: int) -> ImageDataset:
    """Returns a user's folder with a share of its classes held out.

    If its splits have folders of their own, they stay as they are, and a note says so.

    Args:
        dataset: The dataset as it was read.
        holdout: See :func:`~pyg_bgformer.data.splits.hold_out`.
        seed: Decides which classes are held out.

    Raises:
        InputError: If it is not a user's folder, or too few classes would be left to train on.
    """
    if not isinstance(dataset, folder.ImageFolder):
        raise InputError(f"the dataset {dataset.name} has splits of its own; leave holdout out")
    if not dataset.layout:
        return hold_out(dataset, holdout, seed)
    laid_out = dataset.with_table(dataset.table)
    laid_out.notes = [
        *dataset.notes,
        f"split by its folders {', '.join(dataset.layout)}; no class is held out",
    ]
    return laid_out


def check_variant(name: str, variant: str) -> str:
    """Returns the name of a variant if a dataset has it.

    Raises:
        InputError: If the dataset has no such variant.
    """
    option = dataset_options(name).get("variant")
    known = get_args(option.type) if option is not None else ()
    if option is None or (known and variant not in known):
        hint = did_you_mean(variant, known) if known else "it has none: leave variant out"
        raise InputError(f"the dataset {name} has no variant '{variant}'; {hint}")
    return variant


def existing_folder(name: str, root: Path) -> Path:
    """Returns the folder of a dataset. If ``root`` is an archive, it is unpacked.

    Raises:
        InputError: If there is no such folder, or the archive cannot be unpacked.
    """
    if root.is_file():
        return unpack(root)
    if not root.is_dir():
        raise InputError(f"the dataset {name} is expected in {root}, which is not a folder (data/README.md)")
    return root
