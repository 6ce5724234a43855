"""Kills runs at random times, resumes them, and compares their encoders with that of an uninterrupted run.

python benchmarks/kills.py --kills 100
"""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.kills import kill_and_resume


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="number of signals (default: 100)")
    parser.add_argument("--seed", type=int, default=0, help="decides the times and the signals (default: 0)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        faults = kill_and_resume(Path(folder), given.kills, given.seed)
    print("\n".join(faults) or f"{given.kills} kills, no fault")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
