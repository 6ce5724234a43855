"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Lines and progress bars.

    Args:
        console: Where they go. A bar is shown on a terminal only; elsewhere its title and time are a line.
    """

    def __init__(self, console: Console | None = None) -> None:
        self.console = console if console is not None else Console()

    def line(self, text: str) -> None:
        """Prints a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """Shows a bar as long as the block lasts, and yields ``advance(steps done, note)``.

        Args:
            title: What is done.
            total: How many steps it has.
        """
        started = time.perf_counter()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        live = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not live) as progress:
            task = progress.add_task(title, total=total, note="")
            yield lambda done, note: progress.update(task, completed=done, note=note)
        if not live:
            self.line(f"{title}: {time.perf_counter() - started:.1f} s")
