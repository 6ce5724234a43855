"""The interface of a display, through which the engine reports its progress."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from pyg_bgformer.runs.result import RunResult


class Update(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, note: str) -> None:
        """Shows the number of finished steps, and a note beside the bar."""


class Display(Protocol):
    """Shows lines, progress bars and a result."""

    def line(self, text: str) -> None:
        """Shows a line of text."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Update]:
        """Shows a bar of ``total`` steps during the block."""

    def result(self, result: RunResult) -> None:
        """Shows the result of a run."""


class Silent:
    """A display that shows nothing."""

    def line(self, text: str) -> None:
        """Does nothing."""

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Update]:
        """Yields a function that does nothing."""
        del title, total
        yield lambda *_: None

    def result(self, result: RunResult) -> None:
        """Does nothing."""
