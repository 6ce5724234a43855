"""The folder of a run: the names of its files, how they are written, and the state of the run."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import yaml

from pyg_bgformer.errors import InputError, RunError
from pyg_bgformer.files import (
    atomic_path,
    hashes_by_name,
    partial_path,
    read_mapping,
    remove_stale_partials,
)

State = Literal["pending", "unfinished", "finished"]
"""Pending: the run has a recipe and has not started. Unfinished: it has started and has no result."""


class RunFolder:
    """The files of one run. Only this class knows their names.

    Args:
        path: The folder. It need not exist.

    Attributes:
        path: The folder.
        recipe: ``config.yaml``, the whole recipe.
        untrained: ``untrained.json``, the scores before training.
        checkpoint: ``checkpoint.pt``, the state to resume from.
        metrics: ``metrics.csv``, one row for each epoch.
        events: ``tensorboard/``, the same values for TensorBoard.
        queries: ``queries.csv``, one row for each test query.
        embeddings: ``embeddings.safetensors``, embeddings of the test images in the order of the dataset.
        graph: ``batch_graph.safetensors``, edges and weights of the first training batch.
        page: ``report.html``, the run's scores and pictures.
        result: ``result.json``, the scores and the provenance of a finished run.
        log: ``log.txt``, the output of a run that belongs to a study.
        plugins: ``plugins/``, copies of the plug-in files that the recipe names.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.recipe = self.path / "config.yaml"
        self.untrained = self.path / "untrained.json"
        self.checkpoint = self.path / "checkpoint.pt"
        self.metrics = self.path / "metrics.csv"
        self.events = self.path / "tensorboard"
        self.queries = self.path / "queries.csv"
        self.embeddings = self.path / "embeddings.safetensors"
        self.graph = self.path / "batch_graph.safetensors"
        self.page = self.path / "report.html"
        self.result = self.path / "result.json"
        self.log = self.path / "log.txt"
        self.plugins = self.path / "plugins"

    def __str__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"{self.__class__.__name__}({str(self.path)!r})"

    @classmethod
    def create(cls, path: Path, recipe: Mapping[str, Any]) -> "RunFolder":
        """Makes a new folder with its recipe and copies of its plug-ins, and returns it.

        The folder is made beside its place and moved there when it is complete.

        Args:
            path: The folder. It must not exist, or must be empty.
            recipe: Nested plain values, written to ``config.yaml``. It then names the copies of the plug-ins.

        Raises:
            FileExistsError: If there is such a folder, and it is not empty.
            InputError: If the folder cannot be written.
        """
        partial = cls(partial_path(path))
        remove_stale_partials(path.parent)
        try:
            partial.path.mkdir(parents=True)
            copies = {plugin: partial.plugins / Path(plugin).name for plugin in recipe.get("plugins", [])}
            for plugin, copy in copies.items():
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(plugin, copy)
            names = [copy.relative_to(partial.path).as_posix() for copy in copies.values()]
            text = yaml.safe_dump({**recipe, "plugins": names} if names else dict(recipe), sort_keys=False)
            partial.recipe.write_text(text, encoding="utf-8")
            partial.path.rename(path)
        except OSError as error:
            shutil.rmtree(partial.path, ignore_errors=True)
            if path.exists() and any(path.iterdir()):
                raise FileExistsError(str(path)) from error
            raise InputError(
                f"run folder {path} cannot be made: {error.strerror}; choose another folder"
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Returns the folder of an existing run.

        Args:
            path: The folder.

        Raises:
            InputError: If it has no ``config.yaml``.
        """
        folder = cls(path)
        if not folder.recipe.is_file():
            raise InputError(f"{path} is not the folder of a run: it has no {folder.recipe.name}")
        return folder

    @property
    def state(self) -> State:
        """Whether the run is pending, unfinished or finished."""
        if self.result.exists():
            return "finished"
        begun = (self.checkpoint, self.untrained, self.metrics, self.events)
        return "unfinished" if any(file.exists() for file in begun) else "pending"

    def read_recipe(self) -> dict[str, Any]:
        """Returns the content of ``config.yaml``.

        Raises:
            InputError: If the file is missing or damaged.
        """
        return read_mapping(self.recipe, "recipe")

    def plugin_hashes(self) -> dict[str, str]:
        """Returns the SHA-256 of each plug-in file of the run by file name."""
        return hashes_by_name(sorted(self.plugins.glob("*")))

    @contextmanager
    def writing(self, file: Path) -> Iterator[Path]:
        """Yields a path to write to. It is moved to ``file`` when the block ends without an error.

        Args:
            file: One of the folder's files.

        Raises:
            RunError: If the file cannot be written.
        """
        with self.errors(file), atomic_path(file) as partial:
            yield partial

    @contextmanager
    def errors(self, file: Path) -> Iterator[None]:
        """Turns an error of the operating system into one line that names the file and says how to resume.

        Args:
            file: The file that the block writes.

        Raises:
            RunError: If the block raises an ``OSError``.
        """
        try:
            yield
        except OSError as error:
            resumable = self.recipe.exists() and not self.result.exists()
            then = f"; fix this and resume with: --resume {self}" if resumable else ""
            raise RunError(f"{file} cannot be written: {error.strerror or error}{then}") from error

    def write_text(self, file: Path, text: str) -> None:
        """Writes a text file, whole or not at all.

        Args:
            file: One of the folder's files.
            text: Its content without the last line break.

        Raises:
            RunError: If the file cannot be written.
        """
        with self.writing(file) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Prevents other processes from working on the same run during the block.

        Raises:
            InputError: If another process is working on this run.
            RunError: If the folder cannot be written.
        """
        with self.errors(self.path):
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, "it is read-only or missing")
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise InputError(f"{self} is in use: another process is working on this run") from error
        finally:
            os.close(descriptor)
