"""``pyg-bgformer diff``: shows what differs between two runs."""

import sys
from collections.abc import Sequence

from pyg_bgformer.config.arguments import Parser
from pyg_bgformer.runs.diff import difference_lines
from pyg_bgformer.runs.folder import RunFolder


def main(arguments: Sequence[str]) -> int:
    """Prints a line for each difference between two runs. Returns 0 if there is none, otherwise 1."""
    parser = Parser(
        "diff",
        "Shows what differs between two runs: recipe, data, weights, versions, hardware. Scores are not compared.\n"
        "The exit code is 0 if nothing differs, otherwise 1.",
        "example:\n  pyg-bgformer diff runs/digits-plain-seed0-... runs/digits-plain-seed1-...",
    )
    parser.add_argument("runs", nargs=2, metavar="RUN", help="folder of a run")
    runs = [RunFolder.open(path) for path in parser.parse_args(arguments).runs]
    lines = difference_lines(*runs)
    if not any(run.state == "finished" for run in runs):
        print("neither run is finished; only their recipes are compared", file=sys.stderr)
    print("\n".join(lines) if lines else "no difference")
    return 1 if lines else 0
