"""Datasets by name, and the folders in which they are."""

import os
from collections.abc import Callable
from pathlib import Path

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import Option, Registry, signature_options

DATA_VARIABLE = "PYG_BGFORMER_DATA"
"""The environment variable that names the folder in which the datasets' folders are."""

DATASETS: Registry[Callable[..., ImageDataset]] = Registry("dataset")
"""Functions that read a dataset, by the name that a recipe gives it.

Such a function takes what its dataset needs: ``root``, the dataset's folder, and as keyword-only arguments
``variant`` (typed by a ``Literal`` of the variants) and ``crop_to_box``. Where ``root`` has no default, the user
must name the folder.
"""


def dataset_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe may set for a dataset besides its folder.

    Raises:
        InputError: If there is no dataset of that name.
    """
    return signature_options(DATASETS.find(name))


def find_root(official_folder: str, must_exist: bool = True) -> Path:
    """Returns the folder of a dataset: in the one that ``PYG_BGFORMER_DATA`` names, else in ``data/``.

    An archive of the same name is unpacked there first.

    Args:
        official_folder: The name that the dataset's authors gave it.
        must_exist: Otherwise, if there is none, the first place to which it could be downloaded.

    Raises:
        InputError: If there is no such folder in either place.
    """
    set_by_user = os.environ.get(DATA_VARIABLE)
    places = [Path(parent, official_folder) for parent in filter(None, [set_by_user, "data"])]
    for place in places:
        if unpacked(place).is_dir():
            return place
    if must_exist:
        looked = " and ".join(map(str, places)) + ("" if set_by_user else f" ({DATA_VARIABLE} is not set)")
        raise InputError(
            f"no folder {official_folder}: looked for {looked}; data/README.md says where to get it"
        )
    return places[0]


def innermost(folder: Path, *names: str) -> Path:
    """Enters folders of a folder's own name or of one of ``names``, as archives are often unpacked twice.

    ``cars_train/cars_train/`` is entered, and ``birds/CUB_200_2011/`` with the name ``CUB_200_2011``; archives of
    these names are unpacked first.

    Args:
        folder: The outermost folder.
        *names: Further names that the dataset's folder may have.
    """
    for _ in range(4):  # a link can make a folder contain itself
        inside = [unpacked(folder / name) for name in dict.fromkeys((folder.name, *names)) if name]
        there = [place for place in inside if place.is_dir()]
        if not there:
            break
        folder = there[0]
    return folder
