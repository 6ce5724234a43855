"""The command line: ``pyg-bgformer run`` and ``pyg-bgformer verify``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pyg_bgformer.errors import InputError, RunError

USAGE = """usage: pyg-bgformer run [--config RECIPE] [--SECTION.KEY VALUE ...] [--seed N] [--print_config]
       pyg-bgformer run --resume RUN_FOLDER
       pyg-bgformer verify DATASET [--root FOLDER] [--variant NAME]
see also: pyg-bgformer run --help, pyg-bgformer verify --help"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``pyg-bgformer`` command; returns its exit code.

    0: done. 1: the run failed, or a dataset is not as it should be. 2: a mistake in what was given. 130:
    interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[Sequence[str]], int]] = {"run": run_command, "verify": verify_command}
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0] not in commands:
        print(f"error: unknown command '{arguments[0]}'\n{USAGE}", file=sys.stderr)
        return 2
    return commands[arguments[0]](arguments[1:])


def run_command(arguments: Sequence[str], default_recipe: Path | None = None) -> int:
    """Trains and tests by a recipe, or resumes; returns the exit code of :func:`main`."""
    from pyg_bgformer.engine.interruption import Interrupted
    from pyg_bgformer.engine.run import RECIPE, run
    from pyg_bgformer.recipe import read_config
    from pyg_bgformer.report.display import Display

    try:
        resume = _resume_folder(arguments)
        if resume is None:
            config = read_config(arguments, default_recipe)
        else:
            config = read_config(["--config", str(resume / RECIPE)])
        run(config, Display(), resume)
    except Interrupted as stop:
        print(f"interrupted; go on with: --resume {stop}", file=sys.stderr)
        return 130
    except KeyboardInterrupt:
        print("interrupted before the run began", file=sys.stderr)
        return 130
    except InputError as error:
        return _fail(error, 2)
    except RunError as error:
        return _fail(error, 1)
    return 0


def verify_command(arguments: Sequence[str]) -> int:
    """Checks a dataset and prints the report; returns 0 if it is whole and sound, 1 if not, 2 for a mistake."""
    from pyg_bgformer.data import DATASETS, read_dataset

    parser = _Parser(prog="pyg-bgformer verify", description="Compares a dataset with the official one.")
    parser.add_argument("dataset", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument("--root", help="its folder; by default looked for as data/README.md says")
    parser.add_argument("--variant", help="of datasets that have variants")
    parser.add_argument("--workers", type=int, default=2, help="processes that decode images (default: 2)")
    try:
        given = parser.parse_args(arguments)
        report = read_dataset(given.dataset, given.root, variant=given.variant).verify(workers=given.workers)
    except InputError as error:
        return _fail(error, 2)
    print(report)
    return 0 if report.ok else 1


class _Parser(argparse.ArgumentParser):
    """Reports mistakes as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}")


def _resume_folder(arguments: Sequence[str]) -> Path | None:
    given = [a for a in arguments if a == "--resume" or a.startswith("--resume=")]
    if not given:
        return None
    value = arguments[1] if given[0] == "--resume" and len(arguments) == 2 else given[0].partition("=")[2]
    if not value or len(arguments) > 2:
        raise InputError("--resume takes the folder of a run and nothing else: its recipe is in that folder")
    if not (Path(value) / "config.yaml").is_file():
        raise InputError(f"{value} is not the folder of a run: it has no config.yaml")
    return Path(value)


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
