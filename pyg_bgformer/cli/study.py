"""``pyg-bgformer study``: many runs for one question, and their tables."""

from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.errors import Interrupted
from pyg_bgformer.report.progress import Display
from pyg_bgformer.study.command import carry_out, show
from pyg_bgformer.study.definition import read_study

EPILOG = """Every other setting, such as --data.root FOLDER, is for all rows of the study.

examples:
  pyg-bgformer study experiments/studies/ablation.yaml --size small --jobs 2
  pyg-bgformer study experiments/studies/ablation.yaml --size small --print     how far it is, and its table
  pyg-bgformer study experiments/studies/methods.yaml --size full --data.root /my/CUB_200_2011
  pyg-bgformer study experiments/studies/methods.yaml --size full --submit slurm --slurm timeout_min=600"""


def main(arguments: Sequence[str]) -> int:
    """Carries out a study, or the rest of it, and writes its tables; returns 0, or 1 if a part failed."""
    parser = Parser("study", "Carries out the runs of a study file and writes their tables.", EPILOG)
    parser.add_argument("study", type=Path, help="a study file, YAML")
    parser.add_argument("--size", help="which of the study's sizes, if it has sizes")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time on this machine (default: 1)")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (default: runs)")
    parser.add_argument("--print", action="store_true", help="show how far it is; run nothing, write nothing")
    parser.add_argument("--submit", choices=["slurm"], help="submit the runs to Slurm; needs submitit")
    parser.add_argument(
        "--slurm", action="append", default=[], metavar="KEY=VALUE", help="a parameter of submitit"
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
