"""Worker processes that load images."""

import ctypes
import signal
import sys

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What Ctrl-C, a scheduler and a closed terminal send to all processes of a run."""

PR_SET_PDEATHSIG = 1


def leave_signals_to_main(_: int) -> None:
    """Prepares a worker process: signals that stop a run are for the main process, which ends its workers.

    On Linux a worker also dies with the main process, however that ends. This is a ``worker_init_fn``.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
