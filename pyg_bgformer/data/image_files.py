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
"""Endings of image files, in lower case."""

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
"""Endings of images that cannot be read. They are an error: to skip them would change the classes silently."""

NAMED = 10
"""Number of names in a line; of the others it gives the number."""


class FolderContent(NamedTuple):
    """The content of a folder and its subfolders, as sorted paths relative to it, with ``/``.

    Attributes:
        images: The images.
        others: Files that are not images, and folders that are not read.
    """

    images: list[str]
    others: list[str]


def is_image(path: str) -> bool:
    """Returns whether a file is an image, by its name. Hidden files are not.

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
    """Returns whether a folder of this name can hold images: it is not hidden and not made by a file manager."""
    return not name.startswith(".") and name not in ("__MACOSX", "@eaDir")


def image_files(folder: Path, bad: list[ImageError] | None = None) -> FolderContent:
    """Returns the images under a folder, or nothing if there is no such folder.

    Links to folders are followed. Each folder is read once, so that links cannot lead in a circle.

    Args:
        folder: The folder.
        bad: A list to which errors are added; what cannot be read is then left out. With ``None`` the first error
            is raised.

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
    # A link to a folder above would add the images of other classes.
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
    """Returns a file that is opened for reading. A pipe or a device is not opened: it could wait forever.

    Raises:
        OSError: If the file cannot be opened.
        ImageError: If it is a pipe or a device.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ImageError(f"{path}: not a regular file but a pipe or a device; remove it")
    return open(path, "rb")


def ignored_files(paths: Collection[str]) -> Iterator[str]:
    """Yields one line with the names of files that are not images, if there are any."""
    if paths:
        yield f"ignored: {some(sorted(paths))}"


def some(names: Sequence[str]) -> str:
    """Returns the first names as text, with the number of the others. Line breaks in names are escaped."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(_printable(names[:NAMED])) + more


def _printable(names: Iterable[str]) -> Iterator[str]:
    return (name if name.isprintable() else ascii(name)[1:-1] for name in names)
