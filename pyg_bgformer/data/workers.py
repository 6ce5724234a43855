"""Worker processes that load images."""

import ctypes
import os
import signal
import sys
import threading

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that Ctrl-C, a scheduler and a closed terminal send to all processes of a run."""

PR_SET_PDEATHSIG = 1


def leave_signals_to_main(_: int) -> None:
    """Makes a worker process ignore the signals that stop a run: the main process handles them for its workers.

    On Linux, SIGTERM ends a worker only if the main process sent it, as Python does at its exit. There a worker
    also dies with the main process, however that ends. This function is a ``worker_init_fn`` of a ``DataLoader``.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if sys.platform != "linux":  # elsewhere PyTorch's handler ends a worker at SIGTERM
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_exit_when_main_asks, args=(os.getppid(),), daemon=True).start()
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_when_main_asks(main: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main:
        pass
    os._exit(0)
