"""Files inside a zip archive, read by any number of processes."""

import io
import os
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.errors import InputError


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
