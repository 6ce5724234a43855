"""Cars196: 16,185 photographs of 196 models of cars.

Source: J. Krause, M. Stark, J. Deng, L. Fei-Fei, 3D Object Representations for Fine-Grained Categorization,
4th IEEE Workshop on 3D Representation and Recognition, 2013. Split of metric learning: the first 98 classes
train, the other 98 test (H. O. Song, Y. Xiang, S. Jegelka, S. Savarese, Deep Metric Learning via Lifted
Structured Feature Embedding, CVPR 2016), taken from the union of both parts of the official split.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.data.datasets.cars196_lists import Annotation, read_annotations, read_class_names
from pyg_bgformer.data.datasets.lists import find_list, folder_problems, listed_files, numbering_problems
from pyg_bgformer.data.datasets.registry import DATASETS, find_root, innermost
from pyg_bgformer.data.image_files import ignored_files, image_files, is_class_folder
from pyg_bgformer.data.images import Box
from pyg_bgformer.data.verification import SplitCount
from pyg_bgformer.errors import InputError

FOLDER = "cars196"
OFFICIAL = {"train": SplitCount(98, 8_054), "test": SplitCount(98, 8_131)}
LAST_TRAIN_CLASS = 98
SINGLE_LIST, SINGLE_FOLDER = "cars_annos.mat", "car_ims"
PARTS = {
    "cars_train": ("cars_train_annos.mat", 8_144),
    "cars_test": ("cars_test_annos_withlabels.mat", 8_041),
}
"""For each folder its list of images, and the official number of images."""
CLASS_FOLDER = re.compile(r"[A-Za-z].*[ _]\d{4}")
"""Every official class name ends with the year of the model."""


@dataclass
class Content:
    """The content of a folder of Cars196.

    Attributes:
        records: A record for each image.
        files: The file of each path.
        problems: Differences from the official dataset.
        others: Files that are not images.
    """

    records: list[dict[str, str | Box]] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


class Cars196(ImageDataset):
    """Cars196 in one of its three layouts. Rows are in the order of the lists, ``cars_train`` first.

    * ``cars_train/``, ``cars_test/``, ``cars_train_annos.mat``, ``cars_test_annos_withlabels.mat`` and
      ``cars_meta.mat``. The three lists may also be in ``devkit/`` or ``car_devkit/``.
    * ``car_ims/`` with ``cars_annos.mat``.
    * A folder for each class under its official name (``Acura RL Sedan 2012``), all of them together or in
      ``train/`` and ``test/``, the parts of the official split. Rows are then in the order of the paths.

    Folders may be archives as they were downloaded, or contain a folder of their own name. Listed images that are
    missing are left out, and so is a part without its list. The dataset is then partial.

    Args:
        root: The folder with all of this.
        crop_to_box: Crop images to the boxes of their lists; class folders have none.

    Raises:
        InputError: If the folder has none of these layouts, or a list is damaged.
    """

    def __init__(self, root: Path, crop_to_box: bool = False) -> None:
        root = innermost(root, FOLDER, "car_data")
        if find_list(root / SINGLE_LIST).is_file():
            content = single_list(root, crop_to_box)
        elif any(unpacked(root / part).is_dir() for part in PARTS):
            content = list_of_each_part(root, crop_to_box)
        elif crop_to_box:
            raise InputError(
                f"{root}: neither cars_annos.mat nor cars_train/ nor cars_test/ are there, which have boxes; "
                "leave crop_to_box out"
            )
        else:
            content = class_folders(root)
        super().__init__(
            "cars196",
            content.records,
            root=root,
            files=content.files,
            expected=OFFICIAL,
            problems=content.problems,
            notes=ignored_files(content.others),
        )


@DATASETS.register("cars196")
def load(root: Path | None = None, *, crop_to_box: bool = False) -> Cars196:
    """Returns Cars196 from its folder."""
    return Cars196(find_root(FOLDER) if root is None else root, crop_to_box)


def list_of_each_part(root: Path, boxed: bool) -> Content:
    """Returns the content of ``cars_train/`` and ``cars_test/``, as far as their lists are there.

    Raises:
        InputError: If a list is damaged, or there is none.
    """
    lists = {part: find_in_devkit(root, name) for part, (name, _) in PARTS.items()}
    meta = find_in_devkit(root, "cars_meta.mat")
    absent = [name for part, (name, _) in PARTS.items() if lists[part] is None]
    if meta is None or len(absent) == len(PARTS):
        raise InputError(
            f"{root}: found no {'cars_meta.mat' if meta is None else ' and no '.join(absent)}, neither there nor "
            "in devkit/ or car_devkit/; data/README.md says where to get it"
        )
    names = read_class_names(meta)
    content = Content()
    for part, (list_name, official) in PARTS.items():
        if (file := lists[part]) is None:
            content.problems.append(
                f"no {list_name}: the images of {part}/ are left out (cars_test_annos.mat has no classes)"
            )
            continue
        annotations = [
            row._replace(path=f"{part}/{row.path}") for row in read_annotations(file, "fname", len(names))
        ]
        add_listed(content, root, part, annotations, names, list_name, official, boxed)
    return content


def single_list(root: Path, boxed: bool) -> Content:
    """Returns the content of ``car_ims/``.

    Raises:
        InputError: If its list is damaged.
    """
    file = find_list(root / SINGLE_LIST)
    names = read_class_names(file)
    annotations = read_annotations(file, "relative_im_path", len(names))
    official = sum(images for _, images in PARTS.values())
    content = Content()
    add_listed(content, root, SINGLE_FOLDER, annotations, names, SINGLE_LIST, official, boxed)
    return content


def add_listed(
    content: Content,
    root: Path,
    part: str,
    annotations: list[Annotation],
    names: list[str],
    list_name: str,
    official: int,
    boxed: bool,
) -> None:
    """Adds the images of a list that are in its folder to the content.

    Args:
        content: The content, which is changed.
        root: The folder of the dataset.
        part: Name of the folder of the images.
        annotations: The list.
        names: Names of all classes in the order of their numbers.
        list_name: Name of the list in messages.
        official: Number of images of the official list.
        boxed: Whether records have boxes.
    """
    folder = innermost(unpacked(root / part))
    images = image_files(folder)
    inside = folder.relative_to(root).as_posix()
    paths = [row.path for row in annotations]
    there = [f"{part}/{path}" for path in images.images]
    files = listed_files(paths, there)
    content.records += [
        {
            "path": row.path,
            "original_class": names[row.class_number - 1],
            "split": "train" if row.class_number <= LAST_TRAIN_CLASS else "test",
            **({"box": row.box} if boxed else {}),
        }
        for row in annotations
        if row.path in files
    ]
    content.files |= {path: f"{inside}/{file.removeprefix(f'{part}/')}" for path, file in files.items()}
    content.problems += numbering_problems(
        list_name, (row.number for row in annotations), range(1, official + 1)
    )
    content.problems += folder_problems(list_name, paths, f"{part}/", there, files)
    content.others += [f"{part}/{path}" for path in images.others]


def find_in_devkit(root: Path, name: str) -> Path | None:
    """Returns a list in the dataset's folder or its devkit, or None if it is missing."""
    devkits = [innermost(unpacked(root / devkit), "devkit") for devkit in ("devkit", "car_devkit")]
    files = [find_list(place / name) for place in (root, *devkits)]
    return next((file for file in files if file.is_file()), None)


def class_folders(root: Path) -> Content:
    """Returns the content of class folders, which are in the dataset's folder or in its ``train`` and ``test``.

    Raises:
        InputError: If a folder is not named like a class.
    """
    names = subfolders(root)
    parts = [name for name in names if name in ("train", "test")]
    paths = [f"{part}/{name}" for part in parts for name in subfolders(root / part)] if parts else names
    content = Content()
    for folder in paths or ["nothing"]:
        name = folder.rpartition("/")[2]
        if not CLASS_FOLDER.fullmatch(name):
            raise InputError(
                f"{root}: found {folder}; expected cars_train/ and cars_test/ with their lists, car_ims/ with "
                "cars_annos.mat, or a folder for each class named like 'Acura RL Sedan 2012' (data/README.md)"
            )
        # The official classes are in the alphabetical order of the makes: class 98 is an Eagle, class 99 a FIAT.
        split = "train" if name[0].casefold() < "f" else "test"
        files = image_files(root / folder)
        content.others.extend(f"{folder}/{path}" for path in files.others)
        content.records.extend(
            {"path": f"{folder}/{path}", "original_class": name.replace("_", " "), "split": split}
            for path in files.images
        )
    return content


def subfolders(parent: Path) -> list[str]:
    """Returns the sorted names of the folders in a folder."""
    return sorted(entry.name for entry in parent.iterdir() if entry.is_dir() and is_class_folder(entry.name))
