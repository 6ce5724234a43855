"""Archives, which are read without unpacking by any number of processes, or unpacked beside themselves."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import partial_path, remove_stale_partials

ARCHIVES = (".tgz", ".tar.gz", ".zip")
"""Endings of the archives that are unpacked."""

MAX_RATIO, MIN_LIMIT, MAX_LIMIT = 100, 10 * 2**20, 200 * 2**30
"""An archive may unpack to MAX_RATIO times its size, but at least to MIN_LIMIT and at most to MAX_LIMIT bytes."""
BLOCK = 4096
"""Bytes that the smallest file takes on a disk."""

# Errors of damaged archives. Besides these, gzip raises an OSError without a number for a wrong checksum.
DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError)


class ZipArchive:
    """A zip archive whose members are read without unpacking it to disk.

    Every process opens the file for itself. A process that inherits an open file would share its position with its
    parent.

    Args:
        path: The archive.

    Raises:
        InputError: If the file is not a zip archive, or its list of contents is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_open": None}

    def names(self) -> list[str]:
        """Returns the names of all members that are files, in the archive's order."""
        return [entry.filename for entry in self._archive().infolist() if not entry.is_dir()]

    def open(self, name: str) -> BinaryIO:
        """Returns the content of a member as a binary stream.

        Raises:
            ImageError: If the member is missing or its checksum is wrong.
        """
        try:
            return io.BytesIO(self._archive().read(name))
        except (KeyError, zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ImageError(
                f"{self.path}: cannot read {name} in it ({error}); remove it and get it again"
            ) from None

    def _archive(self) -> zipfile.ZipFile:
        if self._open is None or self._open[0] != os.getpid():
            try:
                self._open = os.getpid(), zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise InputError(
                    f"{self.path}: not a whole zip archive ({error}); remove it and get it again"
                ) from None
        return self._open[1]


def unpacked(folder: Path) -> Path:
    """Returns the folder itself. If it is missing and there is an archive of its name, the archive is unpacked."""
    archives = [folder.with_name(folder.name + ending) for ending in ARCHIVES]
    there = [archive for archive in archives if archive.is_file()]
    return unpack(there[0]) if there and not folder.is_dir() else folder


def unpack(archive: Path) -> Path:
    """Unpacks ``name.tgz``, ``name.tar.gz`` or ``name.zip``, and returns the folder ``name`` beside it.

    If all content of the archive is in a single folder, this folder becomes ``name``. A folder ``name`` that exists
    already is taken for the unpacked archive. The folder appears when it is complete. A failure leaves nothing.

    Args:
        archive: The archive.

    Raises:
        InputError: If the ending is another one; if the archive is damaged, empty or encrypted, holds links or
            devices, or would become too large; or if there is no room for the files.
    """
    endings = [ending for ending in ARCHIVES if archive.name.lower().endswith(ending)]
    if not endings:
        raise InputError(f"{archive}: expected a folder or an archive that ends with {', '.join(ARCHIVES)}")
    folder = archive.with_name(archive.name[: -len(endings[0])])
    if folder.is_dir():
        return folder
    remove_stale_partials(archive.parent)
    content = partial_path(folder)
    try:
        content.mkdir()
        (extract_zip if endings[0] == ".zip" else extract_tar)(archive, content)
        shutil.rmtree(content / "__MACOSX", ignore_errors=True)
        move_into_place(archive, content, folder)
    except (*DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise InputError(
                f"{archive}: cannot be unpacked in {archive.parent} ({error.strerror})"
            ) from None
        what = (
            str(error).partition("\n")[0].rstrip(":")
        )  # on further lines tarfile lists all formats it tried
        raise InputError(
            f"{archive}: a damaged or truncated archive ({what}); remove it and get it again"
        ) from None
    finally:
        shutil.rmtree(content, ignore_errors=True)
    return folder


def extract_zip(archive: Path, target: Path) -> None:
    """Unpacks a zip archive. The zipfile module itself keeps every member inside the folder.

    Args:
        archive: The archive.
        target: An empty folder.

    Raises:
        InputError: If a member is neither a file nor a folder or is encrypted, or the limit of size is exceeded.
    """
    with zipfile.ZipFile(archive) as file:
        left = unpacked_limit(archive)
        for entry in file.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise not_a_file(archive, entry.filename)
            if entry.flag_bits & 1:
                raise InputError(
                    f"{archive}: encrypted; unpack it yourself, with the password that its owners give, into "
                    f"{archive.with_suffix('')}"
                )
            left = take_from_limit(archive, left, entry.file_size)
            file.extract(entry, target)


def extract_tar(archive: Path, target: Path) -> None:
    """Unpacks a tar archive. The data filter of the tarfile module keeps every member inside the folder.

    Args:
        archive: The archive.
        target: An empty folder.

    Raises:
        InputError: If a member is neither a file nor a folder, or lies outside, or the limit of size is exceeded.
    """
    with tarfile.open(archive) as file:
        left = unpacked_limit(archive)
        for entry in file:
            if not entry.isreg() and not entry.isdir():
                raise not_a_file(archive, entry.name)
            left = take_from_limit(archive, left, entry.size)
            try:
                file.extract(entry, target, filter="data")
            except tarfile.FilterError as error:
                raise InputError(f"{archive}: {error}; do not trust this archive") from None
        check_end(file)


def unpacked_limit(archive: Path) -> int:
    """Returns the largest size in bytes to which an archive may be unpacked."""
    return min(max(MAX_RATIO * archive.stat().st_size, MIN_LIMIT), MAX_LIMIT)


def take_from_limit(archive: Path, left: int, size: int) -> int:
    """Returns what is left of an archive's limit after one more file.

    Args:
        archive: The archive, for messages.
        left: What was left before, in bytes.
        size: Size of the file in bytes.

    Raises:
        InputError: If the file exceeds the limit.
    """
    left -= max(size, BLOCK)
    if left < 0:
        raise InputError(
            f"{archive}: becomes larger than {unpacked_limit(archive):,} bytes, the limit for an archive of its "
            "size; do not trust it, or unpack it yourself"
        )
    return left


def check_end(file: tarfile.TarFile) -> None:
    """Reads what follows the last member, because tarfile takes a damaged header for the end of the archive.

    Raises:
        OSError: If the checksum at the end of a compressed archive is wrong.
        tarfile.ReadError: If anything but zeros follows.
    """
    assert file.fileobj is not None
    while rest := file.fileobj.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("bad header in the middle")


def not_a_file(archive: Path, name: str) -> InputError:
    """Returns the error for a member that is neither a file nor a folder."""
    return InputError(
        f"{archive}: '{name}' in it is a link or a device, expected files; do not trust this archive"
    )


def move_into_place(archive: Path, content: Path, folder: Path) -> None:
    """Moves the unpacked content to its folder. A single folder in it becomes the folder itself.

    Args:
        archive: The archive, for messages.
        content: The unpacked content. Files beside a single folder are moved into that folder.
        folder: The final place.

    Raises:
        InputError: If nothing was unpacked.
    """
    folders = [entry for entry in content.iterdir() if entry.is_dir()]
    files = [entry for entry in content.iterdir() if not entry.is_dir()]
    if not folders and not files:
        raise InputError(f"{archive}: an archive without files; remove it and get it again")
    if len(folders) == 1 and not any((folders[0] / file.name).exists() for file in files):
        for file in files:
            file.rename(folders[0] / file.name)
        content = folders[0]
    try:
        content.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process was faster
            raise
