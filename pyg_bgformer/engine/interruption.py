"""How a run is stopped: Ctrl-C, a scheduler's SIGTERM, a closed terminal, a worker process that dies."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from pyg_bgformer.data.workers import STOP_SIGNALS
from pyg_bgformer.errors import one_line


class StopRequest:
    """Whether a stop has been asked for.

    Attributes:
        asked: By a signal, or because training cannot continue.
        failure: Why training cannot continue.
    """

    def __init__(self) -> None:
        self.asked = False
        self.failure: str | None = None


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turns the first stop signal into a request that the training loop reads between two steps.

    A second signal acts as it would outside the block, for those who cannot wait.
    """
    request = StopRequest()

    def ask() -> None:
        request.asked = True

    with _handled(ask, once=True):
        yield request


@contextmanager
def interrupted_by_signal() -> Iterator[None]:
    """Lets SIGTERM and SIGHUP raise :class:`KeyboardInterrupt`, as Ctrl-C does."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    with _handled(interrupt, once=False):
        yield


@contextmanager
def _handled(act: Callable[[], None], *, once: bool) -> Iterator[None]:
    """Lets stop signals to this process call ``act``, unless they are ignored, for example by ``nohup``.

    Only the main thread can handle signals. In another thread the block changes nothing.
    """
    process = os.getpid()
    previous = {}
    if threading.current_thread() is threading.main_thread():
        handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
        previous = {n: handler for n, handler in handlers.items() if handler not in (signal.SIG_IGN, None)}

    def handle(_number: int, _frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker process that is just starting
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
    """Keeps the death of a worker process from raising an error in the middle of a training step.

    PyTorch raises it wherever the program is, even between an optimiser's step and the count of that step. After
    the block the error is raised where the next batch is loaded.
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
    """Returns what to tell a user about the death of a worker process.

    Args:
        error: See :func:`is_worker_death`.
    """
    reason = one_line(error).rstrip(".")
    return (
        f"a process that loads images died ({reason}): the machine may have run out of memory, where a smaller "
        "data.workers helps"
    )


def is_worker_death(error: BaseException) -> bool:
    """Returns whether an error says that a process that loads images was killed.

    Args:
        error: Raised while a batch was loaded.
    """
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid")
