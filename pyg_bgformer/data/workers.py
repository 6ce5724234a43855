"""Worker processes that load images."""

import ctypes
import os
import signal
import sys
import threading

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What Ctrl-C, a scheduler and a closed terminal send to all processes of a run."""

PR_SET_PDEATHSIG = 1


def leave_signals_to_main(_: int) -> None:
    """Prepares a worker process: signals that stop a run are for the main process, which ends its workers.

    SIGTERM ends a worker only where the main process sends it, as Python does to processes that are left when it
    exits. On Linux a worker also dies with the main process, however that ends. This is a ``worker_init_fn``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform != "linux":  # there PyTorch's handler ends a worker, and the main process says so
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_exit_when_main_asks, args=(os.getppid(),), daemon=True).start()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_when_main_asks(main: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
