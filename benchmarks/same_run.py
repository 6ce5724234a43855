"""Whether a run on several processes trains the weights of a run on one process.

    python benchmarks/same_run.py                # all methods, their recipes for digits, 2 epochs, 2 processes
    python benchmarks/same_run.py --devices 3

Each method is trained on one process and on several, in float64 and in float32. In float32 a sum in another order
is rounded differently, and training makes small differences larger. So each method is also trained on one process
with every weight moved to a neighbouring number, or left, before the start. The table has the largest difference of
a weight from the run on one process.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from measuring import Quiet, compute_in, write_table
from torch import Tensor, nn

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loop import fit
from pyg_bgformer.engine.setup import build_dataset, build_parts
from pyg_bgformer.methods import METHODS

RECIPES = Path(__file__).parents[1] / "experiments" / "recipes" / "digits"

Weights = dict[str, dict[str, Tensor]]
"""The weights of each method by their names."""


def move_by_one_unit(method: nn.Module) -> None:
    """Moves each weight up or down by one rounding unit, or leaves it, at random."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in method.parameters():
            direction = torch.randint(-1, 2, weight.shape, generator=generator)
            towards = weight.where(direction == 0, direction * torch.inf)
            weight.copy_(torch.nextafter(weight, towards))


def train(devices: int, dtype: torch.dtype, moved: bool, epochs: int) -> Weights:
    """Trains all methods on this many processes, of which this is one, and returns their weights."""
    weights, fabric = {}, None
    for name in METHODS.parts:
        config = read_config(
            [
                *("--config", str(RECIPES / f"{name}.yaml"), "--train.epochs", str(epochs)),
                *("--encoder.frozen_batchnorm", "true", "--data.workers", "0"),
                *("--train.device", "cpu", "--train.devices", str(devices)),
            ],
            say=lambda _: None,
        )
        if fabric is None:
            fabric = build_fabric(config.train)
            fabric.launch()
        torch.manual_seed(config.seed)
        parts = build_parts(config, build_dataset(config.data), Quiet(), fabric)
        compute_in(parts, dtype)
        if moved:
            move_by_one_unit(parts.method)
        fit(parts)
        weights[name] = {key: weight.detach() for key, weight in parts.method.named_parameters()}
    return weights


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=2, metavar="N", help="processes (default 2)")
    parser.add_argument("--epochs", type=int, default=2, metavar="N", help="epochs (default 2)")
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the table to this file, too")
    parser.add_argument("--dtype", choices=("float64", "float32"), help=argparse.SUPPRESS)
    parser.add_argument("--moved", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--weights", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.weights:  # one of the runs
        weights = train(given.devices, getattr(torch, given.dtype), given.moved, given.epochs)
        if torch.distributed.is_initialized() and torch.distributed.get_rank() > 0:
            return
        torch.save(weights, given.weights)
        return

    def run(devices: int, dtype: str, *more: str) -> Weights:
        """Trains in processes of their own."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "weights.pt"
            options = ["--devices", str(devices), "--dtype", dtype, "--epochs", str(given.epochs)]
            command = [sys.executable, "-W", "ignore", __file__, *options, *more, "--weights", str(file)]
            subprocess.run(command, check=True)
            return torch.load(file)

    exact, rounded = run(1, "float64"), run(1, "float32")
    others = {
        f"float64, {given.devices} processes": (run(given.devices, "float64"), exact),
        f"float32, {given.devices} processes": (run(given.devices, "float32"), rounded),
        "float32, one process, weights moved by one unit": (run(1, "float32", "--moved"), rounded),
    }
    rows = []
    for method in exact:
        row: dict[str, object] = {"method": method}
        for name, (weights, alone) in others.items():
            keys = weights[method]
            difference = max(float((keys[key] - alone[method][key]).abs().max()) for key in keys)
            row[name] = f"{difference:.0e}"
        rows.append(row)
        print(*(f"{name}: {value}" for name, value in row.items()), sep="; ", flush=True)
    write_table(given.csv, rows)


if __name__ == "__main__":
    main()
