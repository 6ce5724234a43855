"""Time and memory of the data path at the size of Stanford Online Products, without its images.

    python benchmarks/sop_scale.py                           # everything
    python benchmarks/sop_scale.py --lists FOLDER            # the official Ebay_train.txt and Ebay_test.txt
    python benchmarks/sop_scale.py --parts data sampler loading
    python benchmarks/sop_scale.py --images 12000            # smaller, same class sizes

A temporary folder gets the list files and a file for each of the 120,053 images. The lists are generated with the
official numbers of rows, products and kinds, unless ``--lists`` names the official lists. The files are hard links
to 16 small JPEGs, so that decoding takes little time and the path around it is measured. Times are elapsed and CPU
times while the files are in the system's cache. Memory is read from /proc on Linux. A process' own memory is the
memory that it shares with no other process. Workers are forks of the main process and share most of their memory.
"""

import argparse
import os
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from evaluation import compare_retrieval, embeddings
from PIL import Image
from torch.utils.data import DataLoader

from pyg_bgformer.data import (
    ChunkSampler,
    HierarchicalSampler,
    ImageCache,
    ImageDataset,
    ImageSamples,
    PKSampler,
    read_dataset,
    train_transform,
)

PARTS = ("data", "sampler", "loading", "evaluation")
HEADING = "image_id class_id super_class_id path"
KINDS = ("bicycle", "cabinet", "chair", "coffee_maker", "fan", "kettle")
KINDS += ("lamp", "mug", "sofa", "stapler", "table", "toaster")
# Images and products of the two lists
SIZES = {"Ebay_train.txt": (59_551, 11_318), "Ebay_test.txt": (60_502, 11_316)}
IMAGES = sum(images for images, _ in SIZES.values())


def timed(name: str, call: Callable[[], Any]) -> Any:
    """Prints the elapsed time and the CPU time of a call, and returns its result."""
    start, cpu_start = time.perf_counter(), time.process_time()
    value = call()
    cpu, seconds = time.process_time() - cpu_start, time.perf_counter() - start
    print(f"{name:46}{seconds:8.2f} s ({cpu:6.2f} s of CPU){memory()[0]:8.0f} MB resident", flush=True)
    return value


def make_lists(root: Path, images: int) -> None:
    """Writes lists of ``images`` rows in total, with the official shares of products and kinds."""
    first_image = first_class = 1
    for name, (rows, products) in SIZES.items():
        rows, products = rows * images // IMAGES, products * images // IMAGES
        more = np.random.default_rng(0).integers(products, size=rows - 2 * products)
        owners = np.sort(np.concatenate([np.arange(products).repeat(2), more]))
        lines = [HEADING]
        for number, product in enumerate(owners.tolist()):
            kind = product * len(KINDS) // products
            path = f"{KINDS[kind]}_final/{name[5:-4]}{product}_{number}.JPG"
            lines.append(f"{first_image + number} {first_class + product} {kind + 1} {path}")
        (root / name).write_text("\n".join(lines) + "\n")
        first_image, first_class = first_image + rows, first_class + products


def make_images(root: Path) -> None:
    """Makes a file for each row of the lists."""
    sources = []
    for number in range(16):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        sources.append(root / f".{number}.jpg")
        Image.fromarray(pixels).save(sources[-1])
    for kind in KINDS:
        (root / f"{kind}_final").mkdir()
    for name in SIZES:
        for number, line in enumerate((root / name).read_text().splitlines()[1:]):
            os.link(sources[number % len(sources)], root / line.split()[3])


def measure_data(root: Path) -> ImageDataset:
    """Measures reading and checking the dataset as at the start of a run, and its verification."""
    start, cpu_start = time.perf_counter(), time.process_time()
    dataset = timed("lists and folder read", partial(read_dataset, "sop", root))
    timed("faults looked for", dataset.faults)
    timed("manifest hash", lambda: dataset.manifest_hash)
    timed("sizes and times of all files", dataset.source_stamp)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    print(f"dataset ready: {seconds:.2f} s ({cpu:.2f} s of CPU)", flush=True)
    print(timed("verification without decoding", partial(dataset.verify, decode=False)), flush=True)
    return dataset


def measure_samplers(dataset: ImageDataset) -> None:
    """Measures the plan of an epoch for each sampler."""
    train = dataset.table.iloc[dataset.rows("train")]
    labels, kinds = train["label"].to_numpy(), train["super_class"].to_numpy()
    p, k = 90, 2
    makers = {
        "classes": partial(PKSampler, labels, classes=p, samples=k, seed=0),
        "hierarchical": partial(
            HierarchicalSampler,
            labels,
            super_class_labels=kinds,
            classes=p,
            samples=k,
            super_classes=2,
            seed=0,
        ),
        "chunks": partial(ChunkSampler, labels, classes=p, samples=k, seed=0),
    }
    for name, make in makers.items():
        batches = timed(f"sampler {name}: plan of an epoch", lambda make=make: make().plan(0))
        print(f"    {len(batches):,} batches of {len(batches[0])}")


def measure_loading(dataset: ImageDataset, cache: Path, workers: int) -> None:
    """Measures the cache of decoded images, and the memory during an epoch."""
    timed("cache made, once", partial(ImageCache.open_or_build, dataset, 32, cache, workers=0))
    images = timed("cache opened", partial(ImageCache.open_or_build, dataset, 32, cache))
    transform = train_transform(32, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    samples = ImageSamples(dataset, dataset.rows("train"), transform, images)
    sampler = PKSampler(samples.labels, classes=90, samples=2, seed=0)
    batches = iter(DataLoader(samples, batch_sampler=sampler, num_workers=workers))
    timed("first batch from the workers", partial(next, batches))
    timed("the next 20", lambda: [next(batches) for _ in range(20)])
    for name, process in [("main process", os.getpid()), *(("worker", w.pid) for w in batches._workers)]:
        resident, own = memory(process)
        print(f"{name}: {resident:.0f} MB resident, {own:.0f} MB of it its own")


def memory(process: int | str = "self") -> tuple[float, float]:
    """Returns the resident memory of a process in MB, and the part that it shares with no other process."""
    lines = [line.split() for line in Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()[1:]]
    sizes = {line[0]: float(line[1]) / 1024 for line in lines}
    return sizes["Rss:"], sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def measure_evaluation(images: int, dim: int) -> None:
    rows, labels = embeddings(images, dim, noise=1.2)
    print(f"retrieval among {images:,} embeddings of {dim} numbers")
    compare_retrieval(rows, labels, repeats=1)
    print(f"main process: {memory()[0]:.0f} MB resident")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lists", type=Path, help="folder with the official lists")
    parser.add_argument("--images", type=int, default=IMAGES, help="images in generated lists")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    print(f"imports: {memory()[0]:.0f} MB resident")
    if set(options.parts) - {"evaluation"}:
        with TemporaryDirectory() as folder:
            measure_data_path(Path(folder), options)
    if "evaluation" in options.parts:
        measure_evaluation(SIZES["Ebay_test.txt"][0] * options.images // IMAGES, options.dim)


def measure_data_path(folder: Path, options: argparse.Namespace) -> None:
    root = folder / "Stanford_Online_Products"
    root.mkdir()
    if options.lists:
        for name in SIZES:
            shutil.copy(options.lists / name, root)
    else:
        make_lists(root, options.images)
    timed("files made", partial(make_images, root))
    dataset = measure_data(root)
    if "sampler" in options.parts:
        measure_samplers(dataset)
    if "loading" in options.parts:
        measure_loading(dataset, folder, options.workers)


if __name__ == "__main__":
    main()
