"""Memory and time of a training step that encodes its batch in parts (``train.encode_chunk``).

    PYTHONPATH=. python benchmarks/encode_chunk.py --device cuda     # ResNet-50 at 224 px, 405 images, 64 at a time
    PYTHONPATH=. python benchmarks/encode_chunk.py --device cpu      # ResNet-18 at 64 px, 96 images, 16 at a time

Three steps of BGFormer are measured: a batch as large as a part; the large batch in parts; the large batch as a
whole, if there is enough memory. They are measured one after another and do not take turns. The table has the time,
the peak memory, and ratios to the first step. On a GPU the memory is that of all tensors: weights, optimiser,
images and activations. On a CPU it is what a step allocates, without what was there before. The aim for the memory
of the large batch in parts is a ratio of 1.2.
"""

import argparse
import gc
from pathlib import Path

import torch
from measuring import MIB, Step, interleaved_times, peak_memory, write_table

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.engine.encoding import Encoding
from pyg_bgformer.engine.launch import build_fabric
from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.engine.optim import build_optimizer, build_schedule
from pyg_bgformer.engine.setup import build_method
from pyg_bgformer.engine.state import TrainState

SIZES = {"cuda": ("torchvision/resnet50", 224, 405, 64), "cpu": ("torchvision/resnet18", 64, 96, 16)}
"""Encoder, side of the images, images in a batch, and images in a part."""


def build_step(
    device: str, precision: str, encoder: str, image_size: int, images: int, chunk: int | None
) -> Step:
    """Returns a step of the engine on generated images."""
    config = read_config(
        [
            *("--method.name", "bgformer", "--method.k", "30", "--encoder.name", encoder),
            *("--encoder.frozen_batchnorm", "true", "--encoder.embedding_dim", "512"),
            *("--train.device", device, "--train.precision", precision),
        ]
    )
    torch.manual_seed(0)
    fabric = build_fabric(config.train)
    method = build_method(config, num_classes=100)
    _, optimizer = fabric.setup(method, build_optimizer(method, config.train, fused=device == "cuda"))
    state = TrainState(method.train(), optimizer, build_schedule(optimizer, config.train), batch=1)
    samples = next(samples for samples in (9, 8, 6, 5, 4, 3, 2) if images % samples == 0)
    batch = torch.rand(images, 3, image_size, image_size), torch.arange(images) // samples

    def step() -> None:
        on_device = (tensor.to(fabric.device) for tensor in batch)
        train_batch(fabric, state, config.train, *on_device, Encoding(chunk))
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def peak(step: Step, device: str) -> float:
    """Returns the peak memory in MiB: of all tensors on a GPU, of those that the step allocates on a CPU."""
    if device == "cpu":
        return peak_memory(step) / MIB
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / MIB


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--images", type=int, help="images in the large batch")
    parser.add_argument("--chunk", type=int, help="images in a part")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--csv", type=Path, help="file of the table")
    given = parser.parse_args()
    encoder, image_size, images, chunk = SIZES[given.device]
    images, chunk = given.images or images, given.chunk or chunk
    cases = {
        f"{chunk} images": (chunk, None),
        f"{images} images, encode_chunk {chunk}": (images, chunk),
        f"{images} images": (images, None),
    }
    print(f"{encoder} at {image_size} px, {given.precision}, {given.device}, torch {torch.__version__}")
    first: tuple[float, float] | None = None
    rows = []
    for name, (count, piece) in cases.items():
        try:
            step = build_step(given.device, given.precision, encoder, image_size, count, piece)
            seconds = interleaved_times({name: step}, given.repeats)[name].median / count
            memory = peak(step, given.device)
        except torch.cuda.OutOfMemoryError:
            print(f"{name:32} out of memory")
            continue
        first = first or (memory, seconds)
        more, slower = memory / first[0], seconds / first[1]
        print(
            f"{name:32}{memory:9.0f} MiB, {more:5.2f} x   {1e3 * seconds:8.2f} ms an image, {slower:5.2f} x"
        )
        row = {"batch": name, "peak memory, MiB": f"{memory:.0f}", "relative memory": f"{more:.2f}"}
        rows.append(row | {"ms an image": f"{1e3 * seconds:.2f}", "relative time": f"{slower:.2f}"})
        del step
        gc.collect()
    write_table(given.csv, rows)


if __name__ == "__main__":
    main()
