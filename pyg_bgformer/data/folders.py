"""Which files of a folder are images, and which datasets' folders are where."""

import os
from collections.abc import Iterator
from pathlib import Path

from pyg_bgformer.data.images import IMAGE_EXTENSIONS, ImageError
from pyg_bgformer.errors import InputError

#: The environment variable that names the folder in which the datasets' folders are.
DATA_VARIABLE = "PYG_BGFORMER_DATA"

# Files that cameras, file managers and people leave beside images; nothing is lost by passing over them.
_SIDECAR_EXTENSIONS = frozenset(
    {".csv", ".db", ".htm", ".html", ".ini", ".json", ".md", ".pdf", ".tsv", ".txt", ".url", ".xml", ".xmp"}
    | {".yaml", ".yml"}
)
_SIDECAR_FOLDERS = frozenset({"__MACOSX", "@eaDir"})


def is_image(path: str) -> bool:
    """Whether a file belongs to the images, judged by its name.

    Hidden files and what file managers leave behind do not; everything else must have an image's ending.

    Raises:
        ImageError: The name is neither an image's nor a known sidecar's.
    """
    name = path.rpartition("/")[2]
    extension = os.path.splitext(name)[1].lower()
    if name.startswith(".") or extension in _SIDECAR_EXTENSIONS:
        return False
    if extension not in IMAGE_EXTENSIONS:
        raise ImageError(
            f"{path}: not an image file; expected an ending among {' '.join(sorted(IMAGE_EXTENSIONS))}: "
            "convert or remove it"
        )
    return True


def is_class_folder(name: str) -> bool:
    """Whether a folder of this name holds images: not hidden, not made by a file manager."""
    return not name.startswith(".") and name not in _SIDECAR_FOLDERS


def image_files(folder: Path) -> Iterator[str]:
    """Paths of all images under a folder, relative to it and with ``/``, in no defined order.

    Raises:
        ImageError: A file is neither an image nor a known sidecar.
    """
    for parent, folders, files in os.walk(folder):
        folders[:] = filter(is_class_folder, folders)
        for file in files:
            if is_image(path := Path(parent, file).as_posix()):
                yield Path(path).relative_to(folder).as_posix()


def find_root(official_folder: str) -> Path:
    """The folder of a dataset: in the one that ``PYG_BGFORMER_DATA`` names, else in ``data/``.

    Raises:
        InputError: There is no such folder in either place.
    """
    places = [candidate for candidate in candidate_roots(official_folder) if candidate.is_dir()]
    if not places:
        looked = " and ".join(str(place) for place in candidate_roots(official_folder))
        hint = "" if os.environ.get(DATA_VARIABLE) else f" ({DATA_VARIABLE} is not set)"
        raise InputError(
            f"no folder {official_folder}: looked for {looked}{hint}; data/README.md says where to get it"
        )
    return places[0]


def candidate_roots(official_folder: str) -> list[Path]:
    """Where a dataset's folder may be, the first choice first."""
    parents = [os.environ[DATA_VARIABLE]] if os.environ.get(DATA_VARIABLE) else []
    return [Path(parent, official_folder) for parent in [*parents, "data"]]
