"""Time before a command starts its work: the import, ``--help``, and the start of a run.

Each command runs in its own processes, and the commands take turns. The time of the bare interpreter is subtracted.
The start of a run is ``run --print_config`` (imports, recipe, checks), and one epoch with one batch of digits.

Run it from the repository's root: ``PYTHONPATH=. python benchmarks/startup.py``
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measuring import write_table

ROOT = Path(__file__).parents[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--csv", type=Path, help="file of the table")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as runs:
        program = [sys.executable, "-W", "ignore"]
        command = [*program, "-m", "pyg_bgformer"]
        short = ["--sampler.batches_per_epoch", "1", "--train.epochs", "1", "--runs", runs]
        recipe = ["--config", str(ROOT / "experiments" / "recipes" / "digits" / "plain.yaml")]
        commands = {
            "bare interpreter": [*program, "-c", "pass"],
            "import torch": [*program, "-c", "import torch"],
            "import torch, torch_geometric": [*program, "-c", "import torch, torch_geometric"],
            "import pyg_bgformer": [*program, "-c", "import pyg_bgformer"],
            "from pyg_bgformer import BGFormer": [*program, "-c", "from pyg_bgformer import BGFormer"],
            "pyg-bgformer --help": [*command, "--help"],
            "pyg-bgformer run --help": [*command, "run", "--help"],
            "pyg-bgformer run --print_config": [*command, "run", *recipe, "--print_config"],
            "pyg-bgformer run, one batch": [*command, "run", *recipe, *short],
        }
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for repeat in range(given.repeats + 1):
            for name, arguments in commands.items():
                seconds = measured(arguments)
                if repeat:
                    times[name].append(seconds)
    bare = [statistics.median(values) for values in zip(*times["bare interpreter"], strict=True)]
    print(f"{'seconds above the bare interpreter':40}{'CPU':>8}{'elapsed':>9}")
    rows = []
    for name, values in times.items():
        medians = (statistics.median(column) for column in zip(*values, strict=True))
        cpu, elapsed = (f"{seconds - none:.2f}" for seconds, none in zip(medians, bare, strict=True))
        print(f"{name:40}{cpu:>8}{elapsed:>9}")
        rows.append({"seconds above the bare interpreter": f"`{name}`", "of CPU": cpu, "elapsed": elapsed})
    write_table(given.csv, rows[1:])


def measured(arguments: list[str]) -> tuple[float, float]:
    """Returns the CPU seconds of a command and its children, and its elapsed seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(arguments, check=True, cwd=ROOT, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return busy, time.perf_counter() - start


if __name__ == "__main__":
    main()
