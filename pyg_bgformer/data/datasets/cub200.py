"""CUB-200-2011: 11,788 photographs of 200 bird species.

Source: C. Wah, S. Branson, P. Welinder, P. Perona, S. Belongie, The Caltech-UCSD Birds-200-2011 Dataset,
Technical Report CNS-TR-2011-001, California Institute of Technology, 2011. Split of metric learning:
the first 100 classes train, the other 100 test (H. O. Song, Y. Xiang, S. Jegelka, S. Savarese, Deep Metric
Learning via Lifted Structured Feature Embedding, CVPR 2016).
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

from pyg_bgformer.data.boxes import BOX
from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.data.datasets.folders import image_files
from pyg_bgformer.data.datasets.lists import folder_notes, numbering_notes, ranges, read_lines
from pyg_bgformer.data.datasets.verification import SplitCount
from pyg_bgformer.errors import InputError

FOLDER = "CUB_200_2011"
OFFICIAL = {"train": SplitCount(100, 5864), "test": SplitCount(100, 5924)}
_LAST_TRAIN_CLASS = 100
# Official numbers of each list's rows
_ROWS = {
    "images.txt": range(1, 11_789),
    "image_class_labels.txt": range(1, 11_789),
    "classes.txt": range(1, 201),
}


class Cub200(ImageDataset):
    """CUB-200-2011 in its official layout; rows are in the order of ``images.txt``.

    Images that are listed but not there are left out, which makes the dataset partial; files that are there
    but not listed are left out and named by :meth:`verify`.

    Args:
        root: The folder with ``images.txt``, ``image_class_labels.txt``, ``classes.txt`` and ``images/``,
            or the folder around it, in which ``CUB_200_2011.tgz`` will do.
        crop_to_box: Cut images to their boxes in ``bounding_boxes.txt``.

    Raises:
        InputError: One of the lists is missing, damaged, or does not fit the others.
    """

    def __init__(self, root: Path, crop_to_box: bool = False) -> None:
        root = root if (root / "images.txt").is_file() else unpacked(root / FOLDER)
        listed = _read_list(root / "images.txt")
        there = set(image_files(root / "images"))
        records = _boxed(root, listed) if crop_to_box else _records(root, listed)
        super().__init__(
            "cub200",
            [record for record in records if record["path"].partition("/")[2] in there],
            root=root,
            expected=OFFICIAL,
            notes=[
                *(
                    line
                    for name, official in _ROWS.items()
                    for line in numbering_notes(name, map(int, _read_list(root / name)), official)
                ),
                *folder_notes("images.txt", listed.values(), "images/", there),
            ],
        )

    def _missing(self) -> list[str]:
        found = {int(name.partition(".")[0]) for name in self.table["original_class"]}
        absent = sorted(set(range(1, 201)) - found)
        lines = [f"classes that are missing: {ranges(absent)}"] if absent else []
        return super()._missing() + lines


def load(root: Path, crop_to_box: bool = False) -> Cub200:
    """CUB-200-2011 from its folder."""
    return Cub200(root, crop_to_box)


def _records(root: Path, listed: Mapping[str, str]) -> list[dict[str, str]]:
    class_of = _read_list(root / "image_class_labels.txt")
    names = _read_list(root / "classes.txt")
    records = []
    for image, path in listed.items():
        number = class_of.get(image, "")
        if number not in names:
            raise InputError(
                f"{root}: image {image} ({path}) has class '{number}', which classes.txt does not name; "
                "image_class_labels.txt and classes.txt must cover images.txt"
            )
        if not re.match(rf"0*{number}\.", names[number]):
            raise InputError(
                f"{root / 'classes.txt'}: class {number} is '{names[number]}'; expected '{int(number):03}.<name>'"
            )
        split = "train" if int(number) <= _LAST_TRAIN_CLASS else "test"
        records.append({"path": f"images/{path}", "original_class": names[number], "split": split})
    return records


def _boxed(root: Path, listed: Mapping[str, str]) -> list[dict[str, str]]:
    file = root / "bounding_boxes.txt"
    boxes = _read_list(file)
    return [
        {**record, BOX: _box(file, image, boxes.get(image, ""))}
        for image, record in zip(listed, _records(root, listed), strict=True)
    ]


def _box(file: Path, image: str, values: str) -> str:
    try:
        left, upper, width, height = map(float, values.split())
    except ValueError:
        raise InputError(
            f"{file}: image {image} has '{values}'; expected four numbers: left, upper, width, height"
        ) from None
    edges = math.floor(left), math.floor(upper), math.ceil(left + width), math.ceil(upper + height)
    return " ".join(map(str, edges))


def _read_list(file: Path) -> dict[str, str]:
    """A list of lines ``<id> <value>``."""
    entries: dict[str, str] = {}
    for number, line in enumerate(read_lines(file, "CUB-200-2011"), start=1):
        key, _, value = line.strip().partition(" ")
        if not key.isdecimal() or not value or key in entries:
            raise InputError(f"{file}, line {number}: found '{line}'; expected a new number and a value")
        entries[key] = value
    return entries
