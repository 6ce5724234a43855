"""Steps on a CPU while glibc returns freed memory to the system, and while it keeps it.

    OMP_NUM_THREADS=2 python benchmarks/freed_memory.py

The commands that train or embed make glibc keep it (``keep_freed_memory``). That cannot be undone in a process,
because glibc then no longer adapts its own limits. So the sides take turns in processes of their own. The table
has the median time of a step, the pages of 4 KiB that the system cleared for it, and the largest memory of the
process.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

import torch
from measuring import write_table

from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.memory import keep_freed_memory

CASES = {"conv4": 28, "timm/tf_efficientnet_lite0": 128}
"""Encoders and the size of their images in pixels."""


def measure(name: str, images: int, steps: int) -> dict[str, float]:
    """Returns the median seconds and cleared pages of a training step, and the largest memory in MiB."""
    size = CASES[name]
    encoder = build_encoder(name, weights=None, pooling="average", embedding_dim=64)
    encoder.to(memory_format=torch.channels_last)
    batch = torch.rand(images, 3, size, size).contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(encoder.parameters())
    seconds, pages = [], []
    for step in range(steps + 2):
        cleared, start = getrusage(RUSAGE_SELF).ru_minflt, time.perf_counter()
        optimizer.zero_grad()
        encoder(batch).square().sum().backward()
        optimizer.step()
        if step > 1:
            seconds.append(time.perf_counter() - start)
            pages.append(getrusage(RUSAGE_SELF).ru_minflt - cleared)
    return {
        "seconds": statistics.median(seconds),
        "pages": statistics.median(pages),
        "MiB": getrusage(RUSAGE_SELF).ru_maxrss / 1024,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=100, help="images of a step (default: 100)")
    parser.add_argument("--steps", type=int, default=5, help="steps of a process (default: 5)")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each side (default: 3)")
    parser.add_argument("--csv", type=Path, help="file of the table")
    parser.add_argument("--measure", nargs=2, metavar=("ENCODER", "SIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, side = given.measure
        if side == "kept" and not keep_freed_memory():
            raise SystemExit("the C library is not glibc, or an environment variable sets what it does")
        print(json.dumps(measure(name, given.images, given.steps)))
        return
    rows = []
    for name, size in CASES.items():
        found: dict[str, list[dict[str, float]]] = {"returned": [], "kept": []}
        for _ in range(given.repeats):
            for side in found:
                command = [sys.executable, __file__, *sys.argv[1:], "--measure", name, side]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
                found[side].append(json.loads(done.stdout.splitlines()[-1]))
        medians = {
            side: {key: statistics.median(one[key] for one in measured) for key in measured[0]}
            for side, measured in found.items()
        }
        rows.append(
            {"training step": f"{name}, {given.images} x {size} px"}
            | {f"{side}, ms": f"{1e3 * median['seconds']:.0f}" for side, median in medians.items()}
            | {"times as fast": f"{medians['returned']['seconds'] / medians['kept']['seconds']:.2f}"}
            | {f"pages, {side}": f"{median['pages']:.0f}" for side, median in medians.items()}
            | {f"MiB, {side}": f"{median['MiB']:.0f}" for side, median in medians.items()}
        )
        print(", ".join(f"{key}: {value}" for key, value in rows[-1].items()), flush=True)
    write_table(given.csv, rows)


if __name__ == "__main__":
    main()
