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
"""File name endings of vectors; csv is written and not read."""


@dataclass(frozen=True)
class Vectors:
    """Embeddings of image files.

    Args:
        paths: Of the images.
        vectors: ``(N, D)`` float32.
        model: Hash of the model, see :attr:`~pyg_bgformer.deploy.embedding_model.EmbeddingModel.sha256`.
        stamps: Size and time of change of each file when it was embedded; none where they are not known.
    """

    paths: Sequence[str]
    vectors: np.ndarray
    model: str
    stamps: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.paths)


def stamp(path: str) -> str:
    """Returns size and time of change of a file, which differ when it was replaced; nothing if there is no file.

    Args:
        path: The file.
    """
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{status.st_size}-{status.st_mtime_ns}"


def check_format(path: Path) -> None:
    """Refuses a file of vectors that cannot be written because of its ending.

    Args:
        path: The file.

    Raises:
        InputError: If its ending is unknown, or a library is missing.
    """
    if path.suffix not in FORMATS:
        raise InputError(f"{path}: unknown ending '{path.suffix}'; expected {', '.join(FORMATS)}")
    if path.suffix == ".parquet":
        parquet(path)


def write_vectors(path: Path, table: Vectors) -> None:
    """Writes a file of vectors, whole or not at all.

    ``.parquet`` has the columns ``path`` and ``vector``, ``.npz`` the arrays ``paths`` and ``vectors``, ``.csv``
    the columns ``path``, ``v0``, ``v1`` and so on. The first two also carry the model's hash.

    Args:
        path: The file; its ending chooses the format.
        table: What to write.

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
    """Reads a ``.parquet`` or ``.npz`` file of vectors, or a folder of parquet files.

    Args:
        path: The file or folder.

    Raises:
        InputError: If there is no such file, it is damaged, or it is not of this format.
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
    """Returns the module that reads and writes parquet.

    Args:
        path: The file, for the message.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import pyarrow.parquet as module
    except ImportError as error:
        raise InputError(
            f"{path}: parquet needs pyarrow; install it by pip install 'pyg-bgformer[search]', or choose .npz"
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
