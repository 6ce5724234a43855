"""The registry of datasets, and how their folders are found."""

import os
from collections.abc import Callable
from pathlib import Path

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.errors import InputError
from pyg_bgformer.registry import Option, Registry, signature_options

DATA_VARIABLE = "PYG_BGFORMER_DATA"
"""The environment variable that names the folder with the folders of all datasets."""

DATASETS: Registry[Callable[..., ImageDataset]] = Registry("dataset")
"""Functions that read a dataset, by name.

Such a function takes the arguments that its dataset needs: ``root``, the dataset's folder, and the keyword-only
arguments ``variant`` (its type is a ``Literal`` of the variants) and ``crop_to_box``. If ``root`` has no default,
the user must give the folder.
"""


def dataset_options(name: str) -> dict[str, Option]:
    """Returns the options that a recipe can set for a dataset besides its folder.

    Args:
        name: A name in :data:`DATASETS`.

    Raises:
        InputError: If there is no dataset of that name.
    """
    return signature_options(DATASETS.find(name))


def find_root(official_folder: str, must_exist: bool = True) -> Path:
    """Returns the folder of a dataset in the folder that ``PYG_BGFORMER_DATA`` names, or else in ``data/``.

    An archive of the same name is unpacked first.

    Args:
        official_folder: Name of the folder, as the dataset's authors chose it.
        must_exist: Whether a missing folder is an error. Otherwise the first place to download to is returned.

    Raises:
        InputError: If the folder must exist and is in neither place.
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
    """Returns the innermost folder of the same name, or of one of ``names``, inside a folder.

    Unpacked archives are often nested: ``cars_train/cars_train/`` is entered, and so is ``birds/CUB_200_2011/``
    with the name ``CUB_200_2011``. Archives of these names are unpacked first.

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
