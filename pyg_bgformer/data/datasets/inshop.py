"""In-Shop Clothes Retrieval: 52,712 photographs of 7,982 garments, half of them to search for in a gallery.

Source: Z. Liu, P. Luo, S. Qiu, X. Wang, X. Tang, DeepFashion: Powering Robust Clothes Recognition and
Retrieval with Rich Annotations, CVPR 2016, with its official split.
"""

from pathlib import Path

from pyg_bgformer.data.dataset import SPLITS, ImageDataset
from pyg_bgformer.data.datasets.archive import unpacked
from pyg_bgformer.data.datasets.folders import image_files
from pyg_bgformer.data.datasets.lists import folder_notes, read_lines, split_rows
from pyg_bgformer.data.datasets.verification import SplitCount
from pyg_bgformer.errors import InputError

OFFICIAL = {
    "train": SplitCount(3_997, 25_882),
    "query": SplitCount(3_985, 14_218),
    "gallery": SplitCount(3_985, 12_612),
}
_LIST = "list_eval_partition.txt"
_COLUMNS = "image_name item_id evaluation_status"


class InShop(ImageDataset):
    """In-Shop Clothes in its official layout; rows are in the order of ``list_eval_partition.txt``.

    A class is an item of clothing. Images that are listed but not there are left out, which makes the dataset
    partial.

    Args:
        root: The folder with ``list_eval_partition.txt`` or ``Eval/list_eval_partition.txt``, and with the tree
            of images or its archive, there or in ``Img/``.
        tree: ``img`` (256 x 256 pixels) or ``img_highres``.

    Raises:
        InputError: The list is missing or damaged, or there is no such tree.
    """

    single_images = True  # 12 of the official training items

    def __init__(self, root: Path, tree: str) -> None:
        file = root / "Eval" / _LIST
        file = file if file.is_file() else root / _LIST
        announced, rows = _rows(file)
        base = _around(root, tree)
        there = {f"{tree}/{path}" for path in image_files(base / tree)}
        paths = [f"{tree}/{path.partition('/')[2]}" for path, _, _ in rows]
        super().__init__(
            f"inshop-{tree}",
            [
                {"path": path, "original_class": item, "split": split}
                for path, (_, item, split) in zip(paths, rows, strict=True)
                if path in there
            ],
            root=base,
            expected=OFFICIAL,
            notes=[*_count_notes(announced, len(rows)), *folder_notes(_LIST, set(paths), f"{tree}/", there)],
        )


def load(root: Path, variant: str) -> InShop:
    """In-Shop Clothes from its folder."""
    return InShop(root, variant)


def _rows(file: Path) -> tuple[int, list[list[str]]]:
    """How many images the file says it lists, and path, item and split of each."""
    lines = read_lines(file, "In-Shop Clothes Retrieval")
    if not lines or not lines[0].strip().isdecimal():
        found = lines[0] if lines else ""
        raise InputError(f"{file}, line 1: found '{found}'; expected the number of images")
    rows = split_rows(file, lines[1:], _COLUMNS, first_line=2)
    for number, (path, _, split) in enumerate(rows, start=3):
        if not path.startswith("img/") or split not in OFFICIAL:
            raise InputError(
                f"{file}, line {number}: found '{path}' with status '{split}'; "
                f"expected img/... with one of {', '.join(s for s in SPLITS if s in OFFICIAL)}"
            )
    return int(lines[0]), rows


def _around(root: Path, tree: str) -> Path:
    """The folder in which the tree of images is."""
    for base in (root / "Img", root):
        if unpacked(base / tree).is_dir():
            return base
    raise InputError(
        f"{root}: found neither {tree} nor {tree}.zip, there or in Img/; data/README.md says where to get them"
    )


def _count_notes(announced: int, rows: int) -> list[str]:
    return [] if rows == announced else [f"{_LIST} announces {announced:,} images and has {rows:,} rows"]
