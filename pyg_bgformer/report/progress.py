"""Shows the progress of a run: bars on a terminal, plain lines elsewhere."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pyg_bgformer.report.tables import result_table
from pyg_bgformer.runs.result import RunResult


class Output:
    """A stream that stops the program cleanly when nobody reads it any more.

    A closed pipe or terminal acts like SIGTERM: a run saves its checkpoint. Later output is dropped.

    Args:
        stream: The stream, usually standard output.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.is_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes text, or drops it if nobody reads the stream. Returns the length of the text.

        Args:
            text: The text.
        """
        try:
            return len(text) if self.is_lost else self.stream.write(text)
        except OSError:
            self._lose()
            return len(text)

    def flush(self) -> None:
        """Flushes the stream."""
        try:
            if not self.is_lost:
                self.stream.flush()
        except OSError:
            self._lose()

    def _lose(self) -> None:
        self.is_lost = True
        # Python writes the rest of the stream's buffer at its end, which must not raise an error again.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        signal.raise_signal(signal.SIGTERM)


class Display:
    """Shows lines, progress bars and the table of a run.

    Args:
        console: The console to print on. A bar is only shown on a terminal. Elsewhere, its title and duration are
            printed as a line.
        verbose: Whether the table of a run has all scores.
    """

    def __init__(self, console: Console | None = None, verbose: bool = False) -> None:
        self.verbose = verbose
        self.console = console if console is not None else Console(file=cast(IO[str], Output(sys.stdout)))

    def line(self, text: str) -> None:
        """Prints a line of text unchanged."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def result(self, result: RunResult) -> None:
        """Prints the table of a run.

        Args:
            result: The result of the run.
        """
        self.console.print(result_table(result, self.verbose))

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Callable[[int, str], None]]:
        """Shows a bar during the block, and yields a function ``update(finished steps, note)``.

        Args:
            title: Title of the bar.
            total: Number of steps.
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
