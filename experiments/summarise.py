"""Gathers finished runs into a CSV file and prints a Markdown table: means over seeds, differences from one method.

python experiments/summarise.py runs/cub200-* --csv cub200.csv
"""

import argparse
import sys
from pathlib import Path

from pyg_bgformer.errors import InputError
from pyg_bgformer.files import atomic_path
from pyg_bgformer.report.collect import collect
from pyg_bgformer.report.tables import against, comparison_markdown


def main() -> int:
    """Returns the exit code: 2 for runs that do not compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--csv", type=Path, help="file for one row a run and feature")
    parser.add_argument("--reference", default="plain", help="method to compare with (default: plain)")
    given = parser.parse_args()
    try:
        runs = collect(given.runs)
        table = comparison_markdown(against(runs, given.reference))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if given.csv is not None:
        given.csv.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(given.csv) as path:
            runs.to_csv(path, index=False)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
