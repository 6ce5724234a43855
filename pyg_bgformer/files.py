"""Files that are either whole or not there, and settings that are read from them."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pyg_bgformer.errors import InputError

CACHE_FOLDER = Path("~/.cache/pyg_bgformer")
"""The user's folder of files that can be made again."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; it takes the place of ``path`` when the block ends without an error.

    An interrupted or failed write leaves what was at ``path`` before, and nothing else.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.touch()
        mode = (
            partial.stat().st_mode
        )  # as the umask has it; some libraries write files that others cannot read
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_mapping(path: Path, kind: str) -> dict[str, Any]:
    """The content of a YAML file that is a mapping; ``kind`` is what messages call it.

    Raises:
        InputError: The file is not there, no YAML, or something else than a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{kind} {path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{kind} {path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{kind} {path} must be a mapping of keys to values, found {type(content).__name__}")
    return content


def read_json(path: Path, kind: str) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: The file.
        kind: What messages call it.

    Raises:
        InputError: The file cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{kind} {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{kind} {path} is damaged: {' '.join(str(error).split())}") from error
