"""Runs the command line: ``python -m pyg_bgformer`` does the same as ``pyg-bgformer``."""

import signal
import sys

from pyg_bgformer.cli.main import main

if __name__ == "__main__":
    # A scheduler or a study stops a run by SIGTERM. As with Ctrl-C, Python then removes half-written files.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
