"""Which files of a folder are images, and which datasets' folders are where."""

import os
from collections.abc import Iterator
from pathlib import Path

from pyg_bgformer.data.datasets.archive import unpacked
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
        place = Path(parent)
        above, inside = place.as_posix(), place.relative_to(folder).as_posix()
        # plain strings: paths of a hundred thousand files would take seconds
        yield from (
            name if inside == "." else f"{inside}/{name}" for name in files if is_image(f"{above}/{name}")
        )


def find_root(official_folder: str, must_exist: bool = True) -> Path:
    """The folder of a dataset: in the one that ``PYG_BGFORMER_DATA`` names, else in ``data/``.

    An archive of the same name is unpacked there first.

    Args:
        official_folder: The name that the dataset's authors gave it.
        must_exist: Otherwise, where there is none, the first place to which it could be downloaded.

    Raises:
        InputError: There is no such folder in either place.
    """
    set_by_user = os.environ.get(DATA_VARIABLE)
    places = [Path(parent, official_folder) for parent in filter(None, [set_by_user, "data"])]
    for place in places:
        if unpacked(place).is_dir():
            return place
    if must_exist:
        looked = " and ".join(map(str, places)) + ("" if set_by_user else f" ({DATA_VARIABLE} is not set)")
        raise InputError(
            f"no folder {official_folder}: looked for {looked}; data/README.md says where to get it"
        )
    return places[0]
