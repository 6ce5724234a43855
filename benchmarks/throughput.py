"""Images per second of each part of training on photos, and of all parts together.

    python benchmarks/throughput.py --device cuda --encoder torchvision/resnet50 --workers 16
    python benchmarks/throughput.py --device cpu --encoder timm/tf_efficientnet_lite0 --image-size 128

The photos are generated JPEG files of 500 x 375 pixels. The parts are decoding, decoding with augmentation, the
training step on a loaded batch, and the whole loop. With ``data.augment_on: device`` they are decoding and
cutting, the rest of the augmentation on a loaded batch, and the whole loop. The loop cannot be faster than
decoding or the step. The last lines say which share of this speed it reaches. Several epochs follow each other,
and the first one is not measured. ``--csv`` appends the rows to a file.
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path

import numpy as np
import torch
from measuring import Quiet
from PIL import Image
from torch import Tensor

from pyg_bgformer.config.recipe import read_config
from pyg_bgformer.data import ImageSamples
from pyg_bgformer.data.cuts import Cuts
from pyg_bgformer.engine.loaders import Upload
from pyg_bgformer.engine.loop import fit, train_batch
from pyg_bgformer.engine.readings import Readings
from pyg_bgformer.engine.setup import Parts, build_dataset, build_parts

CLASSES, SAMPLES = 18, 5
LOOPS = ("whole loop", "whole loop, augmented on the device")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--encoder", default="torchvision/resnet50")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=20, help="batches in a repeat (default: 20)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", nargs="*", default=[], metavar="OPTION", help="other settings of the run")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_photos(Path(folder), classes=2 * CLASSES, photos=12)
        rates = measure(arguments, folder)
    device = torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu"
    case = f"{arguments.encoder.split('/')[-1]} {arguments.image_size} px {arguments.precision}"
    case += "".join(f" {option}" for option in arguments.set)
    print(
        f"{device}, {case}, {arguments.workers} workers, {torch.get_num_threads()} threads; images per second"
    )
    for name, rate in rates.items():
        print(f"{name:36}{rate:9.0f}")
    limit = min(rates["decoding"], rates["step"])
    for name in LOOPS:
        print(f"{name}: {rates[name] / limit:.0%} of the slower of decoding and the step")
    if arguments.csv:
        new = not arguments.csv.exists()
        with arguments.csv.open("a", newline="") as file:
            if new:
                csv.writer(file).writerow(("device", "case", "workers", "part", "images_per_second"))
            rows = [(device, case, arguments.workers, name, f"{rate:.0f}") for name, rate in rates.items()]
            csv.writer(file).writerows(rows)


def write_photos(folder: Path, classes: int, photos: int) -> None:
    """Writes smooth random images with about the file size of photos."""
    chance = np.random.default_rng(0)
    for number in range(classes):
        (folder / f"class{number:03}").mkdir()
        for photo in range(photos):
            coarse = Image.fromarray(chance.integers(0, 256, (24, 32, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC)).astype(np.int16)
            pixels = (pixels + chance.integers(-12, 13, pixels.shape)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"class{number:03}" / f"{photo}.jpg", quality=85)


def build(arguments: argparse.Namespace, folder: str, augment_on: str) -> Parts:
    """Returns a run of the plain method on the photos, with an epoch for each repeat and one before them."""
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
            *("--train.epochs", str(arguments.repeats + 1), "--data.augment_on", augment_on),
            *arguments.set,
        ]
    )
    return build_parts(config, build_dataset(config.data), Quiet())


def measure(arguments: argparse.Namespace, folder: str) -> dict[str, float]:
    """Returns the images per second of each part, the best of the repeats."""
    rates = {}
    for augment_on, loop in zip(("workers", "device"), LOOPS, strict=True):
        parts = build(arguments, folder, augment_on)
        upload = Upload(parts.fabric.device)
        images, labels, _ = upload(next(iter(parts.train_loader)))
        if augment_on == "workers":
            samples = parts.train_loader.dataset
            assert isinstance(samples, ImageSamples)
            whole, samples.transform = samples.transform, lambda image: image[:, :1, :1]
            rates["decoding"] = rate(loaded(parts), arguments)
            samples.transform = whole
            rates["decoding and augmentation"] = rate(loaded(parts), arguments)
            rates["step"] = rate(steps(parts, images, labels), arguments)
        else:
            assert isinstance(images, Cuts)
            normalised = parts.method.encoder.normalised
            rates["decoding and cutting"] = rate(loaded(parts), arguments)
            rates["augmentation on the device"] = rate(
                (images.images(normalised) for _ in count()), arguments
            )
        parts.train_loader._iterator = None
        parts.state.epoch = parts.state.batch = 0
        fit(parts)
        epochs = [row["seconds"] for row in parts.state.history[1:]]
        rates[loop] = arguments.batches * CLASSES * SAMPLES / min(epochs)
    return rates


def loaded(parts: Parts) -> Iterator[object]:
    """Loads the batches of all epochs."""
    parts.train_loader._iterator = None  # persistent workers would keep the old transform
    parts.sampler.start_at(0, 0, until=parts.config.train.epochs)
    yield from parts.train_loader


def steps(parts: Parts, images: Tensor | Cuts, labels: Tensor) -> Iterator[object]:
    """Trains on a batch again and again; as in the loop, scalars are read when the next step is under way."""
    parts.method.train()
    parts.state.batch = 1  # the first batch of an epoch would also be measured for insight
    earlier: Readings | None = None
    while True:
        readings, _ = train_batch(parts.fabric, parts.state, parts.config.train, images, labels)
        if earlier is not None:
            earlier.values()
        earlier = readings
        yield readings


def rate(batches: Iterator[object], arguments: argparse.Namespace) -> float:
    """The images per second of so many batches, the best of the repeats."""
    seconds = []
    for _ in range(arguments.repeats + 1):
        started = time.perf_counter()
        for _ in islice(batches, arguments.batches):
            pass
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return float(arguments.batches * CLASSES * SAMPLES / min(seconds[1:]))


if __name__ == "__main__":
    main()
