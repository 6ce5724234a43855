"""In-Shop Clothes Retrieval: 52,712 photographs of 7,982 garments, half of them to search for in a gallery.

Source: Z. Liu, P. Luo, S. Qiu, X. Wang, X. Tang, DeepFashion: Powering Robust Clothes Recognition and
Retrieval with Rich Annotations, CVPR 2016, with its official split.
"""

from pathlib import Path
from typing import Literal

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.data.datasets.lists import (
    find_list,
    folder_problems,
    listed_files,
    read_lines,
    split_rows,
)
from pyg_bgformer.data.datasets.registry import DATASETS, find_root, innermost
from pyg_bgformer.data.image_files import ignored_files, image_files
from pyg_bgformer.data.verification import SplitCount
from pyg_bgformer.errors import InputError

FOLDER = "In-shop Clothes Retrieval Benchmark"
OFFICIAL = {
    "train": SplitCount(3_997, 25_882),
    "query": SplitCount(3_985, 14_218),
    "gallery": SplitCount(3_985, 12_612),
}
LIST = "list_eval_partition.txt"
COLUMNS = "image_name item_id evaluation_status"


class InShop(ImageDataset):
    """In-Shop Clothes in its official layout. Rows are in the order of ``list_eval_partition.txt``.

    A class is an item of clothing. Listed images that are missing are left out, and the dataset is then partial.

    Args:
        root: The folder with ``list_eval_partition.txt`` or ``Eval/list_eval_partition.txt``. It also has the tree
            of images or its archive, directly or in ``Img/``.
        tree: ``img`` (256 x 256 pixels) or ``img_highres``.

    Raises:
        InputError: If the list is missing or damaged, or there is no such tree.
    """

    single_images = True  # 12 of the official training items have one image

    def __init__(self, root: Path, tree: str) -> None:
        root = innermost(root, FOLDER)
        lists = [place / LIST for place in (root / "Eval", root) if find_list(place / LIST).is_file()]
        announced, rows = read_rows(lists[0] if lists else root / LIST)
        folder = tree_folder(root, tree)
        content = image_files(folder)
        there = [f"{tree}/{path}" for path in content.images]
        paths = [f"{tree}/{path.partition('/')[2]}" for path, _, _ in rows]
        files = listed_files(paths, there)
        problems = folder_problems(LIST, paths, f"{tree}/", there, files)
        if announced != len(rows):
            problems.insert(0, f"{LIST} announces {announced:,} images and has {len(rows):,} rows")
        super().__init__(
            f"inshop-{tree}",
            [
                {"path": path, "original_class": item, "split": split}
                for path, (_, item, split) in zip(paths, rows, strict=True)
                if path in files
            ],
            root=folder.parent,
            files=files,
            expected=OFFICIAL,
            problems=problems,
            notes=ignored_files(content.others),
        )


@DATASETS.register("inshop")
def load(root: Path | None = None, *, variant: Literal["img", "img_highres"] = "img") -> InShop:
    """Returns In-Shop Clothes from its folder."""
    return InShop(find_root(FOLDER) if root is None else root, variant)


def read_rows(file: Path) -> tuple[int, list[list[str]]]:
    """Returns the number of images in the first line of the list, and path, item and split of each image.

    Raises:
        InputError: If the list is missing or damaged.
    """
    lines = read_lines(file, "In-Shop Clothes Retrieval")
    if not lines or not lines[0].strip().isdecimal():
        found = lines[0] if lines else ""
        raise InputError(f"{file}, line 1: found '{found}'; expected the number of images")
    rows = split_rows(file, lines[1:], COLUMNS, first_line=2)
    for number, (path, _, split) in enumerate(rows, start=3):
        if not path.startswith("img/") or split not in OFFICIAL:
            raise InputError(
                f"{file}, line {number}: found '{path}' with status '{split}'; "
                f"expected img/... with one of {', '.join(OFFICIAL)}"
            )
    return int(lines[0]), rows


def tree_folder(root: Path, tree: str) -> Path:
    """Returns the folder of a tree of images. If there is only its archive, it is unpacked.

    Raises:
        InputError: If there is neither the folder nor the archive.
    """
    for base in (root / "Img", root):
        if unpacked(base / tree).is_dir():
            return innermost(base / tree)
    raise InputError(
        f"{root}: found neither {tree} nor {tree}.zip, there or in Img/; data/README.md says where to get them"
    )
