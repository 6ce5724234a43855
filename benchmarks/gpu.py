"""All measurements on one NVIDIA GPU, in at most eight minutes and without a network.

    python benchmarks/gpu.py                            # on a GPU
    python benchmarks/gpu.py --device cpu --small       # minutes on a CPU, to check that the script runs
    python benchmarks/gpu.py --parts layers backends    # some parts

The parts are: the tests that need a GPU; layers compared with TransformerConv and dense attention; the backends at
sizes where the fastest one changes; training steps of every method in float32, bfloat16 and float16, compared with
a plain loop as in public code; the evaluation of 60,502 embeddings; and compiled training steps. What is compared
takes turns in one process. Each row is printed and written to ``benchmarks/results/<device>.csv`` at once, so an
early end loses nothing. With ``--small`` the file is in the system's temporary folder. After ``--budget`` seconds
no other part starts. The exit code is 1 if the tests failed or took more than two minutes.

A machine without a network needs wheels of a few more packages than torch, torchvision and torch-geometric. Make
them on another machine with ``pip wheel --wheel-dir wheels . pytest``, and install them with ``pip install
--no-index --find-links wheels pyg-bgformer pytest``.
"""

import argparse
import csv
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import torch
import torch.nn.functional as F
from evaluation import embeddings
from layers import DEFAULT_SIZES, Size, contestants
from measuring import MIB, Step, interleaved_times, peak_memory
from torch import Tensor, nn

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.setup import build_method, compile_networks
from pyg_bgformer.engine.state import TrainState
from pyg_bgformer.evaluation import clustering, retrieval

ROOT = Path(__file__).parents[1]
METHODS = ("plain", "bgformer", "batchformer", "dybgr", "intra_batch", "gca_hng")
LAYER_SIZES = [*DEFAULT_SIZES, Size(900, 30, 384, 6)]
BACKEND_SIZES = [Size(nodes, k, 512, 8) for nodes in (2048, 8192, 16_384) for k in (10, 30)]
CHOICES = ("SSAConv auto", "SSAConv sparse", "SSAConv dense")
PARTS = ("tests", "layers", "backends", "training", "evaluation", "compiled")
ENCODERS = {"torchvision/resnet50": 224, "timm/vit_small_patch16_224": 224}
CLASSES, SAMPLES = 18, 5
TEST_SECONDS = 120


COLUMNS = ("part", "case", "contestant", "milliseconds", "ratio", "of", "images_per_second", "peak_mib")


class Table:
    """A table whose rows are printed and written at once. Rows of other parts stay in the file."""

    def __init__(self, path: Path, budget: float, parts: Sequence[str]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        before = list(csv.reader(path.open(encoding="utf-8")))[1:] if path.exists() else []
        self.file = path.open("w", newline="", encoding="utf-8")
        self.writer = csv.writer(self.file)
        self.writer.writerows([COLUMNS, *(row for row in before if row[0] not in parts)])
        self.started, self.budget = time.perf_counter(), budget

    @property
    def over(self) -> bool:
        """Whether the budget of time is used up."""
        return time.perf_counter() - self.started > self.budget

    def add(
        self,
        part: str,
        case: str,
        times: dict[str, float],
        of: str,
        images: int = 0,
        peaks: dict[str, float] | None = None,
    ) -> None:
        """Writes one row for each contestant, with the ratio of its time to that of ``of``."""
        for name, seconds in times.items():
            rate = f"{images / seconds:.1f}" if images else ""
            peak = f"{peaks[name]:.1f}" if peaks else ""
            self.writer.writerow(
                (part, case, name, f"{1e3 * seconds:.2f}", f"{seconds / times[of]:.3f}", of, rate, peak)
            )
            notes = [f"{rate} images/s"] * bool(rate) + [f"{peak} MiB"] * bool(peak)
            ratio = f"{seconds / times[of]:.2f} x {of}"
            print(
                f"{part:11}{case:26}{name:22}{1e3 * seconds:10.1f} ms  {ratio:22}{', '.join(notes)}",
                flush=True,
            )
        self.file.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--small", action="store_true", help="small sizes, to check that everything runs")
    parser.add_argument("--budget", type=float, default=420.0, help="seconds after which no part starts")
    parser.add_argument(
        "--repeats", type=int, help="repeats of each measurement (default: 10, or 1 with --small)"
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}"
    )
    arguments = parser.parse_args()
    device, small = torch.device(arguments.device), arguments.small
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("found no CUDA device; use --device cpu --small to see that the script runs")
    repeats = arguments.repeats or (1 if small else 10)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu {platform.machine()}"
    print(f"{name}, torch {torch.__version__}, {torch.get_num_threads()} threads, {repeats} repeats")
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower()) + ("-small" if small else "")
    folder = Path(tempfile.gettempdir()) if small else ROOT / "benchmarks" / "results"
    table = Table(folder / f"{stem}.csv", arguments.budget, arguments.parts)
    torch.manual_seed(0)

    parts: dict[str, Callable[[], bool | None]] = {
        "tests": lambda: tests_passed(device),
        "layers": lambda: measure_layers(
            table, device, [Size(100, 10, 64, 4)] if small else LAYER_SIZES, repeats
        ),
        "backends": lambda: measure_backends(
            table, device, [Size(300, 10, 64, 4)] if small else BACKEND_SIZES, repeats
        ),
        "training": lambda: measure_training(table, device, {"conv4": 28} if small else ENCODERS, repeats),
        "evaluation": lambda: measure_evaluation(table, device, 2_000 if small else 60_502),
        "compiled": lambda: measure_compiled(table, device, {} if small else ENCODERS, repeats),
    }
    failed = False
    for part in PARTS:
        if part in arguments.parts and not table.over:
            failed |= parts[part]() is False
    print(f"{time.perf_counter() - table.started:.0f} s; {table.file.name}")
    return int(failed)


def tests_passed(device: torch.device) -> bool:
    """Runs the tests that need a GPU, and returns whether all of them passed."""
    if device.type == "cpu":
        print("the tests that need a GPU are left out on a CPU")
        return True
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu and not slow", "tests"]
    try:
        code = subprocess.run(tests, cwd=ROOT, check=False, timeout=TEST_SECONDS).returncode
    except subprocess.TimeoutExpired:
        print(f"the tests took more than {TEST_SECONDS} s", flush=True)
        return False
    print(f"the tests ended with exit code {code}", flush=True)
    return code == 0


def measured(
    steps: dict[str, Step], device: torch.device, repeats: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the median time in seconds and the peak memory in MiB of each step."""

    def waited(step: Step) -> None:
        step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    times = interleaved_times({name: partial(waited, step) for name, step in steps.items()}, repeats)
    return {name: time.median for name, time in times.items()}, {
        name: peak(step, device) for name, step in steps.items()
    }


def peak(step: Step, device: torch.device) -> float:
    """Returns the peak of the memory that a step allocates, in MiB, without the memory allocated before."""
    if device.type == "cpu":
        return peak_memory(step) / MIB
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    return (torch.cuda.max_memory_allocated(device) - before) / MIB


def measure_layers(table: Table, device: torch.device, sizes: list[Size], repeats: int) -> None:
    for size in sizes:
        if not table.over:
            times, peaks = measured(contestants(size, device), device, repeats)
            table.add("layers", f"{tuple(size)}", times, "SSAConv auto", peaks=peaks)


def measure_backends(table: Table, device: torch.device, sizes: list[Size], repeats: int) -> None:
    """Measures the two paths that ``backend="auto"`` chooses from, at sizes where the choice could change."""
    for size in sizes:
        if not table.over:
            steps = {name: step for name, step in contestants(size, device).items() if name in CHOICES}
            times, peaks = measured(steps, device, repeats)
            table.add("backends", f"{tuple(size)}", times, "SSAConv auto", peaks=peaks)


def images_and_labels(device: torch.device, image_size: int) -> tuple[Tensor, Tensor]:
    """Returns a batch in the memory of the CPU, pinned if there is a GPU."""
    images = torch.rand(CLASSES * SAMPLES, 3, image_size, image_size)
    labels = torch.arange(CLASSES).repeat_interleave(SAMPLES)
    return (images.pin_memory(), labels.pin_memory()) if device.type == "cuda" else (images, labels)


def our_step(
    method_name: str,
    device: torch.device,
    encoder: str,
    batch: tuple[Tensor, Tensor],
    precision: str,
    *,
    compiled: bool = False,
) -> Step:
    """Returns a step of the engine: transfer, updates of the method, optimiser."""
    config = read_config(
        [
            *("--config", str(ROOT / "experiments" / "recipes" / "digits" / f"{method_name}.yaml")),
            *("--encoder.name", encoder, "--encoder.weights", "null", "--encoder.embedding_dim", "512"),
            *("--train.device", device.type, "--train.precision", precision),
        ]
    )
    fabric = build_fabric(config.train)
    method = build_method(config, num_classes=100)
    # as in the engine: gradients are clipped, which does not work with a fused optimiser and a scaler
    fused = device.type == "cuda" and precision != "16-mixed"
    optimizer = build_optimizer(method, config.train, fused=fused)
    _, optimizer = fabric.setup(method, optimizer)
    if compiled:
        compile_networks(method, fabric.device)
    method.train()
    state = TrainState(method, optimizer, build_schedule(optimizer, config.train), batch=1)

    def step() -> None:
        images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
        train_batch(fabric, state, config.train, images, labels)

    return step


def straightforward_step(device: torch.device, encoder: str, batch: tuple[Tensor, Tensor]) -> Step:
    """Returns a step as in public code: batch to the device, forward, loss of all pairs, backward."""
    config = read_config(
        ["--encoder.name", encoder, "--encoder.weights", "null", "--encoder.embedding_dim", "512"]
    )
    model: nn.Module = build_method(config, num_classes=100).encoder.to(
        device, memory_format=torch.contiguous_format
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    pageable = tuple(tensor.clone() for tensor in batch)

    def step() -> None:
        images, labels = (tensor.to(device) for tensor in pageable)
        out = F.normalize(model(images), dim=1)
        similarity = out @ out.T
        same = labels[:, None] == labels[None, :]
        loss = (1 - similarity[same]).mean() + F.relu(similarity[~same] - 0.5).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()

    return step


def measure_training(table: Table, device: torch.device, encoders: dict[str, int], repeats: int) -> None:
    """Measures training steps of all methods, and in float32 also the straightforward loop."""
    precisions = ("32-true", "bf16-mixed", "16-mixed") if device.type == "cuda" else ("32-true", "bf16-mixed")
    for precision, (encoder, image_size) in product(precisions, encoders.items()):
        if table.over:
            return
        batch = images_and_labels(device, image_size)
        steps = {name: our_step(name, device, encoder, batch, precision) for name in METHODS}
        if precision == "32-true":
            steps["straightforward loop"] = straightforward_step(device, encoder, batch)
        times, peaks = measured(steps, device, repeats)
        case = f"{encoder.split('/')[-1][:14]} {precision}"
        table.add("training", case, times, "plain", CLASSES * SAMPLES, peaks)


def measure_compiled(table: Table, device: torch.device, encoders: dict[str, int], repeats: int) -> None:
    """Measures compiled and other steps in bfloat16. The first step, which compiles, is not measured."""
    for (encoder, image_size), method_name in product(encoders.items(), ("plain", "bgformer")):
        if table.over:
            return
        batch = images_and_labels(device, image_size)
        steps = {
            method_name: our_step(method_name, device, encoder, batch, "bf16-mixed"),
            f"{method_name}, compiled": our_step(
                method_name, device, encoder, batch, "bf16-mixed", compiled=True
            ),
        }
        times, peaks = measured(steps, device, repeats)
        table.add("compiled", encoder.split("/")[-1][:14], times, method_name, CLASSES * SAMPLES, peaks)


def measure_evaluation(table: Table, device: torch.device, items: int) -> None:
    """Measures retrieval and k-means of embeddings on the device, and the bare product of all similarities."""
    if table.over:
        return
    rows, labels = embeddings(items, 512, 1.2)
    rows, labels = rows.to(device), labels.to(device)
    steps: dict[str, Callable[[], object]] = {
        "bare product": lambda: [part @ rows.T for part in rows.split(2**25 // items)][-1],
        "retrieval": lambda: retrieval(rows, labels),
        "clustering": lambda: clustering(rows, labels),
    }
    times, peaks = measured(steps, device, 1)
    table.add("evaluation", f"{items} x 512", times, "bare product", peaks=peaks)


if __name__ == "__main__":
    sys.exit(main())
