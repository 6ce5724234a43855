"""Cars196: 16,185 photographs of 196 models of cars.

Source: J. Krause, M. Stark, J. Deng, L. Fei-Fei, 3D Object Representations for Fine-Grained Categorization,
4th IEEE Workshop on 3D Representation and Recognition, 2013. Split of metric learning: the first 98 classes
train, the other 98 test (H. O. Song, Y. Xiang, S. Jegelka, S. Savarese, Deep Metric Learning via Lifted
Structured Feature Embedding, CVPR 2016), taken from the union of both parts of the official split.
"""

import re
from pathlib import Path
from typing import NamedTuple

from pyg_bgformer.data.boxes import BOX
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.data.datasets.cars196_lists import Annotation, read_annotations, read_class_names
from pyg_bgformer.data.datasets.folders import image_files, is_class_folder
from pyg_bgformer.data.datasets.lists import folder_notes, numbering_notes
from pyg_bgformer.data.datasets.verification import SplitCount
from pyg_bgformer.errors import InputError

OFFICIAL = {"train": SplitCount(98, 8_054), "test": SplitCount(98, 8_131)}
_LAST_TRAIN_CLASS = 98
_SINGLE_LIST, _SINGLE_FOLDER = "cars_annos.mat", "car_ims"
_NAMES = "cars_meta.mat"
# By folder its list of images and how many there are
_PARTS = {
    "cars_train": ("cars_train_annos.mat", 8_144),
    "cars_test": ("cars_test_annos_withlabels.mat", 8_041),
}
# Every official class name ends with the year of the model.
_CLASS_FOLDER = re.compile(r"[A-Za-z].*[ _]\d{4}")


class Content(NamedTuple):
    """What a folder of Cars196 gives: a record for each image, and the differences seen."""

    records: list[dict[str, str]]
    notes: list[str]


class Cars196(ImageDataset):
    """Cars196 in one of its three layouts; rows are in the order of the lists, ``cars_train`` first.

    * ``cars_train/``, ``cars_test/``, ``cars_train_annos.mat``, ``cars_test_annos_withlabels.mat`` and
      ``cars_meta.mat``, the latter three also in ``devkit/`` or ``car_devkit/``;
    * ``car_ims/`` with ``cars_annos.mat``;
    * a folder for each class under its official name (``Acura RL Sedan 2012``), all of them together or in
      ``train/`` and ``test/``, the parts of the official split. Rows are then in the order of the paths.

    Folders may be archives as they were downloaded. Images that are listed but not there are left out, which
    makes the dataset partial.

    Args:
        root: The folder with all of this.
        crop_to_box: Cut images to the boxes of their lists; class folders have none.

    Raises:
        InputError: The folder has none of these layouts, or a list is missing or damaged.
    """

    def __init__(self, root: Path, crop_to_box: bool = False) -> None:
        if (root / _SINGLE_LIST).is_file():
            content = _single_list(root, crop_to_box)
        elif any(unpacked(root / part).is_dir() for part in _PARTS):
            content = _both_lists(root, crop_to_box)
        elif crop_to_box:
            raise InputError(
                f"{root}: neither cars_annos.mat nor cars_train/ nor cars_test/ are there, which have boxes; "
                "leave crop_to_box out"
            )
        else:
            content = _class_folders(root)
        super().__init__("cars196", content.records, root=root, expected=OFFICIAL, notes=content.notes)


def load(root: Path, crop_to_box: bool = False) -> Cars196:
    """Cars196 from its folder."""
    return Cars196(root, crop_to_box)


def _both_lists(root: Path, boxed: bool) -> Content:
    names = read_class_names(_list_file(root, _NAMES))
    records, notes = [], []
    for folder, (list_name, official) in _PARTS.items():
        file = _list_file(root, list_name)
        annotations = [
            row._replace(path=f"{folder}/{row.path}") for row in read_annotations(file, "fname", len(names))
        ]
        part = _listed(root, folder, annotations, names, file.name, official, boxed)
        records += part.records
        notes += part.notes
    return Content(records, notes)


def _single_list(root: Path, boxed: bool) -> Content:
    file = root / _SINGLE_LIST
    names = read_class_names(file)
    annotations = read_annotations(file, "relative_im_path", len(names))
    official = sum(images for _, images in _PARTS.values())
    return _listed(root, _SINGLE_FOLDER, annotations, names, file.name, official, boxed)


def _listed(
    root: Path,
    folder: str,
    annotations: list[Annotation],
    names: list[str],
    list_name: str,
    official: int,
    boxed: bool,
) -> Content:
    """The images of one list that are in its folder; ``official`` is how many images that list has."""
    there = {f"{folder}/{path}" for path in image_files(unpacked(root / folder))}
    records = [
        {
            **_record(row.path, names[row.class_number - 1], train=row.class_number <= _LAST_TRAIN_CLASS),
            **({BOX: row.box} if boxed else {}),
        }
        for row in annotations
        if row.path in there
    ]
    notes = numbering_notes(list_name, (row.number for row in annotations), range(1, official + 1))
    return Content(
        records, notes + folder_notes(list_name, {row.path for row in annotations}, f"{folder}/", there)
    )


def _list_file(root: Path, name: str) -> Path:
    devkit = unpacked(root / "car_devkit")
    for place in (root, root / "devkit", devkit, devkit / "devkit"):
        if (place / name).is_file():
            return place / name
    raise InputError(
        f"{root}: found no {name}, neither there nor in devkit/ or car_devkit/; data/README.md says where to "
        "get it (cars_test_annos.mat, which is another file, has no classes)"
    )


def _class_folders(root: Path) -> Content:
    records = []
    for folder in _folders_of_classes(root):
        name = folder.rpartition("/")[2]
        # The official numbers go by the alphabet of the makes: class 98 is an Eagle, class 99 a FIAT.
        train = name[0].casefold() < "f"
        paths = sorted(image_files(root / folder))
        records += [_record(f"{folder}/{path}", name.replace("_", " "), train) for path in paths]
    return Content(records, [])


def _folders_of_classes(root: Path) -> list[str]:
    """Their paths below the root: at its top, or else in ``train`` and ``test``."""
    names = _folders(root)
    parts = [name for name in names if name in ("train", "test")]
    paths = [f"{part}/{name}" for part in parts for name in _folders(root / part)] if parts else names
    for path in paths or ["nothing"]:
        if not _CLASS_FOLDER.fullmatch(path.rpartition("/")[2]):
            raise InputError(
                f"{root}: found {path}; expected cars_train/ and cars_test/ with their lists, car_ims/ with "
                "cars_annos.mat, or a folder for each class named like 'Acura RL Sedan 2012' (data/README.md)"
            )
    return paths


def _folders(parent: Path) -> list[str]:
    return sorted(entry.name for entry in parent.iterdir() if entry.is_dir() and is_class_folder(entry.name))


def _record(path: str, name: str, train: bool) -> dict[str, str]:
    return {"path": path, "original_class": name, "split": "train" if train else "test"}
