"""What the engine needs of a display; it knows no screen."""

from contextlib import AbstractContextManager
from typing import Protocol

from pyg_bgformer.runs.result import RunResult


class Update(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, note: str) -> None:
        """Shows the number of steps done, and a note beside it."""


class Display(Protocol):
    """Shows lines, progress bars and a result."""

    def line(self, text: str) -> None:
        """Shows a line of text."""

    def bar(self, title: str, total: int) -> AbstractContextManager[Update]:
        """Shows a bar of ``total`` steps as long as the block lasts."""

    def result(self, result: RunResult) -> None:
        """Shows the result of a run."""
