"""The command ``pyg-bgformer``. Each of its commands is a file, imported when the command is used."""

import logging
import sys
import warnings
from argparse import ArgumentError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from jsonargparse import ArgumentParser, DefaultHelpFormatter, Namespace

from pyg_bgformer import __version__
from pyg_bgformer.errors import InputError, Interrupted, RunError

COMMANDS = {
    "train": "train on a folder of photos, and score it",
    "evaluate": "score a model that exists, without training",
    "embed": "write the vectors of images to a file",
    "run": "train and test by a recipe, or resume a run",
    "verify": "compare a dataset on disk with the official one",
    "study": "carry out many runs and write their tables",
    "summarise": "print one table of several finished runs",
    "diff": "show what differs between two runs",
    "show": "write the page of a run or of a study, with pictures",
    "graph": "draw the batch graph of a run on its images",
    "index": "make a searchable index of images, or add images to it",
    "search": "find the images of an index that are most similar to a photo",
    "serve": "answer searches in an index over HTTP, with a page",
    "export": "write a model as an ONNX file or a torch.export program",
}

EPILOG = """example: pyg-bgformer run --config digits/bgformer --train.epochs 10

exit codes:
  0    done
  1    a run failed, a result is refused, a dataset is incomplete or damaged, or two runs differ
  2    wrong input
  130  interrupted"""


class Help(RawDescriptionHelpFormatter, DefaultHelpFormatter):
    """Keeps the lines of the epilog."""


class Command(ArgumentParser):
    """Keeps the arguments of a command for the file that reads them."""

    def parse_args(self, args: Any = None, *_: Any, **__: Any) -> Namespace:  # type: ignore[override]
        """Returns the arguments as they are."""
        return Namespace(arguments=list(args))  # type: ignore[no-untyped-call,unused-ignore]


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command of ``pyg-bgformer``.

    Args:
        arguments: The command line, by default that of the process.

    Returns:
        The exit code; see :data:`EPILOG`.
    """
    # torch_geometric decorates functions with torch.jit.script when it is imported, which torch now deprecates.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    # Fabric tells how the hardware could be used differently; the log of a run is about the run.
    logging.getLogger("lightning_fabric.utilities.rank_zero").setLevel(logging.WARNING)
    parser = ArgumentParser(
        prog="pyg-bgformer",
        description="Batch-graph deep metric learning for PyTorch Geometric.",
        epilog=EPILOG,
        version=__version__,
        formatter_class=Help,
        exit_on_error=False,
        allow_abbrev=False,
    )
    commands = parser.add_subcommands(dest="command", title="commands", metavar="COMMAND")
    for name, text in COMMANDS.items():
        commands.add_subcommand(name, Command(), help=text).add_argument("arguments", nargs="*")
    try:
        given = parser.parse_args(arguments)
        command = import_module(f"pyg_bgformer.cli.{given.command}")
        code: int = command.main(given[given.command].arguments)
    except ArgumentError as error:
        return complain(f"error: {str(error).removesuffix('.')}; see pyg-bgformer --help", 2)
    except InputError as error:
        return complain(f"error: {error}", 2)
    except RunError as error:
        return complain(f"error: {error}", 1)
    except Interrupted as stop:
        return complain(f"interrupted; {stop}", 130)
    except KeyboardInterrupt:
        return complain("interrupted; nothing was started", 130)
    return code


def complain(line: str, code: int) -> int:
    """Prints a line on the error stream and returns the exit code that goes with it."""
    print(line, file=sys.stderr)
    return code
