"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Update = Callable[[int, str], None]
"""Told the number of steps done, and a note to show beside it."""


class Display:
    """Lines and progress bars.

    Args:
        console: Where they go. A bar is shown on a terminal only; elsewhere its start and time are lines.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console if console is not None else Console()

    def line(self, text: str) -> None:
        """Prints a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Update]:
        """A bar of ``total`` steps; yields ``update(steps done, note)``."""
        started = time.perf_counter()
        if not self.console.is_terminal:
            yield _nothing
            self.line(f"{title}: {time.perf_counter() - started:.1f} s")
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=self.console, transient=True) as progress:
            task = progress.add_task(title, total=total, note="")

            def update(done: int, note: str) -> None:
                progress.update(task, completed=done, note=note)

            yield update


def _nothing(done: int, note: str) -> None:
    pass
