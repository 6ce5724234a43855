"""``pyg-bgformer study``: runs the comparison that a study file describes."""

from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.errors import Interrupted
from pyg_bgformer.report.progress import Display
from pyg_bgformer.study.command import carry_out, show
from pyg_bgformer.study.definition import read_study

EPILOG = """Any other setting, such as --data.root FOLDER, applies to all rows of the study.

examples:
  pyg-bgformer study experiments/studies/ablation.yaml --size glyphs --jobs 2
  pyg-bgformer study experiments/studies/ablation.yaml --size glyphs --print    prints its progress and table
  pyg-bgformer study experiments/studies/contest.yaml --size full --data.root /my/CUB_200_2011
  pyg-bgformer study experiments/studies/contest.yaml --size full --submit slurm --slurm timeout_min=600"""


def main(arguments: Sequence[str]) -> int:
    """Runs a study, or the rest of it, and writes its tables. Returns 0, or 1 if a run failed."""
    parser = Parser(
        "study",
        "Runs the comparison that a study file describes: methods, settings and seeds. Writes tables and figures.\n"
        "The same command resumes an interrupted study; finished runs are not repeated.",
        EPILOG,
    )
    parser.add_argument("study", type=Path, metavar="STUDY", help="a study file, YAML")
    parser.add_argument("--size", help="one of the study's sizes, if it has sizes")
    parser.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at a time on this machine (default: 1)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), metavar="FOLDER", help="folder of the runs (default: runs)"
    )
    parser.add_argument("--print", action="store_true", help="only print the study's progress and table")
    parser.add_argument("--submit", choices=["slurm"], help="submit the runs to Slurm; needs submitit")
    parser.add_argument(
        "--slurm",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a Slurm parameter as submitit names it, for example timeout_min=600; may be repeated",
    )
    given, overrides = parser.parse_known_args(arguments)
    try:
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
    except (Interrupted, KeyboardInterrupt) as stop:
        raise Interrupted("resume with the same command") from stop
