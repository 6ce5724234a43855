"""A stop that was asked for: Ctrl-C, or a scheduler's SIGTERM."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pyg_bgformer.errors import Interrupted as Interrupted


class StopRequest:
    """Whether a stop has been asked for."""

    def __init__(self) -> None:
        self.asked = False


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns the first SIGINT or SIGTERM into a request that the training loop reads between two steps.

    A second one acts as usual, for those who cannot wait. Only the main thread of a program can do this.
    """
    request = StopRequest()
    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.getsignal(number) for number in signals}

    def ask(number: int, frame: FrameType | None) -> None:
        request.asked = True
        signal.signal(number, previous[signal.Signals(number)])

    for number in signals:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number in signals:
            signal.signal(number, previous[number])


def ignore_interrupts(_: int) -> None:
    """Lets a worker process leave Ctrl-C, which reaches all of a terminal's processes, to the main one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
