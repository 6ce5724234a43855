"""The command line: ``pyg-bgformer run``, ``verify``, ``diff`` and ``study``."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pyg_bgformer.errors import InputError, RunError

if TYPE_CHECKING:
    from pyg_bgformer.runs.folder import RunFolder

USAGE = """usage: pyg-bgformer run [--config RECIPE] [--SECTION.KEY VALUE ...] [--seed N] [--print_config]
       pyg-bgformer run --resume RUN_FOLDER
       pyg-bgformer verify DATASET [--root FOLDER] [--variant NAME]
       pyg-bgformer diff RUN_FOLDER RUN_FOLDER
       pyg-bgformer study STUDY [--size NAME] [--jobs N] [--runs FOLDER] [--print]
see also: --help of each"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The ``pyg-bgformer`` command; returns its exit code.

    0: done. 1: a run failed, a dataset is not as it should be, or two runs differ. 2: a mistake in what was given.
    130: interrupted.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    commands: dict[str, Callable[[Sequence[str]], int]] = {
        "run": run_command,
        "verify": verify_command,
        "diff": diff_command,
        "study": study_command,
    }
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    if arguments[0] not in commands:
        print(f"error: unknown command '{arguments[0]}'\n{USAGE}", file=sys.stderr)
        return 2
    return commands[arguments[0]](arguments[1:])


def run_command(arguments: Sequence[str], default_recipe: Path | None = None) -> int:
    """Trains and tests by a recipe, or resumes; returns the exit code of :func:`main`."""
    import yaml

    from pyg_bgformer.config.recipe import read_config
    from pyg_bgformer.engine.interruption import Interrupted
    from pyg_bgformer.engine.run import run
    from pyg_bgformer.report.progress import Display

    try:
        resume = _resume_folder(arguments)
        if resume is None:
            settings = [argument for argument in arguments if argument != "--print_config"]
            config = read_config(settings, default_recipe)
            if len(settings) < len(arguments):
                print(yaml.safe_dump(config.as_dict(), sort_keys=False), end="")
                return 0
        else:
            config = read_config(["--config", str(resume.recipe)])
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
        if given.workers < 0:
            raise InputError(f"--workers: expected at least 0, found {given.workers}")
        report = read_dataset(given.dataset, given.root, variant=given.variant).verify(workers=given.workers)
    except InputError as error:
        return _fail(error, 2)
    print(report)
    return 0 if report.ok else 1


def diff_command(arguments: Sequence[str]) -> int:
    """Prints a line for all in which two runs differ; returns 0 if there is none, 1 if any, 2 for a mistake."""
    from pyg_bgformer.runs.diff import difference_lines
    from pyg_bgformer.runs.folder import RunFolder

    parser = _Parser(
        prog="pyg-bgformer diff", description="What differs between two runs, scores left aside."
    )
    parser.add_argument("runs", nargs=2, type=Path, metavar="RUN_FOLDER", help="folder of a run")
    try:
        runs = [RunFolder.open(path) for path in parser.parse_args(arguments).runs]
        lines = difference_lines(*runs)
    except InputError as error:
        return _fail(error, 2)
    if not any(run.state == "finished" for run in runs):
        print("neither run is finished: recipes alone are compared", file=sys.stderr)
    print("\n".join(lines) if lines else "no difference")
    return 1 if lines else 0


def study_command(arguments: Sequence[str]) -> int:
    """Carries out a study, or the rest of it, and writes its tables; returns the exit code of :func:`main`."""
    from pyg_bgformer.engine.interruption import Interrupted
    from pyg_bgformer.report.progress import Display
    from pyg_bgformer.study.command import carry_out, show
    from pyg_bgformer.study.definition import read_study

    parser = _Parser(prog="pyg-bgformer study", description="Many runs and their tables.", allow_abbrev=False)
    parser.add_argument("study", type=Path, help="a study file, YAML")
    parser.add_argument("--size", help="which of the study's sizes, where it has sizes")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on this machine (default: 1)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--print", action="store_true", help="show how far it is; run nothing, write nothing")
    parser.add_argument("--submit", choices=["slurm"], help="hand the runs to Slurm instead; needs submitit")
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="submitit's parameter"
    )
    try:
        given, overrides = parser.parse_known_args(arguments)
        study, runs, display = (
            read_study(given.study, given.size, overrides),
            given.runs.expanduser(),
            Display(),
        )
        if given.print:
            show(study, runs, display)
            return 0
        slurm = given.slurm if given.submit else None
        return 0 if carry_out(study, runs, display, jobs=given.jobs, slurm=slurm) else 1
    except (Interrupted, KeyboardInterrupt):
        print("interrupted; resume with the same command", file=sys.stderr)
        return 130
    except InputError as error:
        return _fail(error, 2)


class _Parser(argparse.ArgumentParser):
    """Reports mistakes as the rest of the program does."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{self.prog}: {message}")


def _resume_folder(arguments: Sequence[str]) -> "RunFolder | None":
    from pyg_bgformer.runs.folder import RunFolder

    given = [a for a in arguments if a == "--resume" or a.startswith("--resume=")]
    if not given:
        return None
    value = arguments[1] if given[0] == "--resume" and len(arguments) == 2 else given[0].partition("=")[2]
    if not value or len(arguments) > 2:
        raise InputError("--resume takes the folder of a run and nothing else: its recipe is in that folder")
    return RunFolder.open(value)


def _fail(error: Exception, code: int) -> int:
    print(f"error: {error}", file=sys.stderr)
    return code
