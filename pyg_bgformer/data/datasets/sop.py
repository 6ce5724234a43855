"""Stanford Online Products: 120,053 photographs of 22,634 products of twelve kinds, from online sales.

Source: H. O. Song, Y. Xiang, S. Jegelka, S. Savarese, Deep Metric Learning via Lifted Structured Feature
Embedding, CVPR 2016, with its official split.
"""

from pathlib import Path

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.lists import (
    find_list,
    folder_problems,
    listed_files,
    numbering_problems,
    read_lines,
    split_rows,
)
from pyg_bgformer.data.datasets.registry import DATASETS, find_root, innermost
from pyg_bgformer.data.image_files import ignored_files, image_files, is_class_folder
from pyg_bgformer.data.verification import SplitCount
from pyg_bgformer.errors import InputError

FOLDER = "Stanford_Online_Products"
OFFICIAL = {"train": SplitCount(11_318, 59_551), "test": SplitCount(11_316, 60_502)}
LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
NUMBERS = {"train": range(1, 59_552), "test": range(59_552, 120_054)}
COLUMNS = "image_id class_id super_class_id path"


class OnlineProducts(ImageDataset):
    """Stanford Online Products in its official layout. Rows are in the order of its lists, train first.

    A class is a product, its super-class is the kind of product (``bicycle`` to ``toaster``). Listed images that
    are missing are left out, and the dataset is then partial.

    Args:
        root: The folder with ``Ebay_train.txt``, ``Ebay_test.txt`` and ``bicycle_final/`` to ``toaster_final/``, or
            the folder around it. That one may hold ``Stanford_Online_Products.zip`` instead.

    Raises:
        InputError: If a list is missing or damaged.
    """

    def __init__(self, root: Path) -> None:
        root = root if find_list(root / LISTS["train"]).is_file() else innermost(root, FOLDER)
        rows = {split: read_rows(root / name) for split, name in LISTS.items()}
        listed = [row[3] for split in LISTS for row in rows[split]]
        there, others = images_of_kinds(root)
        files = listed_files(listed, there)
        numbering = [
            line
            for split, name in LISTS.items()
            for line in numbering_problems(name, (int(row[0]) for row in rows[split]), NUMBERS[split])
        ]
        super().__init__(
            "sop",
            [
                {
                    "path": path,
                    "original_class": product,
                    "split": split,
                    "super_class": path.partition("/")[0].removesuffix("_final"),
                }
                for split in LISTS
                for _, product, _, path in rows[split]
                if path in files
            ],
            root=root,
            files=files,
            expected=OFFICIAL,
            problems=numbering + folder_problems("the lists", listed, str(root), there, files),
            notes=ignored_files(others),
        )


@DATASETS.register("sop")
def load(root: Path | None = None) -> OnlineProducts:
    """Returns Stanford Online Products from its folder."""
    return OnlineProducts(find_root(FOLDER) if root is None else root)


def read_rows(file: Path) -> list[list[str]]:
    """Returns image id, class id, super-class id and path of each image of a list.

    Raises:
        InputError: If the list is missing or damaged.
    """
    rows = split_rows(file, read_lines(file, "Stanford Online Products"), COLUMNS)
    for number, row in enumerate(rows, start=2):
        if not all(map(str.isdecimal, row[:3])) or row[3].count("/") != 1:
            raise InputError(
                f"{file}, line {number}: found '{' '.join(row)}'; expected three numbers and <kind>/<image>"
            )
    return rows


def images_of_kinds(root: Path) -> tuple[list[str], list[str]]:
    """Returns the images in the folders of all kinds of products, and the other files in them."""
    images, others = [], []
    for entry in sorted(root.iterdir()):
        if entry.is_dir() and is_class_folder(entry.name):
            content = image_files(entry)
            images += [f"{entry.name}/{path}" for path in content.images]
            others += [f"{entry.name}/{path}" for path in content.others]
    return images, others
