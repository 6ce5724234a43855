"""Where the time of training on photos goes: images per second of each part alone, and of all together.

    python benchmarks/throughput.py --device cuda --encoder torchvision/resnet50 --workers 16
    python benchmarks/throughput.py --device cpu --encoder timm/tf_efficientnet_lite0 --image-size 128

Photos are generated: 500 x 375 JPEG files. Measured are decoding alone, decoding with augmentation, the training
step alone on a batch that is there already, and the whole loop. The loop can be no faster than the slower of
decoding and the step; the last line says what share of that speed it reaches. With ``--csv`` rows are appended to a
file.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from measuring import Quiet
from PIL import Image
from torch import Tensor

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.data import ImageSamples
from pyg_bgformer.engine.loop import train_batch
from pyg_bgformer.engine.setup import Parts, build_dataset, build_parts

CLASSES, SAMPLES = 18, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--encoder", default="torchvision/resnet50")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=20, help="in a repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION", help="further settings of the run")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), classes=2 * CLASSES, photos=12)
        parts = build(arguments, folder)
        rates = measure(parts, arguments.repeats, arguments.batches)
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    case = f"{arguments.encoder.split('/')[-1]} {arguments.image_size} px {arguments.precision}"
    case += "".join(f" {option}" for option in arguments.set)
    print(
        f"{device}, {case}, {arguments.workers} workers, {torch.get_num_threads()} threads; images per second"
    )
    for name, rate in rates.items():
        print(f"{name:26}{rate:9.0f}")
    limit = min(rates["decoding"], rates["step"])
    print(f"the whole loop reaches {rates['whole loop'] / limit:.0%} of the slower of decoding and the step")
    if arguments.csv:
        new = not arguments.csv.exists()
        with arguments.csv.open("a", newline="") as file:
            if new:
                csv.writer(file).writerow(("device", "case", "workers", "part", "images_per_second"))
            rows = [(device, case, arguments.workers, name, f"{rate:.0f}") for name, rate in rates.items()]
            csv.writer(file).writerows(rows)


def write_photos(folder: Path, classes: int, photos: int) -> None:
    """Writes smooth random images, of the size in bytes that photographs have."""
    chance = np.random.default_rng(0)
    for number in range(classes):
        (folder / f"class{number:03}").mkdir()
        for photo in range(photos):
            coarse = Image.fromarray(chance.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
            pixels = (pixels + chance.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{number:03}" / f"{photo}.jpg", quality=85)


def build(arguments: argparse.Namespace, folder: str) -> Parts:
    """Returns a run of the plain method on the photos."""
    config = read_config(
        [
            *("--data.name", "folder", "--data.root", folder, "--data.workers", str(arguments.workers)),
            *(
                "--data.image_size",
                str(arguments.image_size),
                "--data.resize",
                str(arguments.image_size + 32),
            ),
            *("--method.name", "plain", "--encoder.name", arguments.encoder, "--encoder.weights", "null"),
            *("--encoder.feature_norm", "none", "--encoder.embedding_dim", "128"),
            *("--sampler.classes", str(CLASSES), "--sampler.samples", str(SAMPLES)),
            *("--sampler.batches_per_epoch", str(arguments.batches)),
            *("--train.device", arguments.device, "--train.precision", arguments.precision),
            *arguments.set,
        ]
    )
    return build_parts(config, build_dataset(config.data), Quiet())


def measure(parts: Parts, repeats: int, batches: int) -> dict[str, float]:
    """The images per second of each part, the best of the repeats; one repeat before them is not measured."""
    loader = parts.train_loader
    samples = loader.dataset
    assert isinstance(samples, ImageSamples)
    augmentation, device = samples.transform, parts.fabric.device
    parts.method.train()

    def train(images: Tensor, labels: Tensor) -> None:
        images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
        train_batch(parts.fabric, parts.state, parts.config.train, images, labels)
        parts.state.batch += 1

    def epoch(step: Callable[[Tensor, Tensor], None]) -> None:
        parts.sampler.start_at(0, 0)
        for images, labels, _ in loader:
            step(images, labels)

    images, labels, _ = next(iter(loader))
    sides: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[], None]]] = {
        "decoding": (lambda image: image[:, :1, :1], lambda: epoch(lambda *_: None)),
        "decoding and augmentation": (augmentation, lambda: epoch(lambda *_: None)),
        "step": (augmentation, lambda: [train(images, labels) for _ in range(batches)] and None),
        "whole loop": (augmentation, lambda: epoch(train)),
    }
    rates = {}
    for name, (transform, side) in sides.items():
        samples.transform = transform
        loader._iterator = None  # persistent workers keep the transform that they were started with
        seconds = []
        for _ in range(repeats + 1):
            started = time.perf_counter()
            with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
                side()
                if device.type == "cuda":
                    torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        rates[name] = batches * CLASSES * SAMPLES / min(seconds[1:])
    return rates


if __name__ == "__main__":
    main()
