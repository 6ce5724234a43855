"""Files that are either whole or not there, and settings that are read from them."""

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
"""The user's folder of files that can be made again."""


ABANDONED_SECONDS = 24 * 3600
"""A partial file of another machine is taken for abandoned when it was not written to for so long."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yields a path beside ``path`` to write to; it takes the place of ``path`` when the block ends well.

    An interrupted or failed write leaves what was at ``path`` before, and nothing else. What a killed process
    leaves is removed by :func:`remove_stale_partials`.
    """
    partial = partial_path(path)
    try:
        partial.touch()
        mode = partial.stat().st_mode  # the umask's; some libraries write files that others cannot read
        yield partial
        partial.chmod(mode)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def partial_path(path: Path) -> Path:
    """Returns where this process writes a file or folder that is to be moved to ``path`` when it is whole."""
    return path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.partial")


def remove_stale_partials(folder: Path) -> None:
    """Removes the partial files and folders that processes left in a folder when they were killed.

    A process of this machine is asked whether it is alive. One of another machine, which may share the folder, is
    taken for dead when it did not write for a day.
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
            continue  # another process removed it or moved it into place, or it is not ours to remove


def is_abandoned(partial: Path, process: int) -> bool:
    """Returns whether the process that writes a partial file or folder is gone.

    Args:
        partial: The file or folder.
        process: The number of its process, as its name has it.
    """
    if partial.name.endswith(f".{socket.gethostname()}-{process}.partial") and os.name == "posix":
        try:
            os.kill(process, 0)  # asks, and sends nothing
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # it is alive and another user's
        return False
    return time.time() - partial.stat().st_mtime > ABANDONED_SECONDS


MOST_BYTES = 1_000_000
"""Recipes and studies take a few thousand bytes."""


class PlainLoader(yaml.SafeLoader):
    """Reads YAML without anchors, aliases, repeated keys and NUL characters."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Returns the next node; raises an error for an anchor or an alias, which can stand for endless content."""
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise yaml.MarkedYAMLError(
                problem="anchors (&) and aliases (*) are not read; write the values out",
                problem_mark=event.start_mark,
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Returns a mapping; raises an error for a key that occurs twice, of which one would be lost."""
        seen = set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key '{key.value}' occurs twice", problem_mark=key.start_mark
                )
            seen.add((key.tag, str(key.value)))
        return super().construct_mapping(node, deep)

    def construct_scalar(self, node: Any) -> Any:
        """Returns a scalar; raises an error for a NUL character, which no file name can have."""
        if "\0" in node.value:
            raise yaml.MarkedYAMLError(problem="a NUL character is not read", problem_mark=node.start_mark)
        return super().construct_scalar(node)


def read_mapping(path: Path, kind: str) -> dict[str, Any]:
    """Returns the content of a YAML file that is a mapping.

    Args:
        path: The file.
        kind: What messages call it.

    Raises:
        InputError: If the file is missing, too large, not YAML, or not a mapping.
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
        kind: What messages call it.

    Raises:
        InputError: The file cannot be read, or is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{kind} {path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{kind} {path} is damaged: {' '.join(str(error).split())}") from error


def hashes_by_name(files: Iterable[Path]) -> dict[str, str]:
    """Returns the SHA-256 of files by their names without the folder.

    Args:
        files: The files.
    """
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
