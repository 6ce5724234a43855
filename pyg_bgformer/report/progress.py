"""What a person sees while a run goes on: live bars on a terminal, plain lines elsewhere."""

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
    """A stream that stops the program in good order when nobody reads it any more.

    A closed pipe or terminal acts as SIGTERM: a run saves its checkpoint and says how to resume it. What is printed
    after that is dropped.

    Args:
        stream: Usually the standard output.
    """

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream
        self.is_lost = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Writes text, or drops it.

        Args:
            text: What to write.
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
        with suppress(
            OSError, ValueError
        ):  # what is left in the stream's buffer must go somewhere at the end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())
        signal.raise_signal(signal.SIGTERM)


class Display:
    """Lines and progress bars.

    Args:
        console: Where they go. A bar is shown on a terminal only; elsewhere its title and time are a line.
        verbose: Whether the table of a run has all its scores.
    """

    def __init__(self, console: Console | None = None, verbose: bool = False) -> None:
        self.verbose = verbose
        self.console = console if console is not None else Console(file=cast(IO[str], Output(sys.stdout)))

    def line(self, text: str) -> None:
        """Prints a line as it is."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def result(self, result: RunResult) -> None:
        """Prints the table of a run.

        Args:
            result: Of a finished run.
        """
        self.console.print(result_table(result, self.verbose))

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
