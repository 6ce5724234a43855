"""Stops a run cleanly after Ctrl-C, SIGTERM, a closed terminal, or the death of a worker process."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pyg_bgformer.data.workers import STOP_SIGNALS
from pyg_bgformer.errors import one_line


class StopRequest:
    """A request to stop the training.

    Attributes:
        asked: Whether a signal has asked to stop, or training cannot continue.
        failure: Why training cannot continue.
    """

    def __init__(self) -> None:
        self.asked = False
        self.failure: str | None = None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns the first stop signal into a request, which the training loop reads between two steps.

    A second signal acts at once, as it does outside the block.
    """
    request = StopRequest()

    def ask() -> None:
        request.asked = True

    with _handled(ask, once=True):
        yield request


@contextmanager
def interrupted_by_signal() -> Iterator[None]:
    """Makes SIGTERM and SIGHUP raise :class:`KeyboardInterrupt` in the block, as Ctrl-C does."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with _handled(interrupt, once=False):
        yield


@contextmanager
def _handled(act: Callable[[], None], *, once: bool) -> Iterator[None]:
    """Makes stop signals call ``act`` in the block. Ignored signals stay ignored, for example under ``nohup``.

    Only the main thread can handle signals. In another thread the block changes nothing.
    """
    process = os.getpid()
    previous = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        previous = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def handle(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker process that has not reset its handlers yet
            return
        if once:
            restore()
        act()

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    for number in previous:
        signal.signal(number, handle)
    try:
        yield
    finally:
        restore()


@contextmanager
def whole_steps() -> Iterator[None]:
    """Prevents the death of a worker process from raising an error in the middle of a training step.

    PyTorch raises it at any place in the program, even between an optimiser's step and the count of that step.
    After the block, the error is raised when the next batch is loaded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGCHLD)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, handler)


def worker_death(error: BaseException) -> str:
    """Returns the message for a user about the death of a worker process.

    Args:
        error: An error for which :func:`is_worker_death` is true.
    """
    reason = one_line(error).rstrip(".")
    return (
        f"a process that loads images died ({reason}); the machine may have run out of memory, then a smaller "
        "data.workers helps"
    )


def is_worker_death(error: BaseException) -> bool:
    """Returns whether an error says that a process that loads images was killed.

    Args:
        error: An error that was raised while a batch was loaded.
    """
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")
