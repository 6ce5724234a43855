"""Files of vectors: the path of each image and its embedding."""

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from pyg_bgformer.errors import InputError, one_line
from pyg_bgformer.files import atomic_path

FORMATS = (".parquet", ".npz", ".csv")
"""Endings of files of vectors. CSV files can be written, but not read."""


@dataclass(frozen=True)
class Vectors:
    """Embeddings of image files.

    Args:
        paths: N paths of images.
        vectors: ``(N, D)`` float32.
        model: SHA-256 of the model, see :attr:`~pyg_bgformer.deploy.embedding_model.EmbeddingModel.sha256`.
        stamps: Size and modification time of each file when it was embedded. Empty if they are not known.
    """

    paths: Sequence[str]
    vectors: np.ndarray
    model: str
    stamps: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.paths)


def stamp(path: str) -> str:
    """Returns the size and the modification time of a file, as text that changes when the file changes.

    Args:
        path: The file. If it does not exist, the text is empty.
    """
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def check_format(path: Path) -> None:
    """Raises an error if the format of a file of vectors cannot be written.

    Args:
        path: The file. Its ending names the format.

    Raises:
        InputError: If the ending is unknown, or a library is missing.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: unknown ending '{path.suffix}'; expected {', '.join(FORMATS)}")
    if path.suffix == ".parquet":
        parquet(path)


def write_vectors(path: Path, table: Vectors) -> None:
    """Writes a file of vectors, whole or not at all.

    A ``.parquet`` file has the columns ``path`` and ``vector``, and the model's hash in its metadata. A ``.npz``
    file has the arrays ``paths``, ``vectors``, ``model`` and ``stamps``. A ``.csv`` file has the columns ``path``,
    ``v0``, ``v1`` and so on.

    Args:
        path: The file. Its ending chooses the format.
        table: The vectors and their paths.

    Raises:
        InputError: If the ending is unknown, a library is missing, or the file cannot be written.
    """
    check_format(path)
    try:
        with atomic_path(path) as partial:
            if path.suffix == ".parquet":
                _write_parquet(partial, table)
            elif path.suffix == ".csv":
                frame = pd.DataFrame(table.vectors, columns=[f"v{i}" for i in range(table.vectors.shape[1])])
                frame.insert(0, "path", list(table.paths))
                frame.to_csv(partial, index=False, float_format="%.9g")
            else:
                with partial.open("wb") as file:
                    np.savez(
                        file,
                        paths=np.array(table.paths, dtype=np.str_),
                        vectors=table.vectors,
                        model=np.array(table.model),
                        stamps=np.array(table.stamps, dtype=np.str_),
                    )
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror or error}") from error


def read_vectors(path: str | Path) -> Vectors:
    """Returns the content of a ``.parquet`` or ``.npz`` file of vectors, or of a folder of parquet files.

    Args:
        path: The file or folder. The name of a folder ends in ``.parquet``.

    Raises:
        InputError: If the file cannot be read, is damaged or has another format, or a library is missing.
    """
    path = Path(path)
    try:
        if path.suffix == ".parquet":
            return _read_parquet(path)
        with np.load(path, allow_pickle=False) as arrays:
            return Vectors(
                arrays["paths"].tolist(),
                arrays["vectors"],
                str(arrays["model"]),
                arrays["stamps"].tolist(),
            )
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except (KeyError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise InputError(f"{path} is not a file of vectors, or is damaged: {one_line(error)}") from error


def parquet(path: Path) -> ModuleType:
    """Returns the module that reads and writes parquet files.

    Args:
        path: The file, for the error message.

    Raises:
        InputError: If pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as module
    except ImportError as error:
        raise InputError(
            f"{path}: parquet files need pyarrow: pip install 'pyg-bgformer[search]', or choose .npz"
        ) from error
    return module


def _write_parquet(path: Path, table: Vectors) -> None:
    import pyarrow as pa

    flat = pa.array(np.ascontiguousarray(table.vectors, dtype=np.float32).reshape(-1))
    columns = {
        "path": pa.array(list(table.paths), pa.string()),
        "vector": pa.FixedSizeListArray.from_arrays(flat, table.vectors.shape[1]),
    }
    facts = {"model_sha256": table.model, "stamps": json.dumps(list(table.stamps))}
    parquet(path).write_table(pa.table(columns).replace_schema_metadata(facts), path)


def _read_parquet(path: Path) -> Vectors:
    read = parquet(path).read_table(path)
    facts = {key.decode(): value.decode() for key, value in (read.schema.metadata or {}).items()}
    column = read["vector"].combine_chunks()
    vectors = np.array(column.flatten()).reshape(len(read), column.type.list_size)
    stamps = json.loads(facts.get("stamps", "[]")) if path.is_file() else []
    return Vectors(read["path"].to_pylist(), vectors, facts.get("model_sha256", ""), stamps)
