"""The folder of a run: the names of its files, how they are written, and how far the run is."""

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
"""Pending: there is a recipe and nothing else. Unfinished: begun, and without a result."""


class RunFolder:
    """The files of one run. No other code names them or opens them for writing.

    Args:
        path: The folder. It need not exist.

    Attributes:
        path: The folder.
        recipe: ``config.yaml``, the whole recipe.
        untrained: ``untrained.json``, the scores before training.
        checkpoint: ``checkpoint.pt``, the state to resume from.
        metrics: ``metrics.csv``, one row an epoch.
        events: ``tensorboard/``, the same for TensorBoard.
        queries: ``queries.csv``, one row a test query.
        embeddings: ``embeddings.safetensors``, of the test images in the order of the dataset.
        graph: ``batch_graph.safetensors``, edges and weights of the first training batch.
        page: ``report.html``, the run's scores and pictures.
        result: ``result.json``, which a finished run has.
        log: ``log.txt``, what a run of a study prints.
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
        """Makes a new folder with its recipe and copies of its plug-ins, whole or not at all.

        Args:
            path: The folder, which must not exist yet.
            recipe: Plain values, written to ``config.yaml``. The plug-ins that it names become the copies.

        Raises:
            FileExistsError: There is such a folder already, and it is not empty.
            InputError: The folder cannot be written.
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
            raise InputError(f"run folder {path} cannot be made: {error.strerror}; see runs") from error
        return cls(path)

    @classmethod
    def open(cls, path: Path | str) -> "RunFolder":
        """Returns an existing run's folder.

        Args:
            path: The folder.

        Raises:
            InputError: It is not the folder of a run.
        """
        folder = cls(path)
        if not folder.recipe.is_file():
            raise InputError(f"{path} is not the folder of a run: it has no {folder.recipe.name}")
        return folder

    @property
    def state(self) -> State:
        """How far the run is."""
        if self.result.exists():
            return "finished"
        begun = (self.checkpoint, self.untrained, self.metrics, self.events)
        return "unfinished" if any(file.exists() for file in begun) else "pending"

    def read_recipe(self) -> dict[str, Any]:
        """Returns the content of ``config.yaml``.

        Raises:
            InputError: The file is missing or damaged.
        """
        return read_mapping(self.recipe, "recipe")

    def plugin_hashes(self) -> dict[str, str]:
        """Returns the SHA-256 of each plug-in file of the run by its name."""
        return hashes_by_name(sorted(self.plugins.glob("*")))

    @contextmanager
    def writing(self, file: Path) -> Iterator[Path]:
        """Yields a path to write to; the file takes its place when the block ends without an error.

        Args:
            file: One of the folder's files.

        Raises:
            RunError: The file cannot be written.
        """
        with self.errors(file), atomic_path(file) as partial:
            yield partial

    @contextmanager
    def errors(self, file: Path) -> Iterator[None]:
        """Turns an error of the operating system into one line that names the file, and says how to resume.

        Args:
            file: What is written in the block.

        Raises:
            RunError: The file cannot be written.
        """
        try:
            yield
        except OSError as error:
            resumable = self.recipe.exists() and not self.result.exists()
            then = f"; when that is mended, resume with: --resume {self}" if resumable else ""
            raise RunError(f"{file} cannot be written: {error.strerror or error}{then}") from error

    def write_text(self, file: Path, text: str) -> None:
        """Writes a text file, whole or not at all.

        Args:
            file: One of the folder's files.
            text: Its content, without the last line break.
        """
        with self.writing(file) as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from carrying out the same run as long as the block lasts.

        Raises:
            InputError: Another process carries out this run.
            RunError: The folder cannot be written.
        """
        with self.errors(self.path):
            if not os.access(self.path, os.W_OK):
                raise PermissionError(errno.EACCES, "it is read-only, or not there")
            descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            raise InputError(f"{self} is in use: another process carries out this run") from error
        finally:
            os.close(descriptor)
