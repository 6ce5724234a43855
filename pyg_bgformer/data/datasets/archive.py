"""Archives: read where they are by any number of processes, or unpacked beside themselves."""

import io
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Generator
from contextlib import closing
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, BinaryIO

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.errors import InputError

#: Endings of the archives that are unpacked.
ARCHIVES = (".tgz", ".tar.gz", ".zip")

_MAC_FOLDER = "__MACOSX"

#: Name and content of each file of an archive.
Members = Generator[tuple[str, IO[bytes]], None, None]


class ZipArchive:
    """A zip archive whose members are read where they are; nothing is unpacked to disk.

    Every process opens the file for itself: one that inherited an open file would share its position with
    its parent.

    Raises:
        InputError: The file is no zip archive, or its list of contents is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._open: tuple[int, zipfile.ZipFile] | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_open": None}

    def names(self) -> list[str]:
        """All members that are files, in the archive's order."""
        return [entry.filename for entry in self._archive().infolist() if not entry.is_dir()]

    def open(self, name: str) -> BinaryIO:
        """A member's content.

        Raises:
            ImageError: The member is missing or its checksum does not fit.
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
    """The folder, made of the archive of its name beside it where there is one and not the folder itself."""
    archives = [folder.with_name(folder.name + ending) for ending in ARCHIVES]
    there = [archive for archive in archives if archive.is_file()]
    return unpack(there[0]) if there and not folder.is_dir() else folder


def unpack(archive: Path) -> Path:
    """Unpack ``name.tgz``, ``name.tar.gz`` or ``name.zip`` into the folder ``name`` beside it.

    Where all folders of the archive are inside a single one, that one becomes ``name``. A folder ``name`` that is
    there already is taken for the unpacked archive. The folder appears when it is complete; of a failure nothing
    is left.

    Raises:
        InputError: Another ending, a damaged, empty or encrypted archive, a member that is a link or would lie
            outside of the folder, or no room for the files.
    """
    endings = [ending for ending in ARCHIVES if archive.name.lower().endswith(ending)]
    if not endings:
        raise InputError(f"{archive}: expected a folder or an archive that ends with {', '.join(ARCHIVES)}")
    folder = archive.with_name(archive.name[: -len(endings[0])])
    if folder.is_dir():
        return folder
    try:
        with TemporaryDirectory(dir=archive.parent, prefix=f".{folder.name}.", suffix=".unpacking") as place:
            content = Path(place, "content")
            _extract(
                _zip_members(archive) if endings[0] == ".zip" else _tar_members(archive), archive, content
            )
            if not any(content.iterdir()):
                raise InputError(f"{archive}: an archive without files; remove it and get it again")
            _move(content, folder)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        OSError,
    ) as error:
        if isinstance(error, OSError) and error.errno is not None:
            reason = f"cannot be unpacked in {archive.parent} ({error.strerror})"
        else:
            what = str(error).partition("\n")[0].rstrip(":")  # tarfile lists all that it tried
            reason = f"a damaged or truncated archive, or none at all ({what}); remove it and get it again"
        raise InputError(f"{archive}: {reason}") from None
    return folder


def _extract(members: Members, archive: Path, target: Path) -> None:
    target.mkdir()
    with closing(members):
        for name, stream in members:
            file = target / _safe(name, archive)
            if file.relative_to(target).parts[0] == _MAC_FOLDER:
                continue
            file.parent.mkdir(parents=True, exist_ok=True)
            with stream, open(file, "wb") as copy:
                shutil.copyfileobj(stream, copy)


def _safe(name: str, archive: Path) -> PurePosixPath:
    """A member's path, which must stay inside the folder that it is unpacked to, on any system."""
    path = PurePosixPath(name)
    parts = path.parts
    if not parts or path.is_absolute() or ".." in parts or ":" in parts[0] or "\\" in name or "\0" in name:
        raise InputError(
            f"{archive}: holds '{name}', which is no path inside a folder; do not trust this archive"
        )
    return path


def _zip_members(archive: Path) -> Members:
    """Name and content of every file of a zip archive."""
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            kind = stat.S_IFMT(entry.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _not_a_file(archive, entry.filename)
            if entry.flag_bits & 1:
                raise InputError(
                    f"{archive}: encrypted; unpack it yourself, with the password that its owners give, into "
                    f"{archive.with_suffix('')}"
                )
            if not entry.is_dir():
                yield entry.filename, file.open(entry)


def _tar_members(archive: Path) -> Members:
    """Name and content of every file of a tar archive."""
    with tarfile.open(archive) as file:
        for entry in file:
            if not entry.isreg() and not entry.isdir():
                raise _not_a_file(archive, entry.name)
            if content := file.extractfile(entry):
                yield entry.name, content
        _check_end(file)


def _check_end(file: tarfile.TarFile) -> None:
    """Reads what is behind the last member: tarfile takes a damaged header for the end of the archive.

    Raises:
        OSError: The checksum of the whole, which stands at its end, does not fit.
        tarfile.ReadError: There is more than the zeros that fill an archive up.
    """
    assert file.fileobj is not None
    while rest := file.fileobj.read(1 << 20):
        if rest.strip(b"\0"):
            raise tarfile.ReadError("bad header in the middle")


def _not_a_file(archive: Path, name: str) -> InputError:
    return InputError(
        f"{archive}: '{name}' in it is a link or a device, expected files; do not trust this archive"
    )


def _move(content: Path, folder: Path) -> None:
    """Rename what was unpacked, without a single folder around it; files beside that folder go into it."""
    folders = [entry for entry in content.iterdir() if entry.is_dir()]
    files = [entry for entry in content.iterdir() if not entry.is_dir()]
    if len(folders) == 1 and not any((folders[0] / file.name).exists() for file in files):
        for file in files:
            file.rename(folders[0] / file.name)
        content = folders[0]
    try:
        content.rename(folder)
    except OSError:
        if not folder.is_dir():  # else another process was faster
            raise
