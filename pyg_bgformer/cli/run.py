"""``pyg-bgformer run``: trains and tests by a recipe."""

import os
import sys
from collections.abc import Sequence

import yaml

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.config.recipe import read_config, say_on_stderr
from pyg_bgformer.config.schema import Config
from pyg_bgformer.engine.extension import resumed_config
from pyg_bgformer.engine.progress import Display, Silent
from pyg_bgformer.engine.started import is_follower
from pyg_bgformer.errors import InputError, Interrupted
from pyg_bgformer.memory import keep_freed_memory
from pyg_bgformer.runs.folder import RunFolder

DEFAULT_RECIPE = "glyphs/bgformer"

USAGE = """pyg-bgformer run [--config RECIPE] [--SECTION.KEY VALUE ...] [--seed N] [--print_config]
       pyg-bgformer run --resume RUN [--train.epochs N]"""

EPILOG = """examples:
  pyg-bgformer run                                               trains BGFormer on letters, in a minute
  pyg-bgformer run --config cub200/plain --data.root /my/CUB_200_2011
  pyg-bgformer run --train.epochs 5 --method.k 10 --seed 1       sets keys of the recipe
  pyg-bgformer run --loss.name multi_similarity --print_config   prints the whole recipe and stops
  pyg-bgformer run --resume runs/glyphs-bgformer-seed0-...       resumes an interrupted run
  pyg-bgformer run --resume RUN --train.epochs 20                trains a finished run for more epochs"""


def main(arguments: Sequence[str]) -> int:
    """Trains and tests by a recipe, or resumes a run. Returns the exit code."""
    keep_freed_memory()
    speak_once()
    parser = Parser(
        "run",
        f"Trains and tests by a recipe, or resumes a run. The default recipe is {DEFAULT_RECIPE}.",
        EPILOG,
        usage=USAGE,
        add_help=False,  # read_config's parser prints the help, with all keys of the recipe
    )
    parser.add_argument(
        "--resume",
        metavar="RUN",
        help="folder of an interrupted run, or of a finished run to extend with --train.epochs N",
    )
    parser.add_argument("--verbose", action="store_true", help="show all scores at the end")
    parser.add_argument("--print_config", action="store_true", help="print the whole recipe and stop")
    given, settings = parser.parse_known_args(arguments)
    resume = None if given.resume is None else RunFolder.open(given.resume)
    if resume is None:
        say = Silent().line if is_follower() else say_on_stderr
        config = read_config(settings, DEFAULT_RECIPE, parent=parser, say=say)
    else:
        config = resumed_config(resume, settings)
    if given.print_config:
        print(yaml.safe_dump(config.as_dict(), sort_keys=False), end="")
        return 0
    # Imported here, so that --help, --print_config and errors in a recipe do not wait for what a run needs.
    from pyg_bgformer.engine.run import run
    from pyg_bgformer.report import progress

    display = progress.Display(verbose=given.verbose)
    try:
        folder = run(config, display, resume)
    except Interrupted as stop:
        raise Interrupted(f"resume with: --resume {stop}") from stop
    try:
        report(folder, config, display)
    except KeyboardInterrupt as stop:
        raise Interrupted(f"the run is finished; write its page with: pyg-bgformer show {folder}") from stop
    return 0


def speak_once() -> None:
    """Silences standard output in all processes of a run except the first one."""
    if is_follower():
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def report(folder: RunFolder, config: Config, display: Display) -> None:
    """Writes the scores of a finished run to TensorBoard, and its page."""
    from pyg_bgformer.report.events import log_result
    from pyg_bgformer.report.page import run_pictures, write_run_page

    page = folder.embeddings.exists() if config.report.page is None else config.report.page
    if not page:
        log_result(folder)
        return
    try:
        with display.bar("writing the page", 1):
            pictures = run_pictures(folder)
            log_result(folder, pictures.images)
            display.line(f"page: {write_run_page(folder, pictures=pictures)}")
    except InputError as error:
        display.line(f"no page: {error}")
