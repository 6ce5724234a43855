"""A user's own images: a folder for each class."""

import unicodedata
from pathlib import Path

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.folders import image_files, is_class_folder, is_image
from pyg_bgformer.errors import InputError


class ImageFolder(ImageDataset):
    """Images in ``root/class/image``, or in ``root/train/class/image`` and ``root/test/class/image``.

    In the first form the classes are sorted by name; the first half (of an odd number: the smaller half)
    trains, the rest tests, as with the benchmarks. Images may lie in folders below their class.

    Args:
        root: The folder with the class folders.

    Raises:
        InputError: There are images outside class folders, or folders beside ``train`` and ``test``.
        ImageError: A file is neither an image nor a known sidecar.
    """

    def __init__(self, root: Path) -> None:
        super().__init__("folder", _records(root), root=root)


def load(root: Path) -> ImageFolder:
    """A user's folder of images."""
    return ImageFolder(root)


def _records(root: Path) -> list[dict[str, str]]:
    names = _class_names(root)
    if not {"train", "test"} <= set(names):
        half = len(names) // 2
        return _split(root, names[:half], "train") + _split(root, names[half:], "test")
    if others := sorted(set(names) - {"train", "test"}):
        raise InputError(
            f"{root}: found the folders train and test and also '{others[0]}'; "
            "expected either these two alone or one folder for each class"
        )
    train, test = _class_names(root / "train"), _class_names(root / "test")
    return _split(root, train, "train", "train/") + _split(root, test, "test", "test/")


def _class_names(folder: Path) -> list[str]:
    entries = sorted(folder.iterdir(), key=lambda entry: unicodedata.normalize("NFC", entry.name))
    for entry in entries:
        if entry.is_file() and is_image(entry.as_posix()):
            raise InputError(
                f"{entry}: an image outside of the class folders; expected {folder}/<class>/<image>"
            )
    return [entry.name for entry in entries if entry.is_dir() and is_class_folder(entry.name)]


def _split(root: Path, names: list[str], split: str, prefix: str = "") -> list[dict[str, str]]:
    return [
        {"path": f"{prefix}{name}/{path}", "original_class": name, "split": split}
        for name in names
        for path in _images(root / f"{prefix}{name}")
    ]


def _images(folder: Path) -> list[str]:
    paths = sorted(image_files(folder), key=lambda path: unicodedata.normalize("NFC", path))
    if not paths:
        raise InputError(f"{folder}: a class folder without images; add at least 2 or remove the folder")
    return paths
