"""All measurements on a CPU that take minutes, one after another, and the tables of the pages.

    python benchmarks/cpu.py                       # about 17 minutes on two idle cores
    python benchmarks/cpu.py --only layers index   # some of them

Each writes a file ``benchmarks/results/cpu-<name>.csv``. Not in here are those that take longer: ``index.py`` with
its million vectors and ``embedding.py`` with its 10,000 images. Give them ``--csv`` and run ``page.py`` afterwards.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import page

FOLDER = Path(__file__).parent
MEASUREMENTS = {
    "layers": "layers.py --repeats 7",
    "methods": "methods.py --repeats 5 --encoder-images 8",
    "freed-memory": "freed_memory.py",
    "evaluation": "evaluation.py --parts retrieval clustering --repeats 1",
    "evaluation-others": "evaluation.py --items 8000 --parts accuracy_calculator scikit_learn",
    "small-images": "small_images.py --dataset digits --threads 1",
    "startup": "startup.py --repeats 3",
    "index": "index.py --rows 100000",
    "embedding": "embedding.py --images 500",
    "serving": "serving.py",
    "encode-chunk": "encode_chunk.py --device cpu",
    "same-run": "same_run.py",
}
"""Names of the tables, and the commands that measure them."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=MEASUREMENTS, default=list(MEASUREMENTS), metavar="NAME")
    parser.add_argument("--threads", default="2")
    given = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": given.threads, "PYTHONPATH": str(FOLDER.parent)}
    failed = []
    for name in given.only:
        script, *arguments = MEASUREMENTS[name].split()
        file = FOLDER / "results" / f"cpu-{name}.csv"
        command = [sys.executable, "-W", "ignore", str(FOLDER / script), *arguments, "--csv", str(file)]
        print(f"\n== {name}: python benchmarks/{MEASUREMENTS[name]}", flush=True)
        started = time.perf_counter()
        if subprocess.run(command, env=environment, cwd=FOLDER.parent, check=False).returncode:
            failed.append(name)
        print(f"== {name}: {time.perf_counter() - started:.0f} s", flush=True)
    page.main()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
