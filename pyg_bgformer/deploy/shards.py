"""Files of vectors from unfinished work, in a folder beside the final file."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from pyg_bgformer.data.images import ImageError
from pyg_bgformer.deploy.embedding_model import EmbeddingModel
from pyg_bgformer.deploy.vectors import Vectors, read_vectors, stamp, write_vectors
from pyg_bgformer.errors import InputError
from pyg_bgformer.files import remove_stale_partials

SHARD = 2048
"""Number of vectors that are kept in memory before they are written. A killed process loses at most these."""


class Shards:
    """Files of vectors from unfinished work, in a folder beside the final file.

    Args:
        out: The final file, or with Ray the final folder.
        model: SHA-256 of the model.
        by_ray: Whether Ray writes the shards. They are then parquet files, and become the final folder.

    Attributes:
        folder: The folder of the shards.
    """

    def __init__(self, out: Path, model: str, *, by_ray: bool = False) -> None:
        self.out = out
        self.model = model
        self.suffix = ".parquet" if by_ray else ".npz"
        self.folder = out.with_name(f".{out.name}.{'ray-' if by_ray else ''}shards")

    @classmethod
    @contextmanager
    def opened(cls, out: Path, model: str, *, by_ray: bool = False) -> "Iterator[Shards]":
        """Yields the shards of a file, and keeps other processes from writing them during the block.

        Args:
            out: The final file, or with Ray the final folder.
            model: SHA-256 of the model.
            by_ray: Whether Ray writes the shards.

        Raises:
            InputError: If the folder cannot be made, or another process writes to it.
        """
        shards = cls(out, model, by_ray=by_ray)
        try:
            shards.folder.mkdir(exist_ok=True)
            descriptor = os.open(shards.folder, os.O_RDONLY)
        except OSError as error:
            raise InputError(f"{out} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            remove_stale_partials(shards.folder)
            yield shards
        except BlockingIOError as error:
            raise InputError(f"{out} is in use: another process writes it") from error
        finally:
            os.close(descriptor)
            if shards.folder.is_dir() and not any(shards.folder.iterdir()):
                shards.folder.rmdir()

    def files(self) -> list[Path]:
        """Returns the files of the shards in the order of their names."""
        return sorted(self.folder.glob(f"[0-9]*{self.suffix}"))

    def tables(self) -> Iterator[Vectors]:
        """Yields the content of each shard.

        Raises:
            InputError: If a shard is damaged, or is from another model.
        """
        for file in self.files():
            table = read_vectors(file)
            if table.model != self.model:
                raise InputError(
                    f"{self.folder} has unfinished work of the model {table.model[:12]}, found the model "
                    f"{self.model[:12]}; remove that folder, or finish the work with its model"
                )
            yield table

    def embedded(self) -> dict[str, str]:
        """Returns the stamp of each image that is in a shard, by its path."""
        return {
            path: mark
            for table in self.tables()
            for path, mark in zip(table.paths, table.stamps, strict=True)
        }

    def write(self, rows: Sequence[tuple[str, str, np.ndarray]], name: str | None = None) -> None:
        """Writes a shard.

        Args:
            rows: Path, stamp and vector of each image.
            name: Name of the file without its ending. ``None`` takes the next free number.

        Raises:
            InputError: If the shard cannot be written.
        """
        paths, stamps, vectors = zip(*rows, strict=True)
        if name is None:
            taken = {file.stem for file in self.files()}
            name = next(number for number in (f"{i:06d}" for i in count()) if number not in taken)
        table = Vectors(paths, np.stack(vectors), self.model, stamps)
        write_vectors(self.folder / f"{name}{self.suffix}", table)

    def merge(self, paths: Sequence[str]) -> int:
        """Writes the final file in the order of the paths, and removes the shards.

        Args:
            paths: The images. Images that are in no shard are left out.

        Returns:
            The number of images in the file.

        Raises:
            InputError: If a shard is damaged, or the file cannot be written.
        """
        tables = list(self.tables())
        place = {path: (i, row) for i, table in enumerate(tables) for row, path in enumerate(table.paths)}
        found = [path for path in paths if path in place]
        vectors = np.stack([tables[i].vectors[row] for i, row in (place[path] for path in found)])
        write_vectors(self.out, Vectors(found, vectors, self.model))
        shutil.rmtree(self.folder)
        return len(found)

    def publish(self, paths: Sequence[str]) -> int:
        """Turns the folder of the shards into the final folder.

        Args:
            paths: The images. Shards with other images, or with images of a later shard, are written again without
                them.

        Returns:
            The number of images in the folder.

        Raises:
            InputError: If a shard is damaged or cannot be written.
        """
        wanted, seen, total = set(paths), set[str](), 0
        for file, table in reversed(list(zip(self.files(), self.tables(), strict=True))):
            keep = [i for i, path in enumerate(table.paths) if path in wanted and path not in seen]
            seen.update(table.paths[i] for i in keep)
            total += len(keep)
            if not keep:
                file.unlink()
            elif len(keep) < len(table):
                write_vectors(file, Vectors([table.paths[i] for i in keep], table.vectors[keep], self.model))
        shutil.rmtree(self.folder / "model", ignore_errors=True)
        self.folder.rename(self.out)
        return total


def embed_pending(
    model: EmbeddingModel,
    paths: Sequence[str],
    shards: Shards,
    bad: list[ImageError] | None,
    tell: Callable[[int], None],
    options: dict[str, Any],
    name: str | None = None,
) -> None:
    """Embeds images, and writes a shard after every :data:`SHARD` images and when it is interrupted.

    Args:
        model: The model.
        paths: The images.
        shards: The files of vectors.
        bad: Images that cannot be read are left out, and their errors are appended to this list. With ``None``, the
            first error is raised.
        tell: Called with the number of images that are done.
        options: ``batch_size``, ``device`` and ``workers`` of :meth:`EmbeddingModel.embed_batches`.
        name: Name of the shard, for at most :data:`SHARD` images. ``None`` numbers the shards.

    Raises:
        InputError: If an image cannot be read, or a shard cannot be written.
    """
    waiting: list[tuple[str, str, np.ndarray]] = []
    stamps = {path: stamp(path) for path in paths}  # before the files are read
    try:
        for positions, vectors in model.embed_batches(paths, bad=bad, **options):
            chosen = [paths[position] for position in positions]
            waiting += [(path, stamps[path], row) for path, row in zip(chosen, vectors.numpy(), strict=True)]
            tell(positions[-1] + 1)
            if len(waiting) >= SHARD:
                shards.write(waiting, name)
                waiting = []
    except ImageError as error:
        raise InputError(f"{error}; leave such images out with --skip-bad (skip_bad=True)") from error
    finally:
        if waiting:
            shards.write(waiting, name)
