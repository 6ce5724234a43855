"""Atomic writing of files, and reading of YAML and JSON files."""

import hashlib
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pyg_bgformer.errors import InputError

CACHE_FOLDER = Path("~/.cache/pyg_bgformer")
"""The user's cache: everything in this folder can be made again."""

ABANDONED_SECONDS = 24 * 3600
"""Time without a write after which a partial file of another machine counts as abandoned."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write to. That file replaces ``path`` when the block ends without an error.

    An interrupted or failed write leaves ``path`` as it was. :func:`remove_stale_partials` removes the partial
    files of killed processes.

    Args:
        path: The file to write.

    Raises:
        OSError: If the file cannot be written or moved.
    """
    partial = partial_path(path)
    try:
        partial.touch()
        mode = partial.stat().st_mode  # by the umask; some libraries write files that only the owner can read
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Returns the path at which this process writes a file or folder before it moves it to ``path``."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")


def remove_stale_partials(folder: Path) -> None:
    """Removes the partial files and folders that killed processes left in a folder.

    Several machines may share the folder. A partial file of this machine is removed if its process is dead, one of
    another machine if nothing was written to it for a day.

    Args:
        folder: The folder; its subfolders are not searched.
    """
    for partial in folder.glob(".*.partial"):
        owner = re.search(r"-(\d+)\.partial$", partial.name)
        try:
            if owner is None or not is_abandoned(partial, int(owner[1])):
                continue
            if partial.is_dir():
                shutil.rmtree(partial)
            else:
                partial.unlink()
        except OSError:
            continue  # another process removed or moved it, or this user may not remove it


def is_abandoned(partial: Path, process: int) -> bool:
    """Returns whether the process that wrote a partial file or folder is dead, as far as can be known.

    Args:
        partial: The file or folder.
        process: The process number in its name.
    """
    if partial.name.endswith(f".{socket.gethostname()}-{process}.partial") and os.name == "posix":
        try:
            os.kill(process, 0)  # signal 0 only asks whether the process exists
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # it is alive and belongs to another user
        return False
    return time.time() - partial.stat().st_mtime > ABANDONED_SECONDS


MOST_BYTES = 1_000_000
"""Size of the largest YAML file that is read. Recipes and studies have a few thousand bytes."""


class PlainLoader(yaml.SafeLoader):
    """Loads plain YAML. It refuses anchors, aliases, repeated keys and NUL characters."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Returns the next node. Raises an error for anchors and aliases: a few of them can stand for gigabytes."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors (&) and aliases (*) are not allowed; write the values out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping. Raises an error for a key that occurs twice: YAML would drop the first value."""
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' occurs twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Returns a scalar. Raises an error for a NUL character: no file name can have one."""
        if "\0" in node.value:
            raise yaml.MarkedYAMLError(problem="a NUL character is not allowed", problem_mark=node.start_mark)
        return super().construct_scalar(node)


def read_mapping(path: Path, kind: str) -> dict[str, Any]:
    """Returns the content of a YAML file that holds a mapping.

    Args:
        path: The file.
        kind: Word for the file in messages, for example ``"recipe"``.

    Raises:
        InputError: If the file cannot be read, is larger than :data:`MOST_BYTES`, is not plain YAML in UTF-8, or
            does not hold a mapping.
    """
    where = f"{kind} {path}"
    if path.exists() and not path.is_file():
        found = "a folder" if path.is_dir() else "a device"
        raise InputError(f"{where} cannot be read: expected a YAML file, found {found}")
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        content = yaml.load(data.decode(), PlainLoader) if len(data) <= MOST_BYTES else None
    except OSError as error:
        raise InputError(f"{where} cannot be read: {error.strerror}") from error
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise InputError(f"{where}{line} is not plain YAML: {error.problem}") from error
    except RecursionError as error:
        raise InputError(f"{where} is nested too deeply") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{where} is not text: expected YAML in UTF-8") from error
    except (yaml.YAMLError, ValueError) as error:
        raise InputError(
            f"{where} is not plain YAML: {' '.join(str(error).split()).partition(';')[0][:200]}"
        ) from error
    if len(data) > MOST_BYTES:
        raise InputError(f"{where} is larger than {MOST_BYTES:,} bytes, far too large for a {kind}")
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise InputError(f"{where} must be a mapping of keys to values, found {found}")
    return content


def read_json(path: Path, kind: str) -> Any:
    """Returns the content of a JSON file.

    Args:
        path: The file.
        kind: Word for the file in messages.

    Raises:
        InputError: If the file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{kind} {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{kind} {path} is damaged: {' '.join(str(error).split())}") from error


def hashes_by_name(files: Iterable[Path]) -> dict[str, str]:
    """Returns the SHA-256 of files in hexadecimal, keyed by the file names without folders.

    Args:
        files: The files.

    Raises:
        OSError: If a file cannot be read.
    """
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
