"""A user's own images, in a folder for each class."""

import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from pyg_bgformer.data.dataset import SPLITS, ImageDataset, with_labels
from pyg_bgformer.data.datasets.registry import DATASETS
from pyg_bgformer.data.image_files import ignored_files, image_files, is_class_folder, is_image, some
from pyg_bgformer.errors import InputError

SPLIT_NAMES = {
    "train": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "query": "query",
    "gallery": "gallery",
}
"""Folder names in lower case, and the splits that they stand for."""

SPLIT_LAYOUTS = ({"train", "test"}, {"train", "val", "test"}, {"train", "query", "gallery"})


class ImageFolder(ImageDataset):
    """Images in ``root/class/image``, or in ``root/train/class/image``, ``root/test/class/image`` and so on.

    In the first form the classes are sorted by name. As in the benchmarks, the first half is trained on and the
    rest tested; of an odd number of classes, the smaller half is trained on. In the second form the folders are
    ``train`` and ``test``, ``train``, ``val`` and ``test``, or ``train``, ``query`` and ``gallery``, in upper or
    lower case. Either all tested classes are trained on, or none. Images may also lie in folders inside their class
    folder. A folder that contains nothing but one other folder is entered.

    Args:
        root: The folder with the class folders.

    Attributes:
        layout (list[str]): Names of the folders that stand for splits; empty in the first form.

    Raises:
        InputError: If there are images outside class folders, or other folders beside those of splits.
        ImageError: If an image is of a kind that is not read.
    """

    official = False

    def __init__(self, root: Path) -> None:
        root, names, stray = enter_single_folders(root)
        places: list[tuple[str, str]] = []  # split and path of each class folder
        layout = split_layout(root, names)
        for split, folder in layout:
            inside, others = class_folders(root / folder)
            places += [(split, f"{folder}/{name}") for name in inside]
            stray += [f"{folder}/{name}" for name in others]
        if not layout:
            trained = first_half(map(composed, names))
            places = [("train" if composed(name) in trained else "test", name) for name in names]
        records: list[dict[str, str]] = []
        for split, place in places:
            content = image_files(root / place)
            if not content.images:
                raise InputError(
                    f"{root / place}: a class folder without images; add at least 2 or remove the folder"
                )
            name = composed(place.rpartition("/")[2])
            records += [
                {"path": f"{place}/{path}", "original_class": name, "split": split}
                for path in sorted(content.images, key=composed)
            ]
            stray += [f"{place}/{path}" for path in content.others]
        notes = [*same_classes(place for _, place in places), *ignored_files(stray)]
        self.layout = [folder for _, folder in layout]
        super().__init__("folder", records, root=root, notes=notes)

    def without_small_classes(self, min_images: int) -> Self:
        """Returns this dataset without its small classes. Without folders of splits, the others are split again.

        Args:
            min_images: Smallest number of images of a class.
        """
        other = super().without_small_classes(min_images)
        if self.layout:
            return other
        classes = other.table["original_class"]
        split = np.where(classes.isin(first_half(classes)), "train", "test")
        return other.with_table(with_labels(other.table.assign(split=split).drop(columns="label")))


@DATASETS.register("folder")
def load(root: Path) -> ImageFolder:
    """Returns a user's folder of images."""
    return ImageFolder(root)


def composed(name: str) -> str:
    """Returns a name with composed accents, because file systems write the same name in different Unicode forms."""
    return unicodedata.normalize("NFC", name)


def first_half(classes: Iterable[str]) -> list[str]:
    """Returns the classes to train on without folders of splits: the first half, rounded down."""
    names = list(dict.fromkeys(classes))
    return names[: len(names) // 2]


def class_folders(folder: Path) -> tuple[list[str], list[str]]:
    """Returns the names of the class folders in a folder, and the names of everything else in it.

    Raises:
        InputError: If there is an image beside the class folders.
    """
    names: list[str] = []
    others: list[str] = []
    for entry in sorted(folder.iterdir(), key=lambda entry: (composed(entry.name), entry.name)):
        if entry.is_dir():
            (names if is_class_folder(entry.name) else others).append(entry.name)
        elif is_image(entry.as_posix()):
            raise InputError(
                f"{entry}: an image outside of the class folders; expected {folder}/<class>/<image>"
            )
        else:
            others.append(entry.name)
    return names, others


def enter_single_folders(root: Path) -> tuple[Path, list[str], list[str]]:
    """Returns the folder with the class folders. A folder with nothing but one folder of folders is entered.

    Args:
        root: The outermost folder.

    Returns:
        The folder, the names of the folders in it, and the names of everything else that was found on the way.
    """
    names, others = class_folders(root)
    for _ in range(4):  # a link can make a folder contain itself
        if len(names) != 1 or names[0].lower() in SPLIT_NAMES:
            break
        inside = list((root / names[0]).iterdir())
        if not any(entry.is_dir() for entry in inside) or any(is_image(entry.name) for entry in inside):
            break  # a class
        root = root / names[0]
        names, more = class_folders(root)
        others += more
    return root, names, others


def split_layout(root: Path, names: list[str]) -> list[tuple[str, str]]:
    """Returns ``(split, folder)`` for folders that stand for splits, or nothing if each folder is a class.

    If only one of several folders has such a name, it is a class: a train is a vehicle too.

    Raises:
        InputError: If there is another folder beside two or more of splits, or a split is missing.
    """
    splits = {name: SPLIT_NAMES[name.lower()] for name in names if name.lower() in SPLIT_NAMES}
    if not splits or (len(splits) == 1 and len(names) > 1):
        return []
    if len(splits) != len(names) or sorted(splits.values()) not in map(sorted, SPLIT_LAYOUTS):
        others = [name for name in names if name not in splits]
        beside = f" and also {some(others)}" if others else ""
        raise InputError(
            f"{root}: found the folders {', '.join(splits)}{beside}; expected train and test, train, val and test, "
            "train, query and gallery, or one folder for each class: rename or move folders"
        )
    return sorted(((split, name) for name, split in splits.items()), key=lambda part: SPLITS.index(part[0]))


def same_classes(places: Iterable[str]) -> list[str]:
    """Returns a line for each class whose name is written in several Unicode forms."""
    spellings: dict[str, list[str]] = {}
    for place in places:
        spellings.setdefault(composed(place), []).append(place)
    return [
        f"one class, although its folders' names have different Unicode forms: {some(list(map(ascii, names)))}"
        for names in spellings.values()
        if len(names) > 1
    ]
