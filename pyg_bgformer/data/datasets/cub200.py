"""CUB-200-2011: 11,788 photographs of 200 bird species.

Source: C. Wah, S. Branson, P. Welinder, P. Perona, S. Belongie, The Caltech-UCSD Birds-200-2011 Dataset,
Technical Report CNS-TR-2011-001, California Institute of Technology, 2011. Split of metric learning:
the first 100 classes train, the other 100 test (H. O. Song, Y. Xiang, S. Jegelka, S. Savarese, Deep Metric
Learning via Lifted Structured Feature Embedding, CVPR 2016).
"""

import math
import re
from pathlib import Path

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.lists import (
    find_list,
    folder_problems,
    listed_files,
    numbering_problems,
    ranges,
    read_lines,
)
from pyg_bgformer.data.datasets.registry import DATASETS, find_root, innermost
from pyg_bgformer.data.image_files import ignored_files, image_files
from pyg_bgformer.data.images import Box
from pyg_bgformer.data.verification import SplitCount
from pyg_bgformer.errors import InputError

FOLDER = "CUB_200_2011"
OFFICIAL = {"train": SplitCount(100, 5864), "test": SplitCount(100, 5924)}
LAST_TRAIN_CLASS = 100
ROWS = {
    "images.txt": range(1, 11_789),
    "image_class_labels.txt": range(1, 11_789),
    "classes.txt": range(1, 201),
}
"""Official numbers of each list's rows."""


class Cub200(ImageDataset):
    """CUB-200-2011 in its official layout. Rows are in the order of ``images.txt``.

    Listed images that are missing are left out, and the dataset is then partial. Files that are not listed are left
    out too, and :meth:`verify` names them.

    Args:
        root: The folder with ``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``images/``, or the
            folder around it. That one may hold ``CUB_200_2011.tgz`` instead.
        crop_to_box: Crop images to their boxes in ``bounding_boxes.txt``.

    Raises:
        InputError: If one of the lists is missing, damaged, or does not fit the others.
    """

    def __init__(self, root: Path, crop_to_box: bool = False) -> None:
        root = root if find_list(root / "images.txt").is_file() else innermost(root, FOLDER)
        lists = {name: read_list(root / name) for name in ROWS}
        listed = lists["images.txt"]
        folder = innermost(root / "images")
        content = image_files(folder)
        inside = folder.relative_to(root).as_posix()
        files = listed_files(listed.values(), content.images)
        classes = class_names(root, lists)
        boxes = read_boxes(root / "bounding_boxes.txt", listed) if crop_to_box else {}
        super().__init__(
            "cub200",
            [
                {
                    "path": f"images/{path}",
                    "original_class": classes[image],
                    "split": "train" if int(classes[image].partition(".")[0]) <= LAST_TRAIN_CLASS else "test",
                    **({"box": boxes[image]} if crop_to_box else {}),
                }
                for image, path in listed.items()
                if path in files
            ],
            root=root,
            files={f"images/{path}": f"{inside}/{file}" for path, file in files.items()},
            expected=OFFICIAL,
            problems=[
                *(
                    line
                    for name in ROWS
                    for line in numbering_problems(name, map(int, lists[name]), ROWS[name])
                ),
                *folder_problems("images.txt", listed.values(), "images/", content.images, files),
            ],
            notes=ignored_files(content.others),
        )

    def differences(self) -> list[str]:
        """Returns a line if the counts are not the official ones, and one if classes are missing."""
        found = {int(name.partition(".")[0]) for name in self.table["original_class"]}
        absent = sorted(set(range(1, 201)) - found)
        lines = [f"classes that are missing: {ranges(absent)}"] if absent else []
        return super().differences() + lines


@DATASETS.register("cub200")
def load(root: Path | None = None, *, crop_to_box: bool = False) -> Cub200:
    """Returns CUB-200-2011 from its folder."""
    return Cub200(find_root(FOLDER) if root is None else root, crop_to_box)


def read_list(file: Path) -> dict[str, str]:
    """Returns the values of a list by their numbers. Its lines are ``<number> <value>``.

    Raises:
        InputError: If the list is missing or has another line.
    """
    entries: dict[str, str] = {}
    for number, line in enumerate(read_lines(file, "CUB-200-2011"), start=1):
        match line.split(maxsplit=1):
            case [key, value] if key.isdecimal() and key not in entries:
                entries[key] = value.rstrip()
            case _:
                raise InputError(f"{file}, line {number}: found '{line}'; expected a new number and a value")
    return entries


def class_names(root: Path, lists: dict[str, dict[str, str]]) -> dict[str, str]:
    """Returns the class of each image by the image's number, for example ``001.Black_footed_Albatross``.

    Raises:
        InputError: If an image has no class, or the name of a class does not begin with its number.
    """
    names = lists["classes.txt"]
    classes = {}
    for image, path in lists["images.txt"].items():
        number = lists["image_class_labels.txt"].get(image, "")
        if number not in names:
            raise InputError(
                f"{root}: image {image} ({path}) has class '{number}', which classes.txt does not name; "
                "image_class_labels.txt and classes.txt must cover images.txt"
            )
        if not re.match(rf"0*{number}\.", names[number]):
            raise InputError(
                f"{root / 'classes.txt'}: class {number} is '{names[number]}'; expected '{int(number):03}.<name>'"
            )
        classes[image] = names[number]
    return classes


def read_boxes(file: Path, listed: dict[str, str]) -> dict[str, Box]:
    """Returns the box of each listed image by the image's number. Edges inside a pixel are moved outwards.

    Raises:
        InputError: If the list is missing, or an image does not have four numbers in it.
    """
    values = read_list(file)
    boxes = {}
    for image in listed:
        try:
            left, upper, width, height = map(float, values.get(image, "").split())
            edges = math.floor(left), math.floor(upper), math.ceil(left + width), math.ceil(upper + height)
        except (ValueError, OverflowError):
            raise InputError(
                f"{file}: image {image} has '{values.get(image, '')}'; expected four numbers: left, upper, width, "
                "height"
            ) from None
        boxes[image] = edges
    return boxes
