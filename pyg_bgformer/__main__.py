"""``python -m pyg_bgformer`` is ``pyg-bgformer``."""

import signal
import sys

from pyg_bgformer.cli.main import main

if __name__ == "__main__":
    # A stop by a scheduler, or by the study that this run is part of, is a Ctrl-C: what is half-written is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
