"""Omniglot: handwritten characters of fifty alphabets, with 20 drawings of 105 x 105 pixels of each character.

Source: B. M. Lake, R. Salakhutdinov, J. B. Tenenbaum, Human-level concept learning through probabilistic
program induction, Science 350 (2015); https://github.com/brendenlake/omniglot, folder ``python``.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Literal

import torchvision

from pyg_bgformer.data.dataset import ImageDataset
from pyg_bgformer.data.datasets.archive import ZipArchive
from pyg_bgformer.data.datasets.registry import DATASETS, find_root, innermost
from pyg_bgformer.data.image_files import ignored_files, image_files, is_class_folder, is_image, open_image
from pyg_bgformer.data.verification import SplitCount
from pyg_bgformer.errors import InputError

PARTS = {
    "small": ("images_background_small1", "images_background_small2"),
    "full": ("images_background", "images_evaluation"),
}
"""For each variant the part to train on and the part to test on."""
OFFICIAL = {
    "small": {"train": SplitCount(136, 2720), "test": SplitCount(106, 2120)},
    "full": {"train": SplitCount(964, 19280), "test": SplitCount(659, 13180)},
}
FOLDER, TORCHVISION_FOLDER = "omniglot", "omniglot-py"


class Omniglot(ImageDataset):
    """Omniglot from its official zip archives, which are not unpacked, or from their unpacked folders.

    A class is a character of an alphabet (``Greek/character01``), its super-class is the alphabet. If an archive
    and its folder are both there, the archive is read.

    Args:
        root: The folder with the archives or folders. They may also be in ``omniglot/`` or torchvision's
            ``omniglot-py/`` inside it.
        variant: ``small`` trains on background_small1, and tests on the alphabets of background_small2 that are not
            in background_small1. ``full`` trains on background and tests on evaluation. Torchvision downloads a
            missing part of ``full``.

    Raises:
        InputError: If a part is missing and cannot be downloaded, or its layout is another one.
    """

    def __init__(self, root: Path, variant: str) -> None:
        self._parts = {part: find_part(root, part, download=variant == "full") for part in PARTS[variant]}
        others: list[str] = []
        train, test = (read_part(part, source, others) for part, source in self._parts.items())
        seen = {record["super_class"] for record in train}
        new = [record for record in test if record["super_class"] not in seen]
        records = [{**record, "split": "train"} for record in train]
        records += [{**record, "split": "test"} for record in new]
        super().__init__(
            f"omniglot-{variant}",
            records,
            root=root,
            expected=OFFICIAL[variant],
            notes=ignored_files(others),
        )

    def open(self, row: int) -> BinaryIO:
        """Returns the PNG of a row as a binary stream."""
        path = self._paths[row]
        source = self._parts[path.partition("/")[0]]
        return source.open(path) if isinstance(source, ZipArchive) else open_image(source / path)

    def source_files(self) -> Iterable[str | Path]:
        """Returns the archives, or the files of unpacked folders."""
        for part, source in self._parts.items():
            if isinstance(source, ZipArchive):
                yield source.path
            else:
                yield from (source / path for path in self._paths if path.startswith(f"{part}/"))


@DATASETS.register("omniglot")
def load(root: Path | None = None, *, variant: Literal["small", "full"] = "small") -> Omniglot:
    """Returns Omniglot from its folder."""
    return Omniglot(find_root(FOLDER, must_exist=variant != "full") if root is None else root, variant)


def find_part(root: Path, part: str, download: bool) -> ZipArchive | Path:
    """Returns the archive of a part, or the folder that contains its unpacked folder.

    Args:
        root: See :class:`Omniglot`.
        part: Name of the part.
        download: Whether a missing part is downloaded.

    Raises:
        InputError: If there is neither of them and it is not downloaded.
    """
    for base in (root, root / FOLDER, root / TORCHVISION_FOLDER):
        if (base / f"{part}.zip").is_file():
            return ZipArchive(base / f"{part}.zip")
        if (base / part).is_dir():
            return innermost(base / part).parent
    if not download:
        raise InputError(
            f"{root}: found neither {part}.zip nor the folder {part}; data/README.md says where to get it"
        )
    try:
        torchvision.datasets.Omniglot(root, background=part == "images_background", download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{root}: {part}.zip is not there and could not be downloaded ({error}); "
            "get it where there is a network (data/README.md)"
        ) from None
    return ZipArchive(root / TORCHVISION_FOLDER / f"{part}.zip")


def read_part(part: str, source: ZipArchive | Path, others: list[str]) -> list[dict[str, str]]:
    """Returns a record without a split for each image of a part.

    Args:
        part: Name of the part.
        source: Its archive, or the folder that contains its folder.
        others: A list to which files that are not images are added.

    Raises:
        InputError: If an image is not in ``part/alphabet/character/``.
    """
    if isinstance(source, ZipArchive):
        shown = [name for name in source.names() if all(map(is_class_folder, name.split("/")))]
        paths = [name for name in shown if is_image(f"{source.path}/{name}")]
        others += sorted(set(shown) - set(paths))
    else:
        content = image_files(source / part)
        paths = [f"{part}/{path}" for path in content.images]
        others += [f"{part}/{path}" for path in content.others]
    records = []
    for path in sorted(paths):
        pieces = path.split("/")
        if len(pieces) != 4 or pieces[0] != part:
            raise InputError(
                f"{part}: found the image '{path}'; expected {part}/alphabet/character/image.png"
            )
        records.append({"path": path, "original_class": "/".join(pieces[1:3]), "super_class": pieces[1]})
    return records
