"""Training on small images: augmentation one by one and in batches, and its share of a training step.

The times per image are: the data path alone (read from the cache, augment, collate), the training step of conv4
alone on a loaded batch, in float32 and in bfloat16, and both. They take turns in one process, which keeps freed
memory, as the commands that train do. CPU time is also printed, because it depends less on other work of the
machine.

The last lines show what bounds the step: the time that its products alone would take at the machine's rate. That
rate is measured on a large matrix product.

Run it from the repository's root: ``PYTHONPATH=. python benchmarks/small_images.py --dataset omniglot``
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from measuring import write_table
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode

from pyg_bgformer.data import ImageCache, ImageSamples, load_dataset, samples, train_transform
from pyg_bgformer.encoders import build_encoder
from pyg_bgformer.memory import keep_freed_memory

STEP = "conv4 step alone"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dataset", default="digits", help="digits or omniglot (default: digits)")
    parser.add_argument("--image-size", type=int, default=28)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--batches", type=int, default=5, help="batches in a repeat (default: 5)")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--csv", type=Path, help="file of the table")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments, Path(folder))


def measure(arguments: argparse.Namespace, folder: Path) -> None:
    dataset = load_dataset(arguments.dataset)
    cache = ImageCache.open_or_build(dataset, 512, folder, workers=0)
    encoder = build_encoder("conv4", weights=None, pooling="average", embedding_dim=64)
    encoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(encoder.parameters())
    transform = train_transform(
        arguments.image_size, crop_scale=(0.6, 1.0), flip=False, mean=encoder.mean, std=encoder.std
    )
    train = ImageSamples(dataset, dataset.rows("train"), transform, cache)
    draws = torch.randint(len(train), (arguments.batches, arguments.batch_size)).tolist()
    plan = [[(position, 7919 * position) for position in batch] for batch in draws]
    kept = next(iter(DataLoader(train, batch_sampler=plan)))[0]

    def train_on(images: torch.Tensor, precision: torch.dtype = torch.float32) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            embeddings = encoder(images)
        embeddings.float().square().sum().backward()
        optimizer.step()

    def epoch(largest: int, step: Callable[[torch.Tensor], None]) -> None:
        samples.LARGEST_BATCHED = largest
        for images, _, _ in DataLoader(train, batch_sampler=plan):
            step(images)

    sides: dict[str, Callable[[], None]] = {
        "augmentation, one by one": lambda: epoch(0, lambda _: None),
        "augmentation, in batches": lambda: epoch(arguments.image_size, lambda _: None),
        STEP: lambda: [train_on(kept) for _ in plan],
        "conv4 step, bfloat16": lambda: [train_on(kept, torch.bfloat16) for _ in plan],
        "whole loop, one by one": lambda: epoch(0, train_on),
        "whole loop, in batches": lambda: epoch(arguments.image_size, train_on),
        "whole loop, bfloat16": lambda: epoch(
            arguments.image_size, lambda images: train_on(images, torch.bfloat16)
        ),
    }
    cpu: dict[str, list[float]] = {name: [] for name in sides}
    elapsed: dict[str, list[float]] = {name: [] for name in sides}
    keep_freed_memory()
    for repeat in range(arguments.repeats + 1):
        for name, side in sides.items():
            wall, process = time.perf_counter(), time.process_time()
            side()
            if repeat:
                cpu[name].append(time.process_time() - process)
                elapsed[name].append(time.perf_counter() - wall)

    images = arguments.batches * arguments.batch_size
    print(f"{dataset.name}, {arguments.image_size} px, {arguments.threads} threads; microseconds per image")
    rows = []
    for name in sides:
        seconds, busy = (1e6 * statistics.median(times[name]) / images for times in (elapsed, cpu))
        print(f"{name:26}{seconds:9.0f} elapsed{busy:9.0f} CPU")
        rows.append({"microseconds an image": name, "elapsed": f"{seconds:.0f}", "of CPU": f"{busy:.0f}"})
    for name, part in (
        ("augmentation, in batches", "augmentation"),
        ("whole loop, in batches", "whole loop"),
        ("whole loop, bfloat16", "whole loop"),
    ):
        ratio = statistics.median(cpu[f"{part}, one by one"]) / statistics.median(cpu[name])
        print(f"{name}: {ratio:.2f} times as fast as one by one (CPU time)")
    with FlopCounterMode(display=False) as counter:
        train_on(kept)
    step = 1e6 * statistics.median(cpu[STEP]) / images
    for precision in (torch.float32, torch.bfloat16):
        rate = product_rate(precision)
        products = 1e6 * counter.get_total_flops() / len(kept) / rate
        print(
            f"products of a step in {precision}, at {rate / 1e9:.0f} GFLOP/s: {products:.0f} microseconds, "
            f"{products / step:.0%} of the float32 step"
        )
        name = f"products of a conv4 step alone, {str(precision).removeprefix('torch.')}"
        rows.append({"microseconds an image": name, "elapsed": "", "of CPU": f"{products:.0f}"})
    write_table(arguments.csv, rows)


def product_rate(precision: torch.dtype, size: int = 1024, repeats: int = 9) -> float:
    """Operations per second of CPU time of a large matrix product, the best of the repeats."""
    a, b = torch.rand(2, size, size).to(precision)
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        a @ b
        seconds.append(time.process_time() - started)
    return 2 * size**3 / min(seconds)


if __name__ == "__main__":
    main()
