"""Time and memory of one training step of each batch-graph module, compared with the step of the encoder.

    OMP_NUM_THREADS=2 python benchmarks/methods.py
    python benchmarks/methods.py --modules intra_batch dybgr --repeats 15 --encoder-images 16

A step is a forward and backward pass of the module in float32 on the CPU, with the batch size of its paper and 512
dimensions. The encoder is a ResNet-50 with random weights on images of 224 pixels. Its step is measured with
``--encoder-images`` images and scaled linearly to the batch of each module. A whole batch would take minutes on a
CPU and tens of gigabytes. All steps take turns in one process. The table has medians, ratios of medians, and the
peak of the memory that a step allocates. ``attention`` is the attention layer of Intra-Batch Connections without
the rest of its network.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from measuring import MIB, Step, Time, interleaved_times, peak_memory, training_step, write_table
from torch import Tensor, nn
from torchvision.models import resnet50

from pyg_bgformer import batch_graph
from pyg_bgformer.nn import (
    BatchFormerNetwork,
    BGFormer,
    DyBGRNetwork,
    GCANetwork,
    IntraBatchNetwork,
    MarginAttentionConv,
)
from pyg_bgformer.nn.ops import complete_edges

DIM = 512
CLASSES = 100
COLUMNS = ("module", "images", "path", "ms", "times the fastest", "% of a ResNet-50's step", "MiB")


class Module(NamedTuple):
    """A module's batch of classes x samples, and its training steps by path."""

    classes: int
    samples: int
    steps: dict[str, Step]

    @property
    def batch(self) -> int:
        """Number of nodes of the graph."""
        return self.classes * self.samples


def of_squares(out: Any) -> Tensor:
    """Returns a loss of all outputs with a gradient that is not constant."""
    if isinstance(out, Tensor):
        return out.square().sum()
    return torch.stack([of_squares(part) for part in out]).sum()


step = partial(training_step, loss=of_squares)


def inputs(classes: int, samples: int) -> tuple[Tensor, Tensor]:
    """Returns features and labels of a batch."""
    labels = torch.arange(classes).repeat_interleave(samples)
    return torch.randn(len(labels), DIM, generator=torch.Generator().manual_seed(0)), labels


def bgformer() -> Module:
    x, labels = inputs(45, 9)
    graph = batch_graph(x, labels, k=30)
    edges = (graph.visual_edge_index, graph.semantic_edge_index)
    paths = ("sparse", "dense", "message")
    return Module(45, 9, {path: step(BGFormer(DIM, backend=path), x, *edges) for path in paths})


def intra_batch() -> Module:
    x, _ = inputs(15, 6)
    network = partial(IntraBatchNetwork, DIM, CLASSES, num_layers=1, heads=8)
    steps = {
        "dense": step(network(backend="dense"), x),
        "message": step(network(backend="message"), x, complete_edges(len(x))),
    }
    return Module(15, 6, steps)


def attention() -> Module:
    x, _ = inputs(15, 6)
    steps = {
        "dense": step(MarginAttentionConv(DIM, 8, backend="dense"), x),
        "message": step(MarginAttentionConv(DIM, 8, backend="message"), x, complete_edges(len(x))),
    }
    return Module(15, 6, steps)


def batchformer() -> Module:
    x, _ = inputs(32, 4)
    return Module(32, 4, {"dense": step(BatchFormerNetwork(DIM), x)})


def dybgr() -> Module:
    x, labels = inputs(45, 9)
    edges = batch_graph(x, labels).semantic_edge_index
    return Module(
        45, 9, {p: step(DyBGRNetwork(DIM, backend=p), x, edges) for p in ("dense", "sparse", "message")}
    )


def gca_hng() -> Module:
    x, labels = inputs(27, 3)
    return Module(
        27, 3, {p: step(GCANetwork(DIM, CLASSES, backend=p), x, labels) for p in ("dense", "message")}
    )


MODULES: dict[str, Callable[[], Module]] = {
    "bgformer": bgformer,
    "intra_batch": intra_batch,
    "attention": attention,
    "batchformer": batchformer,
    "dybgr": dybgr,
    "gca_hng": gca_hng,
}


def encoder_step(num_images: int) -> Step:
    """Returns the training step of a ResNet-50 without classifier, without the gradient of the images."""
    encoder = resnet50(weights=None)
    encoder.fc = nn.Identity()
    images = torch.rand(num_images, 3, 224, 224, generator=torch.Generator().manual_seed(0))

    def step() -> None:
        of_squares(encoder(images)).backward()
        encoder.zero_grad(set_to_none=True)

    return step


def report(
    name: str, module: Module, times: dict[str, Time], image_seconds: float
) -> list[dict[str, object]]:
    """Prints a row for each path of a module, and returns them."""
    rows: list[dict[str, object]] = []
    encoder = image_seconds * module.batch
    fastest = min(times[f"{name} {path}"].median for path in module.steps)
    for path, run in module.steps.items():
        seconds, peak = times[f"{name} {path}"].median, peak_memory(run) / MIB
        print(
            f"{name:<12} {module.batch:>4} {path:<8} {seconds * 1e3:>10.1f} {seconds / fastest:>9.1f}x "
            f"{100 * seconds / encoder:>10.2f}% {peak:>10.1f}",
            flush=True,
        )
        measured = (
            f"{seconds * 1e3:.1f}",
            f"{seconds / fastest:.1f}",
            f"{100 * seconds / encoder:.2f}",
            f"{peak:.1f}",
        )
        rows.append(dict(zip(COLUMNS, (name, module.batch, path, *measured), strict=True)))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description="A training step of each batch-graph module alone.")
    parser.add_argument("--modules", nargs="+", choices=MODULES, default=list(MODULES))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--encoder-images", type=int, default=8, help="images in the encoder's batch (default: 8)"
    )
    parser.add_argument("--csv", type=Path, help="file of the table")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    modules = {name: MODULES[name]() for name in arguments.modules}
    steps = {f"{name} {path}": run for name, module in modules.items() for path, run in module.steps.items()}
    images = arguments.encoder_images
    times = interleaved_times(steps | {"encoder": encoder_step(images)}, arguments.repeats)

    seconds = times["encoder"].median
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {arguments.repeats} repeats")
    print(f"encoder: {images} images in {seconds * 1e3:.0f} ms, from here on scaled linearly to each batch")
    print(
        f"{'module':<12} {'B':>4} {'path':<8} {'median ms':>10} {'of fastest':>10} {'of encoder':>11} "
        f"{'peak MiB':>10}"
    )
    rows = [report(name, module, times, seconds / images) for name, module in modules.items()]
    write_table(arguments.csv, [row for some in rows for row in some])


if __name__ == "__main__":
    main()
