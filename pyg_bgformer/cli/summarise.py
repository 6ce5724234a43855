"""``pyg-bgformer summarise``: prints one table of several runs."""

from collections.abc import Sequence
from pathlib import Path

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.collect import collect
from pyg_bgformer.report.tables import against, comparison_markdown


def main(arguments: Sequence[str]) -> int:
    """Prints a Markdown table of finished runs, and can write their scores as CSV. Returns 0."""
    parser = Parser(
        "summarise",
        "Prints a Markdown table of finished runs: means over seeds, and differences from one method.",
        "example:\n  pyg-bgformer summarise runs/cub200-* --csv cub200.csv",
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    parser.add_argument(
        "--csv", type=Path, metavar="FILE", help="also write a CSV file, one row for each run and feature"
    )
    parser.add_argument(
        "--reference", default="plain", metavar="METHOD", help="method to compare with (default: plain)"
    )
    given = parser.parse_args(arguments)
    runs = collect(given.runs)
    table = comparison_markdown(against(runs, given.reference))
    if given.csv is not None:
        given.csv.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(given.csv) as path:
            runs.to_csv(path, index=False)
    print(table)
    return 0
