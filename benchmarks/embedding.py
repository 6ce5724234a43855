"""Cost of reading and resizing images when a model embeds them, compared with the encoder.

    python benchmarks/embedding.py                   # 10,000 JPEG images of 256 x 192 pixels, MobileNetV2 at 128 px
    python benchmarks/embedding.py --images 500      # smaller

``EmbeddingModel.embed`` embeds generated image files. The encoder alone embeds the same number of random tensors in
the same batches. The cost of the data path is the ratio of the two times minus one. Each time is the fastest of
``--repeats``. On a machine that does other work, compare CPU times.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from measuring import write_table
from PIL import Image

from pyg_bgformer import EmbeddingModel
from pyg_bgformer.data.decoding import available_cpus
from pyg_bgformer.encoders import build_encoder


def write_images(folder: Path, count: int, width: int, height: int) -> list[Path]:
    chance = np.random.default_rng(0)
    paths = [folder / f"{number}.jpg" for number in range(count)]
    for path in paths:
        coarse = chance.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC).save(path, quality=85)
    return paths


def fastest(call: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Returns the smallest elapsed time and the smallest CPU time of a call, in seconds."""
    times = []
    for _ in range(repeats):
        started, cpu = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - started, time.process_time() - cpu))
    return min(wall for wall, _ in times), min(cpu for _, cpu in times)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--size", type=int, nargs=2, default=(256, 192), metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--csv", type=Path, help="file of the table")
    options = parser.parse_args()
    encoder = build_encoder("torchvision/mobilenet_v2").to(memory_format=torch.channels_last)
    model = EmbeddingModel(encoder, image_size=128, resize=146).eval()
    batch = torch.rand(options.batch_size, 3, 128, 128).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def encode() -> None:
        for first in range(0, options.images, options.batch_size):
            model(batch[: options.images - first])

    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), options.images, *options.size)
        model.embed(paths[:64])  # the first pass is slower
        alone = fastest(encode, options.repeats)
        whole = fastest(
            lambda: model.embed(paths, batch_size=options.batch_size, workers=options.workers),
            options.repeats,
        )
    print(f"{options.images} images of {options.size[0]} x {options.size[1]} px, {available_cpus()} CPUs")
    rows = []
    for name, (wall, cpu) in (("encoder alone", alone), ("from files", whole)):
        print(f"{name:14} {wall:7.2f} s, {options.images / wall:6.0f} images/s, {cpu:7.2f} s of CPU")
        times = {
            "s": f"{wall:.2f}",
            "s of CPU": f"{cpu:.2f}",
            "images a second": f"{options.images / wall:.0f}",
        }
        rows.append({f"{options.images:,} images": name} | times)
    write_table(options.csv, rows)
    cost, cpu_cost = (100 * (whole[i] / alone[i] - 1) for i in (0, 1))
    print(f"cost of the data path: {cost:.0f} % of elapsed time, {cpu_cost:.0f} % of CPU time")


if __name__ == "__main__":
    main()
