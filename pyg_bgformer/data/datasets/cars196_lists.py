"""The MATLAB files that come with Cars196."""

import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyg_bgformer.data.images import Box
from pyg_bgformer.errors import InputError, one_line

# A file begins with these bytes. After a description follow the version and the byte order.
_MAGIC = b"MATLAB 5.0 MAT-file"
_ORDERS = {b"\x00\x01IM": "<", b"\x01\x00MI": ">"}
_HEADER_BYTES = 128
_COMPRESSED = 15


class Annotation(NamedTuple):
    """One image of a list: its path, the number in its name, its class from 1, and its box."""

    path: str
    number: int
    class_number: int
    box: Box


def read_class_names(file: Path) -> list[str]:
    """Returns the names of the classes in the order of their numbers.

    Raises:
        InputError: If the file is missing, damaged, or another one.
    """
    names: list[str] = np.atleast_1d(read_variable(file, "class_names")).tolist()
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"{file}: its class_names are not a list of names; get it again")
    return names


def read_annotations(file: Path, path_field: str, classes: int) -> list[Annotation]:
    """Returns the images of a list.

    Args:
        file: A ``.mat`` file with the variable ``annotations``.
        path_field: Name of its field with the image's path.
        classes: Number of classes.

    Raises:
        InputError: If the file is missing, damaged, or another one, or has a class number out of range.
    """
    annotations = np.atleast_1d(read_variable(file, "annotations"))
    fields = (path_field, "class", "bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
    if absent := sorted(set(fields) - set(annotations.dtype.names or ())):
        raise InputError(f"{file}: its annotations have no field '{absent[0]}'; expected a list with classes")
    rows = zip(*(annotations[field].tolist() for field in fields), strict=True)
    return [read_annotation(file, classes, index, *row) for index, row in enumerate(rows, start=1)]


def read_annotation(
    file: Path, classes: int, index: int, path: object, class_number: int, *box: int
) -> Annotation:
    """Returns one image of a list.

    Args:
        file: The list, for messages.
        classes: Number of classes.
        index: Number of the row from 1, for messages.
        path: Path of the image.
        class_number: Number of its class, from 1.
        *box: Left, upper, right and lower edge, counted from 1 and inclusive.

    Raises:
        InputError: If a value has another type, or the class number is out of range.
    """
    stem = Path(str(path)).stem
    if not stem.isdecimal() or not isinstance(class_number, int) or not 1 <= class_number <= classes:
        raise InputError(
            f"{file}, annotation {index}: found image '{path}' of class {class_number}; "
            f"expected <number>.jpg of a class from 1 to {classes}"
        )
    if not all(isinstance(edge, int) for edge in box):
        raise InputError(f"{file}, annotation {index}: found the box {box}; expected four whole numbers")
    left, upper, right, lower = box
    # MATLAB counts pixels from 1, and includes the last ones.
    return Annotation(str(path), int(stem), class_number, (left - 1, upper - 1, right, lower))


def read_variable(file: Path, name: str) -> np.ndarray:
    """Returns a variable of a MATLAB file.

    Raises:
        InputError: If the file is missing, damaged, or has no such variable.
    """
    from scipy.io import loadmat  # slow to import

    try:
        check_parts(file.read_bytes())
        content = loadmat(str(file), squeeze_me=True)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file; expected the official lists of Cars196 there") from None
    except Exception as error:  # damaged bytes raise errors of many kinds
        reason = one_line(error) or type(error).__name__
        raise InputError(f"{file}: not a whole MATLAB file ({reason}); get it again") from None
    if name not in content:
        raise InputError(f"{file}: has no variable '{name}'; expected the official list of Cars196")
    return np.asarray(content[name])


def check_parts(content: bytes) -> None:
    """Compares the compressed parts of a file with their checksums. All parts of the official files are compressed.

    Scipy starts to read before it has compared them, and damaged parts can crash it.

    Raises:
        ValueError: If the file is of another kind, or truncated.
        zlib.error: If a part is damaged.
    """
    order = _ORDERS.get(content[_HEADER_BYTES - 4 : _HEADER_BYTES])
    if order is None or not content.startswith(_MAGIC):
        raise ValueError("its beginning is wrong")
    at = _HEADER_BYTES
    while at < len(content):
        kind, size = struct.unpack_from(f"{order}II", content, at)
        part = content[at + 8 : at + 8 + size]
        if len(part) < size:
            raise ValueError("its end is missing")
        if kind == _COMPRESSED:
            zlib.decompress(part)
        at += 8 + size
