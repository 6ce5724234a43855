"""``pyg-bgformer graph``: draws the batch graph of a run on the images of a training batch."""

from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.errors import InputError
from pyg_bgformer.report.graph_figure import write_figure
from pyg_bgformer.report.page import batch_figure
from pyg_bgformer.report.run_images import TrainedRun
from pyg_bgformer.runs.folder import RunFolder

EPILOG = """examples:
  pyg-bgformer graph runs/digits-bgformer-seed0-...               writes graph-batch0.svg and .png to that folder
  pyg-bgformer graph runs/cub200-bgformer-... --batch 3 --out figures/graph"""


def main(arguments: Sequence[str]) -> int:
    """Draws the graph of a training batch as SVG and PNG. Returns the exit code."""
    parser = Parser(
        "graph",
        "Draws a training batch of the first epoch and the edges of the trained method between its images. A\n"
        "wider edge has more weight. Edges within a class have the colour of the class.",
        EPILOG,
    )
    parser.add_argument("run", metavar="RUN", help="folder of a finished run")
    parser.add_argument("--batch", type=int, default=0, metavar="N", help="which batch, from 0 (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="NAME",
        help="path of the files without .svg and .png (default: graph-batchN in the run's folder)",
    )
    given = parser.parse_args(arguments)
    folder = RunFolder.open(given.run)
    if folder.state != "finished":
        raise InputError(f"{folder} is not finished; resume it with: pyg-bgformer run --resume {folder}")
    run = TrainedRun(folder)
    figure = batch_figure(run, given.batch)
    if figure is None:
        raise InputError(f"method {run.config.method.name} has no batch graph")
    name = folder.path / f"graph-batch{given.batch}" if given.out is None else given.out
    print(*write_figure(figure, name), sep="\n")
    return 0
