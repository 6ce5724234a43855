"""Stanford Online Products: 120,053 photographs of 22,634 products of twelve kinds, from online sales.

Source: H. O. Song, Y. Xiang, S. Jegelka, S. Savarese, Deep Metric Learning via Lifted Structured Feature
Embedding, CVPR 2016, with its official split.
"""

from pathlib import Path

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.data.datasets.folders import image_files, is_class_folder
from pyg_bgformer.data.datasets.lists import folder_notes, numbering_notes, read_lines, split_rows
from pyg_bgformer.data.datasets.verification import SplitCount
from pyg_bgformer.errors import InputError

FOLDER = "Stanford_Online_Products"
OFFICIAL = {"train": SplitCount(11_318, 59_551), "test": SplitCount(11_316, 60_502)}
_LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
_IMAGES = {"train": range(1, 59_552), "test": range(59_552, 120_054)}
_COLUMNS = "image_id class_id super_class_id path"
_ENDING = "_final"


class OnlineProducts(ImageDataset):
    """Stanford Online Products in its official layout; rows are in the order of its lists, train first.

    A class is a product, its super-class the kind of product (``bicycle`` to ``toaster``). Images that are
    listed but not there are left out, which makes the dataset partial.

    Args:
        root: The folder with ``Ebay_train.txt``, ``Ebay_test.txt`` and ``bicycle_final/`` to
            ``toaster_final/``, or the folder around it, in which ``Stanford_Online_Products.zip`` will do.

    Raises:
        InputError: A list is missing or damaged.
    """

    def __init__(self, root: Path) -> None:
        root = root if (root / _LISTS["train"]).is_file() else unpacked(root / FOLDER)
        rows = {split: _rows(root / name) for split, name in _LISTS.items()}
        listed = {row[3] for split in rows.values() for row in split}
        there = _images(root)
        super().__init__(
            "sop",
            [_record(row, split) for split in rows for row in rows[split] if row[3] in there],
            root=root,
            expected=OFFICIAL,
            notes=[
                *(
                    line
                    for split, name in _LISTS.items()
                    for line in numbering_notes(name, (int(row[0]) for row in rows[split]), _IMAGES[split])
                ),
                *folder_notes("the lists", listed, str(root), there),
            ],
        )


def load(root: Path) -> OnlineProducts:
    """Stanford Online Products from its folder."""
    return OnlineProducts(root)


def _rows(file: Path) -> list[list[str]]:
    """Image id, class id, super-class id and path of each image of a list."""
    rows = split_rows(file, read_lines(file, "Stanford Online Products"), _COLUMNS)
    for number, row in enumerate(rows, start=2):
        if not all(map(str.isdecimal, row[:3])) or row[3].count("/") != 1:
            raise InputError(
                f"{file}, line {number}: found '{' '.join(row)}'; expected three numbers and <kind>/<image>"
            )
    return rows


def _images(root: Path) -> set[str]:
    folders = [entry for entry in root.iterdir() if entry.is_dir() and is_class_folder(entry.name)]
    return {f"{folder.name}/{path}" for folder in folders for path in image_files(folder)}


def _record(row: list[str], split: str) -> dict[str, str]:
    kind = row[3].partition("/")[0].removesuffix(_ENDING)
    return {"path": row[3], "original_class": row[1], "split": split, "super_class": kind}
