"""The program ``pyg-bgformer``. Each of its commands is a file, which is imported when the command is used."""

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
    "train": "train an encoder on a folder of photos and score it",
    "evaluate": "score an existing model, without training",
    "embed": "write the vectors of images to a file",
    "run": "train and test by a recipe, or resume a run",
    "verify": "compare a dataset on disk with the official one",
    "study": "compare settings: many runs, a table and a figure",
    "summarise": "print one table of several finished runs",
    "diff": "show what differs between two runs",
    "show": "write a page about a run or a study, with pictures",
    "graph": "draw the batch graph of a run on its images",
    "index": "make a searchable index of images, or add images to it",
    "search": "find the images of an index that are most similar to a photo",
    "serve": "serve an index over HTTP, with a web page",
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
    """Passes the arguments of a command on to its file, which parses them."""

    def parse_args(self, args: Any = None, *_: Any, **__: Any) -> Namespace:  # type: ignore[override]
        """Returns the arguments as they are."""
        return Namespace(arguments=list(args))  # type: ignore[no-untyped-call,unused-ignore]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command of ``pyg-bgformer``.

    Args:
        arguments: The command line. ``None`` takes the arguments of the process.

    Returns:
        The exit code; see :data:`EPILOG`.
    """
    # The import of torch_geometric calls torch.jit.script, which torch deprecates.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated", category=FutureWarning)
    # Fabric gives advice about the hardware, which does not belong in the log of a run.
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
    """Prints a line to standard error and returns the exit code."""
    print(line, file=sys.stderr)
    return code
