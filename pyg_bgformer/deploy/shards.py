"""Vectors that were computed so far, in files beside the place where all of them go."""

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
"""Images whose vectors are kept in memory before they are written; so many are lost when the process is killed."""


class Shards:
    """Files of vectors that were computed so far, in a folder beside the place where all of them go.

    Args:
        out: Where all vectors go.
        model: Hash of the model.
        by_ray: Whether Ray writes them. They are then parquet files, which become the final folder.

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
        """Yields the shards of a file, which no other process writes as long as the block lasts.

        Args:
            out: Where all vectors go.
            model: Hash of the model.
            by_ray: Whether Ray writes them.

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
        """Returns the shards that there are."""
        return sorted(self.folder.glob(f"[0-9]*{self.suffix}"))

    def tables(self) -> Iterator[Vectors]:
        """Yields the content of each shard.

        Raises:
            InputError: If one is damaged, or is of another model.
        """
        for file in self.files():
            table = read_vectors(file)
            if table.model != self.model:
                raise InputError(
                    f"{self.folder} holds unfinished work of the model {table.model[:12]}, the given one is "
                    f"{self.model[:12]}; remove that folder, or finish with that model"
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
            name: Of the file without its ending; by default the next free number.

        Raises:
            InputError: If it cannot be written.
        """
        paths, stamps, vectors = zip(*rows, strict=True)
        if name is None:
            taken = {file.stem for file in self.files()}
            name = next(number for number in (f"{i:06d}" for i in count()) if number not in taken)
        table = Vectors(paths, np.stack(vectors), self.model, stamps)
        write_vectors(self.folder / f"{name}{self.suffix}", table)

    def merge(self, paths: Sequence[str]) -> int:
        """Writes the final file in the order of the paths, removes the shards, and returns the number of images.

        Args:
            paths: The images; those in no shard are left out.
        """
        tables = list(self.tables())
        place = {path: (i, row) for i, table in enumerate(tables) for row, path in enumerate(table.paths)}
        found = [path for path in paths if path in place]
        vectors = np.stack([tables[i].vectors[row] for i, row in (place[path] for path in found)])
        write_vectors(self.out, Vectors(found, vectors, self.model))
        shutil.rmtree(self.folder)
        return len(found)

    def publish(self, paths: Sequence[str]) -> int:
        """Makes the shards themselves the final folder, and returns the number of images.

        Args:
            paths: The images. Shards with others, or with an image twice, are written anew.
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
    """Embeds images and writes a shard from time to time, also where it is interrupted.

    Args:
        model: The model.
        paths: The images.
        shards: Where vectors go.
        bad: Receives the errors of images that cannot be read; ``None``: the first one is raised.
        tell: Called with the number of images that are done.
        options: ``batch_size``, ``device`` and ``workers`` of :meth:`EmbeddingModel.embed_batches`.
        name: Of the one shard of not more than :data:`SHARD` images; by default shards are numbered.

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
        raise InputError(f"{error}; to leave such images out: --skip-bad (skip_bad=True)") from error
    finally:
        if waiting:
            shards.write(waiting, name)
