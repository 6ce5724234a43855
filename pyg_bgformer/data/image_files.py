"""Which files of a folder are images."""

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple

from pyg_bgformer.data.images import ImageError

IMAGE_EXTENSIONS = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"}
    | {".tif", ".tiff", ".webp"}
)
"""File name endings (lower case) that are taken for images."""

UNREAD_EXTENSIONS = frozenset(
    {
        ".avif",
        ".cr2",
        ".dng",
        ".eps",
        ".heic",
        ".heif",
        ".ico",
        ".j2k",
        ".jp2",
        ".jxl",
        ".nef",
        ".psd",
        ".svg",
    }
    | {".tga"}
)
"""Endings of images that are not read. Passing them over would change the classes."""

NAMED = 10
"""How many things a line names before it says how many more there are."""


class FolderContent(NamedTuple):
    """What is in a folder and its subfolders, as sorted paths relative to it and with ``/``.

    Attributes:
        images: The images.
        others: Files that are not images, and folders that are ignored.
    """

    images: list[str]
    others: list[str]


def is_image(path: str) -> bool:
    """Returns whether a file is taken for an image, judged by its name.

    Raises:
        ImageError: If it is an image of a kind that is not read.
    """
    name = path.rpartition("/")[2]
    extension = os.path.splitext(name)[1].lower()
    if name.startswith("."):
        return False
    if extension in UNREAD_EXTENSIONS:
        raise ImageError(f"{path}: {extension} images are not read; convert it to JPEG or PNG, or remove it")
    return extension in IMAGE_EXTENSIONS


def is_class_folder(name: str) -> bool:
    """Returns whether a folder of this name holds images: not hidden, not made by a file manager."""
    return not name.startswith(".") and name not in ("__MACOSX", "@eaDir")


def image_files(folder: Path, bad: list[ImageError] | None = None) -> FolderContent:
    """Returns the images under a folder, none if there is no such folder.

    Links to folders are followed. Each folder is read once, so that a link to a folder above ends.

    Args:
        folder: The folder.
        bad: Receives the errors of what cannot be read, which is then left out. ``None``: the first one is raised.

    Raises:
        ImageError: If an image is of a kind that is not read, something named like an image is not a regular file,
            or a folder cannot be read.
    """

    def refuse(error: ImageError) -> None:
        if bad is None:
            raise error
        bad.append(error)

    if not folder.is_dir():
        return FolderContent([], [])
    images: list[str] = []
    others: list[str] = []
    # A link to a folder above would bring in the images of other classes.
    above = {*folder.absolute().parents, *folder.resolve().parents}
    seen = {(status.st_dev, status.st_ino) for status in map(os.stat, above)}
    folders: list[str] = [""]
    links: list[str] = []
    while folders or links:
        inside = folders.pop() if folders else links.pop()
        try:
            status = os.stat(f"{folder}/{inside}")
            entries = sorted(os.scandir(f"{folder}/{inside}"), key=lambda entry: entry.name)
        except OSError as error:
            refuse(ImageError(f"{folder}/{inside}: cannot be read ({error.strerror})"))
            continue
        if (status.st_dev, status.st_ino) in seen:
            others.append(f"{inside} (a link to a folder above, or to one that is read already)")
            continue
        seen.add((status.st_dev, status.st_ino))
        for entry in entries:
            path = f"{inside}{entry.name}"
            if os.path.isdir(entry.path) if (is_link := entry.is_symlink()) else entry.is_dir():
                places = (links if is_link else folders) if is_class_folder(entry.name) else others
                places.append(f"{path}/")
                continue
            try:
                named = is_image(entry.path)
            except ImageError as error:
                refuse(error)
                continue
            if not named:
                others.append(path)
            elif os.path.isfile(entry.path) if is_link else entry.is_file():
                images.append(path)
            else:
                refuse(
                    ImageError(
                        f"{entry.path}: not a regular file but a pipe, a device or a broken link; remove it"
                    )
                )
    return FolderContent(sorted(images), sorted(others))


def open_image(path: str | Path) -> BinaryIO:
    """Opens a file to read it; what is not a regular file is not opened, because a pipe could wait forever.

    Raises:
        OSError: If it cannot be opened.
        ImageError: If it is a pipe or a device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ImageError(f"{path}: not a regular file but a pipe or a device; remove it")
    return open(path, "rb")


def ignored_files(paths: Collection[str]) -> Iterator[str]:
    """Yields one line that names files that are not images, if there are any."""
    if paths:
        yield f"ignored: {some(sorted(paths))}"


def some(names: Sequence[str]) -> str:
    """Returns the first names, and how many more there are; line breaks in them are shown as such."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(_printable(names[:NAMED])) + more


def _printable(names: Iterable[str]) -> Iterator[str]:
    return (name if name.isprintable() else ascii(name)[1:-1] for name in names)
